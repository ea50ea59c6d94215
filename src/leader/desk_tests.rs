use super::*;
use crate::delivery::store::StoreLimits;
use crate::engine::session::Ask;
use crate::leader::admission::AdmissionLimits;
use crate::leader::fairness::{self, Flow};

fn desk() -> Desk {
    let limits = AdmissionLimits { queue_capacity: 2, concurrent_max: 1, team_concurrent_max: 1 };
    let strategy = fairness::by_name("strict").expect("it is in the table");
    let store = StoreLimits { bytes_max: 1 << 20, ttl: Duration::from_secs(300), idle: Duration::from_secs(30) };
    Desk::new(Admission::new(limits, strategy), ResultStore::new(store))
}

fn spec() -> QuerySpec {
    QuerySpec {
        ask: Ask::Sql("SELECT 1".into()),
        team: None,
        encoding: "json",
        time_left: None,
        allow_partial: false,
        limit: None,
        cancel_on_disconnect: false,
        wait: false,
    }
}

fn share(query: QueryId) -> Share {
    Share { flow: Flow(None), client: 1, query, weight: 1 }
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
