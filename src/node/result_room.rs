//! Lets queries with large results begin one after the other, so that those that run together find room for their rows.
//!
//! Rows of a query that runs cannot be evicted, and a query that finds no room in the result store fails. Without this,
//! sixty large answers at once would each come half way and most of them fail. So a query reserves what its result may
//! take, by the estimate of its plan, before it reads a row; where that is not free it waits.
//!
//! Room goes to the flow that holds least of it, inside a flow by arrival. Where that one's query does not fit yet, those
//! of other flows may pass it as long as their flow keeps within its equal part of all room: a giant does not hold up the
//! small queries of others, and they do not take the room that it waits for.
//!
//! Who waits holds no rows, and who holds room never waits for any: so those that wait never wait for each other. A
//! reservation is an estimate: the store itself is the bound, here is only the order. A query without an estimate (an
//! aggregate, a join) reserves nothing, and one that waited for half of its time goes ahead and takes its chance. So
//! nobody waits for ever, and there are never more that wait than queries that run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use tokio::sync::oneshot;

use crate::engine::share::Flow;

/// What a dictionary key takes, and its share of the values beside it.
const DICTIONARY_BYTES: u64 = 6;
/// A text without dictionary, as a guess.
const TEXT_BYTES: u64 = 24;

/// The part of the result store that is not reserved.
pub struct ResultRoom(Arc<Room>);

struct Room {
    bytes_max: u64,
    state: Mutex<State>,
}

struct State {
    free: u64,
    /// What each flow has reserved; none that has nothing.
    held: BTreeMap<Flow, u64>,
    /// In order of arrival.
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    flow: Flow,
    bytes: u64,
    tell: oneshot::Sender<Reserved>,
}

/// Room that is free again when this goes.
pub struct Reserved {
    room: Arc<Room>,
    flow: Flow,
    bytes: u64,
}

impl ResultRoom {
    /// As much room as the store has.
    pub fn new(result_bytes_max: u64) -> ResultRoom {
        let state = State { free: result_bytes_max, held: BTreeMap::new(), waiting: VecDeque::new() };
        ResultRoom(Arc::new(Room { bytes_max: result_bytes_max, state: Mutex::new(state) }))
    }

    /// What is reserved now.
    pub fn reserved_bytes(&self) -> u64 {
        self.0.state().held.values().sum()
    }

    /// Waits until there is room for so many rows, for at most half of the time left; none if there was none by then, or
    /// nobody knows how many rows there will be. What is larger than all room waits until it is alone.
    pub async fn wait_for(
        &self,
        rows: Option<u64>,
        schema: &SchemaRef,
        flow: &Flow,
        time_left: Duration,
    ) -> Option<Reserved> {
        let row_bytes: u64 = schema.fields().iter().map(|field| value_bytes(field.data_type())).sum();
        let bytes = rows?.saturating_mul(row_bytes).min(self.0.bytes_max);
        let (tell, told) = oneshot::channel();
        self.0.state().waiting.push_back(Waiter { flow: flow.clone(), bytes, tell });
        // Who gives up may have been in the way of others.
        let _serves_the_others = ServeOnDrop(Arc::clone(&self.0));
        self.0.serve();
        // The other end goes only with its waiter, which is told first.
        tokio::time::timeout(time_left / 2, told).await.ok().and_then(Result::ok)
    }
}

impl Room {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives room to whoever may have some now.
    fn serve(self: &Arc<Self>) {
        loop {
            let Some(Waiter { flow, bytes, tell }) = self.state().take_next(self.bytes_max) else { return };
            // Somebody who has gone in this moment drops it, which gives it back.
            let _ = tell.send(Reserved { room: Arc::clone(self), flow, bytes });
        }
    }
}

impl State {
    /// Takes out the one that is next and fits, and books its room.
    fn take_next(&mut self, bytes_max: u64) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.tell.is_closed());
        let mut firsts: Vec<usize> = Vec::new();
        for (at, waiter) in self.waiting.iter().enumerate() {
            if !firsts.iter().any(|first| self.waiting[*first].flow == waiter.flow) {
                firsts.push(at);
            }
        }
        let held = |at: usize| self.held.get(&self.waiting[at].flow).copied().unwrap_or(0);
        // Stable: of flows that hold alike, the one that waits longest.
        firsts.sort_by_key(|at| held(*at));
        let idle = self.held.keys().filter(|flow| self.waiting.iter().all(|waiter| waiter.flow != **flow));
        let part = bytes_max / (firsts.len() + idle.count()).max(1) as u64;
        let fits = |place: usize, at: usize| {
            let bytes = self.waiting[at].bytes;
            bytes <= self.free && (place == 0 || held(at) + bytes <= part)
        };
        let at = firsts.iter().enumerate().find(|(place, at)| fits(*place, **at)).map(|(_, at)| *at)?;
        let waiter = self.waiting.remove(at)?;
        self.free -= waiter.bytes;
        *self.held.entry(waiter.flow.clone()).or_default() += waiter.bytes;
        Some(waiter)
    }
}

struct ServeOnDrop(Arc<Room>);

impl Drop for ServeOnDrop {
    fn drop(&mut self) {
        self.0.serve();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.free += self.bytes;
        let held = state.held.get_mut(&self.flow).map(|held| {
            *held -= self.bytes;
            *held
        });
        if held == Some(0) {
            state.held.remove(&self.flow);
        }
        drop(state);
        self.room.serve();
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
    use arrow::datatypes::{Field, Schema};
    use futures::FutureExt;
    use futures::future::LocalBoxFuture;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true)]))
    }

    fn flow(name: &str) -> Flow {
        Flow(Some(name.into()))
    }

    /// A wait, and the room that it ended with.
    type Asked<'a> = (LocalBoxFuture<'a, Option<Reserved>>, Option<Reserved>);

    /// A story in a room for 100 rows: `a60` asks for 60 of flow a, expected to wait if a `?` follows; `-1` ends the first
    /// that asked, whether it waits or has room; `=2` says that the second has room by now.
    async fn check(story: &str) {
        let (room, schema) = (ResultRoom::new(8 * 100), schema());
        let flows = ["a", "b", "c"].map(flow);
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for step in story.split_whitespace() {
            let (kind, rest) = step.split_at(1);
            let number: u64 = rest.trim_end_matches('?').parse().expect("a number");
            let at = (number as usize).wrapping_sub(1);
            match kind {
                "-" => asked[at] = (Box::pin(std::future::pending()), None),
                "=" => {
                    let (waits, has) = &mut asked[at];
                    *has = waits.as_mut().now_or_never().expect("it has room").map(Some).expect("in time");
                }
                _ => {
                    let flow = flows.iter().find(|flow| flow.to_string() == kind).expect("a flow");
                    let mut waits: LocalBoxFuture<'_, _> = Box::pin(room.wait_for(Some(number), &schema, flow, HOUR));
                    let has = waits.as_mut().now_or_never();
                    assert_eq!(has.is_none(), rest.ends_with('?'), "{step} in {story}");
                    asked.push((waits, has.flatten()));
                }
            }
            for (at, (waits, has)) in asked.iter_mut().enumerate() {
                let is_next = story.split_whitespace().any(|step| step == format!("={}", at + 1));
                if has.is_none() && !is_next {
                    assert!(waits.as_mut().now_or_never().is_none(), "{} has room after {step} in {story}", at + 1);
                }
            }
        }
        drop(asked);
        let state = room.0.state();
        assert_eq!((state.free, state.held.len(), state.waiting.len()), (800, 0, 0), "{story}");
    }

    #[tokio::test]
    async fn a_flow_is_served_in_order() {
        check("a60 a60? a10? -1 =2 =3").await;
        // Who gives up is not in the way any more.
        check("a60 a60? a10? -2 =3").await;
        check("a100 a100? a100? -2 -1 =3").await;
    }

    #[tokio::test]
    async fn the_flow_that_holds_least_comes_first() {
        check("a60 a40 a40? b40? -2 =4 -1 =3").await;
        check("a60 b40 b40? c30? -1 =4 -2 =3").await;
    }

    #[tokio::test]
    async fn others_pass_a_giant_within_their_part() {
        // The giant of b waits for everything; a has half of it, and no more as long as b waits.
        check("a60 b100? a10? -1 =2").await;
        check("a40 b100? a10 a10? -1 =4 -3 -4 =2").await;
        // Larger than all room is as large as all.
        check("a10 b999? -1 =2").await;
    }

    #[tokio::test]
    async fn who_waited_for_half_of_its_time_goes_ahead() {
        let (room, flow) = (ResultRoom::new(8), flow("a"));
        let all = room.wait_for(Some(1), &schema(), &flow, HOUR).await;
        assert!(all.is_some());
        assert!(room.wait_for(Some(1), &schema(), &flow, Duration::from_millis(2)).await.is_none());
        assert!(room.wait_for(None, &schema(), &flow, HOUR).await.is_none(), "who cannot say does not wait");
        assert_eq!(room.0.state().waiting.len(), 0);
    }

    /// Whatever is asked and given back: never more than there is, and all of it in the end.
    #[tokio::test]
    async fn random_traffic_leaves_all_room_free() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (room, schema) = (ResultRoom::new(8 * 100), schema());
            let flows = ["a", "b", "c"].map(flow);
            let mut asked = Vec::new();
            for _ in 0..60 {
                let flow = &flows[random.usize(..3)];
                let mut waits = Box::pin(room.wait_for(Some(random.u64(0..120)), &schema, flow, HOUR));
                let has = waits.as_mut().now_or_never().flatten();
                asked.push((waits, has));
                while asked.len() > random.usize(0..8) {
                    let _ = asked.swap_remove(random.usize(..asked.len()));
                }
                // A task that never pauses is told after a while that nothing is ready.
                tokio::task::yield_now().await;
                for (waits, has) in &mut asked {
                    if has.is_none() {
                        *has = waits.as_mut().now_or_never().flatten();
                    }
                }
                let held: u64 = asked.iter().flat_map(|(_, has)| has).map(|reserved| reserved.bytes).sum();
                assert_eq!(held + room.0.state().free, 800, "seed {seed}");
            }
            drop(asked);
            let state = room.0.state();
            assert_eq!((state.free, state.held.len(), state.waiting.len()), (800, 0, 0), "seed {seed}");
        }
    }
}
