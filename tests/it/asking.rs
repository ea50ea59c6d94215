//! Queries as a client asks them, and answers read to their end.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use overlay::client::Client;
use overlay::engine::filter::{BoundingBox, RangeFilter};
use overlay::engine::session::Ask;
use overlay::failure::Failure;
use overlay::leader::answer::{Footer, QuerySpec};
use overlay_ingest::DateRange;

use crate::cluster::PATIENCE;
use crate::oracle::Question;
use crate::rows::texts;

/// An answer read to its end.
pub struct Answer {
    /// One text a row, sorted.
    pub rows: Vec<String>,
    /// One text a row, in the order of the answer.
    pub in_order: Vec<String>,
    /// Rows of each chunk.
    pub chunk_rows: Vec<usize>,
    pub schema: SchemaRef,
    pub footer: Footer,
}

/// Opens a query and reads its answer to the end.
pub async fn read(client: &Client, spec: QuerySpec) -> Result<Answer, Failure> {
    let mut answer = client.open(spec).await?;
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some(batch) = answer.next().await {
        batches.push(batch?);
    }
    let in_order: Vec<String> = batches.iter().flat_map(texts).collect();
    let mut rows = in_order.clone();
    rows.sort();
    Ok(Answer {
        rows,
        in_order,
        chunk_rows: batches.iter().map(RecordBatch::num_rows).collect(),
        schema: Arc::clone(answer.schema().expect("an answer that ended has a schema")),
        footer: answer.footer().expect("an answer that ended has a footer").clone(),
    })
}

/// A query with the client's defaults.
pub fn spec(ask: Ask) -> QuerySpec {
    QuerySpec { time_left: Some(PATIENCE), ..QuerySpec::of(ask) }
}

/// A SQL query.
pub fn sql(text: &str) -> QuerySpec {
    spec(Ask::Sql(text.to_owned()))
}

/// A range query that asks what the oracle is asked.
pub fn range(question: &Question) -> QuerySpec {
    let date = |text: &str| text.parse().expect("a date");
    let bbox = question.bbox.map(|[south, west, north, east]| BoundingBox { south, west, north, east });
    spec(Ask::Range(RangeFilter {
        parameter: question.parameter.map(str::to_owned),
        min: question.min,
        max: question.max,
        dates: question.dates.map(|(from, to)| DateRange { from: date(from), to: date(to) }),
        bbox,
        columns: question.columns.iter().map(|column| column.to_string()).collect(),
    }))
}
