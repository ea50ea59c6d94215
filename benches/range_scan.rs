//! How fast does one thread filter the zones of a day by parameter and range? Generated data set; rows a second, zone
//! maps used and not used.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use datafusion::common::ToDFSchema;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_expr::create_physical_expr;
use overlay::engine::predicate::ZoneFilter;
use overlay::engine::store::HeldPartition;
use overlay_ingest::schema::{Layout, observations};
use overlay_ingest::{Dataset, DateRange, parse_date};

pub fn bench(criterion: &mut Criterion) {
    let dataset = Dataset::open(super::dataset()).expect("the data set was just made");
    let date = dataset.dates(DateRange::ALL).next().expect("it has days");
    let parsed = parse_date(&dataset, date, Layout::default()).expect("the data set has no fault");
    let held = HeldPartition::new(&parsed.partition);

    let schema = observations();
    let range = col("parameter").eq(lit("PM2.5")).and(col("concentration").between(lit(5.0), lit(35.0)));
    let df_schema = Arc::clone(&schema).to_dfschema().expect("the schema has no duplicate names");
    let predicate =
        create_physical_expr(&range, &df_schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .expect("the range fits the schema");
    let columns = (0..schema.fields().len()).collect();
    let filter = ZoneFilter::new(Some(predicate), columns, &schema).expect("the columns are those of the schema");

    let mut group = criterion.benchmark_group("range scan");
    group.throughput(Throughput::Elements(held.rows()));
    for (name, use_zone_map) in [("zone map", true), ("every zone", false)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let may_match = filter.may_match(&held.map);
                let zones = held.zones.iter().zip(may_match).filter(|(_, may_match)| *may_match || !use_zone_map);
                let rows: usize = zones
                    .map(|(zone, _)| {
                        let matches = filter.apply(&zone.batch).expect("the filter fits the zone");
                        let count = matches.rows;
                        matches.take(count).expect("the filter fits the zone").num_rows()
                    })
                    .sum();
                rows
            });
        });
    }
    group.finish();
}
