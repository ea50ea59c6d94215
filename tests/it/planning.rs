//! What the planner makes of what it is told of a leaf: no answer from statistics, no work divided that is small, and the
//! smaller side of a join in memory.

use overlay::engine::message::ScanPath;

use super::scan_paths::Alone;

async fn plan_of(alone: &Alone, sql: &str) -> String {
    alone.ask(&format!("EXPLAIN {sql}"), ScanPath::Any).await.expect("planned").join("\n")
}

#[tokio::test]
async fn what_statistics_could_tell_is_read_all_the_same() {
    let alone = Alone::new(5);
    for sql in [
        "SELECT count(*), 1 FROM observations",
        "SELECT count(*), max(utc) FROM observations",
        "SELECT min(latitude), max(latitude), min(aqi), max(concentration) FROM observations",
        "SELECT count(aqi) FROM observations",
    ] {
        let plan = plan_of(&alone, sql).await;
        assert!(plan.contains("OverlayScanExec"), "{sql}: {plan}");
        let (rows, reports) = alone.ask_reporting(sql, ScanPath::Any).await.expect("answered");
        assert_eq!(rows.len(), 1, "{sql}");
        assert_eq!(reports.iter().map(|leaf| leaf.outcomes.len()).collect::<Vec<_>>(), [3], "days answered for: {sql}");
    }
}

#[tokio::test]
async fn little_work_is_not_divided() {
    let alone = Alone::new(6);
    for sql in [
        "SELECT parameter, count(*), avg(aqi) FROM observations GROUP BY parameter ORDER BY parameter",
        "SELECT utc, lag(aqi) OVER (PARTITION BY full_aqs_id ORDER BY utc) FROM observations",
        "SELECT count(*) FROM observations a JOIN observations b ON a.utc = b.utc AND a.aqi = b.category",
    ] {
        let plan = plan_of(&alone, sql).await;
        assert!(!plan.contains("RepartitionExec"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn the_side_of_a_join_with_fewer_rows_is_kept_in_memory() {
    let alone = Alone::new(7);
    let few = "f.parameter = 'CO' AND f.utc < '2020-08-10T06:00:00'";
    for (from, condition) in [
        ("observations f JOIN observations m", few.to_owned()),
        ("observations m JOIN observations f", few.to_owned()),
        ("observations m JOIN observations f", format!("{few} AND m.aqi > 3")),
        ("observations f JOIN observations m", "f.site_name = 'nobody'".to_owned()),
        ("observations m JOIN observations f", "f.site_name = 'nobody'".to_owned()),
    ] {
        let sql =
            format!("SELECT count(*) FROM {from} ON f.full_aqs_id = m.full_aqs_id AND f.utc = m.utc WHERE {condition}");
        let plan = plan_of(&alone, &sql).await;
        let join = plan.split_once("HashJoinExec").unwrap_or_else(|| panic!("{sql}: {plan}")).1;
        // A join's first input is the one that it collects.
        let mut leaves = join.lines().filter(|line| line.contains("OverlayScanExec"));
        let (kept, read) = (leaves.next().unwrap_or_default(), leaves.next().unwrap_or_default());
        assert!(kept.contains("parameter@") || kept.contains("nobody"), "{sql}: {plan}");
        assert!(!read.contains("parameter@") && !read.contains("nobody"), "{sql}: {plan}");
    }
}
