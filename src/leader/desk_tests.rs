use super::super::answer::CoverageSummary;
use super::*;
use crate::delivery::store::StoreLimits;
use crate::engine::meter::Spent;
use crate::engine::session::Ask;
use crate::leader::admission::AdmissionLimits;
use crate::leader::fairness::{self, Flow};

fn desk() -> Desk {
    let limits = AdmissionLimits { queue_capacity: 2, concurrent_max: 1, team_concurrent_max: 1, cores: 1 };
    let strategy = fairness::by_name("strict").expect("it is in the table");
    let store = StoreLimits { bytes_max: 1 << 20, ttl: Duration::from_secs(300), idle: Duration::from_secs(30) };
    Desk::new(Admission::new(limits, strategy), ResultStore::new(store))
}

fn spec() -> QuerySpec {
    QuerySpec { encoding: "json", ..QuerySpec::of(Ask::Sql("SELECT 1".into())) }
}

fn params() -> ChunkingParams {
    let strategy = crate::delivery::chunking::by_name("fixed").expect("it is in the table").into();
    ChunkingParams { strategy, estimate: 0, limit: None, base: 10, chunk_rows_max: 10 }
}

fn share(query: QueryId) -> Share {
    Share { flow: Flow(None), client: 1, query, weight: 1 }
}

#[test]
fn work_is_billed_while_a_query_runs_and_when_it_is_cancelled() {
    let ms = Duration::from_millis;
    let mut desk = desk();
    let id = QueryId(1);
    desk.offer(id, spec(), share(id), ms(60_000), ms(0)).unwrap();
    assert_eq!(desk.start_next(ms(0)), Some(id));
    let meter = Arc::new(Meter::default());
    desk.planned(id, 1000, Arc::clone(&meter));
    let charged = |desk: &Desk| desk.admission().flows[&Flow(None)].charged;
    for (spent, expected) in [(500, 500), (0, 500), (250, 750)] {
        meter.add(Spent { cpu: ms(spent), ..Spent::default() });
        desk.expire(ms(100));
        assert_eq!(charged(&desk), ms(expected), "no row has come yet");
    }
    meter.add(Spent { cpu: ms(50), ..Spent::default() });
    desk.cancel(id, "on purpose", ms(200)).unwrap();
    assert_eq!((charged(&desk), desk.load()), (ms(800), (0, 0)));
}

#[test]
fn a_running_query_that_does_not_hear_its_deadline_is_ended_all_the_same() {
    let ms = Duration::from_millis;
    let mut desk = desk();
    let (first, second) = (QueryId(1), QueryId(2));
    desk.offer(first, spec(), share(first), ms(1000), ms(0)).unwrap();
    desk.offer(second, spec(), share(second), ms(9000), ms(0)).unwrap();
    assert_eq!(desk.start_next(ms(0)), Some(first));
    let (_, stop, _) = desk.running(first).unwrap();
    for (now, state, reason) in [
        (999, QueryState::Running, None),
        (1000, QueryState::Running, Some(StopReason::Deadline)),
        (2499, QueryState::Running, Some(StopReason::Deadline)),
        (2500, QueryState::Expired, Some(StopReason::Deadline)),
    ] {
        desk.expire(ms(now));
        assert_eq!((desk.status(first).unwrap().state, stop.reason()), (state, reason), "at {now} ms");
    }
    assert_eq!(desk.failure(first).unwrap().kind, FailureKind::DeadlineExceeded);
    assert_eq!(desk.start_next(ms(2500)), Some(second), "its permit is free");
    // What its task says later changes nothing.
    desk.end(first, Err(Failure::new(FailureKind::Internal, "LATE", "late")), ms(9000));
    assert_eq!(desk.status(first).unwrap().state, QueryState::Expired);
}

/// Every way to an end, before the plan is made and after: the permit is free, and no result is left or begun.
#[test]
fn whatever_ends_a_query_nothing_is_left_of_it() {
    let ms = Duration::from_millis;
    let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::empty());
    type End = fn(&mut Desk, QueryId);
    let ends: [(&str, End); 4] = [
        ("cancel", |desk, id| drop(desk.cancel(id, "on purpose", Duration::from_millis(10)))),
        ("failure", |desk, id| {
            let lost = Failure::new(FailureKind::Unavailable, "MISSING_PARTITIONS", "lost");
            desk.end(id, Err(lost), Duration::from_millis(10));
        }),
        ("deadline", |desk, _| desk.expire(Duration::from_secs(70))),
        ("drain", |desk, _| desk.end_all("A was shut down", Duration::from_millis(10))),
    ];
    for (name, end) in ends {
        for is_planned in [false, true] {
            let (mut desk, id) = (desk(), QueryId(1));
            desk.offer(id, spec(), share(id), ms(60_000), ms(0)).unwrap();
            assert_eq!(desk.start_next(ms(0)), Some(id));
            if is_planned {
                desk.open_result(id, Arc::clone(&schema), params(), ms(1)).unwrap();
            }
            end(&mut desk, id);
            assert_eq!(desk.load(), (0, 0), "{name}");
            assert_eq!(desk.spec(id).unwrap().ask, Ask::Sql(String::new()), "{name}: its statement is kept");
            // Its task has not heard of it yet.
            assert!(desk.open_result(id, Arc::clone(&schema), params(), ms(20)).is_err() || is_planned, "{name}");
            desk.end(id, Err(Failure::new(FailureKind::Cancelled, "CANCELLED", "late")), ms(30));
            desk.expire(ms(2_000_000));
            let left = desk.results();
            assert_eq!((left.results, left.bytes), (0, 0), "{name}, planned: {is_planned}");
        }
    }
}

/// Who reads a stream to its end and will not come back leaves nothing but the totals.
#[test]
fn what_was_read_to_its_end_is_let_go() {
    let ms = Duration::from_millis;
    let (mut desk, id) = (desk(), QueryId(1));
    desk.offer(id, spec(), share(id), ms(60_000), ms(0)).unwrap();
    assert_eq!(desk.start_next(ms(0)), Some(id));
    desk.open_result(id, Arc::new(arrow::datatypes::Schema::empty()), params(), ms(1)).unwrap();
    desk.read_to_the_end(id);
    assert_eq!(desk.results().results, 1, "it has not ended");
    let (none, coverage) = (Duration::ZERO, CoverageSummary::default());
    let (state, work, adopted) = (QueryState::Ready, Vec::new(), Vec::new());
    desk.end(
        id,
        Ok(Footer { id, state, rows: 0, elapsed: none, queued: none, planned: none, work, adopted, coverage }),
        ms(2),
    );
    assert!(matches!(desk.ask(id, 0, ms(3)), Asked::Ready { footer: Some(_), .. }));
    // A second reader may come to the end as well.
    for _ in 0..2 {
        desk.read_to_the_end(id);
    }
    assert_eq!((desk.results().results, desk.results().bytes), (0, 0));
    let status = desk.status(id).unwrap();
    assert_eq!((status.state, status.total_chunks, status.total_records), (QueryState::Ready, Some(1), Some(0)));
    assert!(matches!(desk.ask(id, 0, ms(4)), Asked::Failed(gone) if gone.kind == FailureKind::NotFound
        && gone.reason == Gone::Acknowledged.to_string()));
}

/// Told before its deadline that it will not end in time is a refusal with a hint; told at its deadline it has expired.
#[test]
fn a_query_that_is_sent_away_from_the_queue_is_refused() {
    let s = Duration::from_secs;
    let mut desk = desk();
    let ids = [1, 2, 3].map(QueryId);
    for (id, deadline) in [(ids[0], s(600)), (ids[1], s(19)), (ids[2], s(10))] {
        desk.offer(id, spec(), share(id), deadline, s(0)).unwrap();
    }
    assert_eq!(desk.start_next(s(0)), Some(ids[0]));
    desk.end(ids[0], Err(Failure::new(FailureKind::Internal, "BROKEN", "after 10 s")), s(10));
    desk.expire(s(10));
    let told =
        |id| desk.failure(id).map(|failure| (failure.kind, failure.reason.clone(), failure.retry_after.is_some()));
    let refused = (FailureKind::ResourceExhausted, "DEADLINE_CANNOT_BE_MET".to_owned(), true);
    assert_eq!(told(ids[1]), Some(refused), "9 s were left of 19, and the last took 10");
    assert_eq!(told(ids[2]), Some((FailureKind::DeadlineExceeded, "DEADLINE".to_owned(), false)));
    assert_eq!(desk.totals(), (3, 1));
}
