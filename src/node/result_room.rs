//! Lets queries with large results begin one after the other, so that those that run together find room for their rows.
//!
//! Rows of a query that runs cannot be evicted, and a query that finds no room in the result store fails. Without this,
//! sixty large answers at once would each come half way and most of them fail. So a query reserves what its result may
//! take, by the estimate of its plan, before it reads a row; where that is not free it waits, in the order of arrival.
//!
//! Who waits holds no rows, and who holds room never waits for any: so those that wait never wait for each other. A
//! reservation is an estimate: the store itself is the bound, here is only the order. A query without an estimate (an
//! aggregate, a join) reserves nothing, and one that waited for half of its time goes ahead and takes its chance.

use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The unit of reservations.
const UNIT_BYTES: u64 = 1024;
/// What a dictionary key takes, and its share of the values beside it.
const DICTIONARY_BYTES: u64 = 6;
/// A text without dictionary, as a guess.
const TEXT_BYTES: u64 = 24;

/// The part of the result store that is not reserved.
pub struct ResultRoom {
    units: Semaphore,
    units_max: u32,
}

impl ResultRoom {
    /// As much room as the store has.
    pub fn new(result_bytes_max: u64) -> ResultRoom {
        let units_max = u32::try_from(result_bytes_max / UNIT_BYTES).unwrap_or(u32::MAX);
        ResultRoom { units: Semaphore::new(units_max as usize), units_max }
    }

    /// What is reserved now.
    pub fn reserved_bytes(&self) -> u64 {
        (self.units_max as usize).saturating_sub(self.units.available_permits()) as u64 * UNIT_BYTES
    }

    /// Waits until there is room for so many rows, for at most half of the time left. What is larger than all room waits
    /// until it is alone. The room is free again when what is returned is dropped.
    pub async fn wait_for(
        &self,
        rows: Option<u64>,
        schema: &SchemaRef,
        time_left: Duration,
    ) -> Option<SemaphorePermit<'_>> {
        let row_bytes: u64 = schema.fields().iter().map(|field| value_bytes(field.data_type())).sum();
        let units = rows?.saturating_mul(row_bytes) / UNIT_BYTES;
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.units_max);
        let room = tokio::time::timeout(time_left / 2, self.units.acquire_many(units)).await;
        // The semaphore is never closed.
        room.ok().and_then(Result::ok)
    }
}

fn value_bytes(kind: &DataType) -> u64 {
    match kind {
        DataType::Dictionary(..) => DICTIONARY_BYTES,
        kind => kind.primitive_width().map_or(TEXT_BYTES, |bytes| bytes as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use futures::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn rooms_are_given_in_order_and_back() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true)]));
        let room = ResultRoom::new(8 * 1000 * UNIT_BYTES);
        let ask = |kilo_rows: u64| room.wait_for(Some(kilo_rows * UNIT_BYTES), &schema, HOUR);
        let first = ask(600).await.expect("there is room");
        let mut second = Box::pin(ask(600));
        assert!(second.as_mut().now_or_never().is_none(), "no room beside the first");
        let mut third = Box::pin(ask(100));
        assert!(third.as_mut().now_or_never().is_none(), "it came after the second");
        assert!(room.wait_for(None, &schema, HOUR).await.is_none(), "who cannot say does not wait");
        drop(first);
        let second = second.await.expect("its turn");
        let _third = third.await.expect("beside the second");
        let mut huge = Box::pin(ask(u64::MAX / UNIT_BYTES));
        assert!(huge.as_mut().now_or_never().is_none(), "not alone yet");
        drop((second, _third));
        assert!(huge.await.is_some(), "alone it may try");
    }

    #[tokio::test]
    async fn who_waited_for_half_of_its_time_goes_ahead() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true)]));
        let room = ResultRoom::new(UNIT_BYTES);
        let all = room.wait_for(Some(UNIT_BYTES), &schema, HOUR).await;
        assert!(all.is_some());
        assert!(room.wait_for(Some(UNIT_BYTES), &schema, Duration::from_millis(2)).await.is_none());
    }
}
