use super::*;
use crate::leader::fairness;
use crate::leader::fairness::tests::team;

const NEVER: Duration = Duration::MAX;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn strict(queue_capacity: usize, concurrent_max: usize, team_concurrent_max: usize) -> Admission {
    let limits = AdmissionLimits { queue_capacity, concurrent_max, team_concurrent_max };
    Admission::new(limits, fairness::by_name("strict").expect("in the table"))
}

fn drain(admission: &mut Admission, now: Duration) -> Vec<u128> {
    std::iter::from_fn(|| admission.start_next(now)).map(|id| id.0).collect()
}

/// A story: `g1` offers query 1 of team green (`p` pink, `n` no team), with `!` where it is refused; `1 2` are collected,
/// `-` if none; `/1` finishes and `~1` withdraws, with `?` where there is nothing to do.
fn check(mut admission: Admission, story: &str) {
    for step in story.split(", ") {
        let (kind, rest) = step.split_at(1);
        let id = || QueryId(rest.trim_end_matches(['!', '?']).parse().expect("an id"));
        let done = !rest.ends_with(['!', '?']);
        let flow = match kind {
            "g" => Some(team("green")),
            "p" => Some(team("pink")),
            "n" => Some(Flow(None)),
            _ => None,
        };
        match (flow, kind) {
            (Some(flow), _) => assert_eq!(admission.offer(id(), flow, NEVER, s(0)).is_ok(), done, "{step} in {story}"),
            (None, "/") => assert_eq!(admission.finish(id(), s(1)), done, "{step} in {story}"),
            (None, "~") => assert_eq!(admission.withdraw(id()), done, "{step} in {story}"),
            (None, _) => {
                let expected: Vec<u128> = step.split(' ').filter_map(|id| id.parse().ok()).collect();
                assert_eq!(drain(&mut admission, s(0)), expected, "{step} in {story}");
            }
        }
    }
}

#[test]
fn who_may_start_starts_in_order_of_arrival() {
    check(strict(5, 2, 2), "g1, g2, g3, p4, 1 2, /2, 3, -, /1, /1?, 4, /3, /4, -");
    check(strict(5, 9, 1), "g1, g2, g3, p4, n5, n6, 1 4 5, /5, 6, /1, 2, /2, 3");
}

#[test]
fn a_full_queue_refuses_only_what_cannot_start() {
    check(strict(1, 1, 1), "g1, g2, g3!, 1, p4!, /1, 2, g5, p6!");
    check(strict(0, 1, 1), "g1, g2!, /1, g3, 3");
    // Green waits at its limit and fills the queue; pink passes by, even before anybody collected.
    check(strict(2, 3, 1), "g1, g2, g3, g4!, p5, p6!, n7, 1 5 7, /5, p8, 8");
    // A permit is free, but it belongs to the one that waits for it.
    check(strict(1, 1, 1), "g1, g2, 1, /1, p3, p4!, 2, /2, 3");
}

#[test]
fn the_301st_query_is_refused() {
    let mut admission = strict(200, 100, 60);
    for id in 0..300 {
        let flow = team(if id % 2 == 0 { "green" } else { "pink" });
        assert_eq!(admission.offer(QueryId(id), flow, NEVER, s(0)), Ok(()));
    }
    let refused = admission.offer(QueryId(300), Flow(None), NEVER, s(0)).expect_err("no place");
    assert_eq!(refused, Refused::QueueFull { queued: 200, active: 100, retry_after: s(1) });
    assert_eq!(refused.to_string(), "200 queries are waiting and 100 running; try again in 1000 ms");
    assert_eq!(drain(&mut admission, s(0)).len(), 100);
    assert_eq!(
        (admission.place(QueryId(99)), admission.place(QueryId(101))),
        (Some(Place::Running), Some(Place::Queued(1)))
    );
    assert_eq!(admission.place(QueryId(300)), None);
}

#[test]
fn a_greedy_team_stops_at_its_limit_and_others_pass_it() {
    let mut admission = strict(200, 100, 60);
    for id in 0..150 {
        assert_eq!(admission.offer(QueryId(id), team("green"), NEVER, s(0)), Ok(()));
    }
    assert_eq!(admission.offer(QueryId(500), team("pink"), NEVER, s(0)), Ok(()));
    let started = drain(&mut admission, s(0));
    assert_eq!(started, (0..60).chain([500]).collect::<Vec<_>>());
    let green = admission.counters().flows[&team("green")];
    assert_eq!((green.active, green.active_peak, green.queued, green.admitted), (60, 60, 90, 60));
}

#[test]
fn a_withdrawn_query_leaves_no_trace() {
    check(strict(5, 1, 1), "g1, g2, g3, ~2, ~2?, 1, ~1?, /1, 3");
    // Not yet collected: it gives its permit back.
    check(strict(5, 1, 1), "g1, g2, ~1, 2, /1?, /2, -");
    // Finished before it was collected: nobody collects it any more.
    check(strict(5, 1, 1), "g1, /1, -, g2, 2");
}

#[test]
fn a_query_does_not_start_after_its_deadline() {
    let mut admission = strict(5, 1, 1);
    for (id, deadline) in [(1, s(100)), (2, s(10)), (3, s(20)), (4, s(10))] {
        assert_eq!(admission.offer(QueryId(id), team("green"), deadline, s(0)), Ok(()));
    }
    assert_eq!(drain(&mut admission, s(0)), [1]);
    assert!(admission.finish(QueryId(1), s(10)));
    assert_eq!(drain(&mut admission, s(10)), [3]);
    assert_eq!(admission.expired(s(9)), []);
    assert_eq!(admission.expired(s(10)), [QueryId(2), QueryId(4)]);
    assert_eq!(admission.counters().queued, 0);
    let refused = admission.offer(QueryId(5), team("pink"), s(10), s(10)).expect_err("too late");
    assert_eq!(refused, Refused::DeadlineCannotBeMet { wait: Duration::ZERO, left: Duration::ZERO });
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_once_times_are_known() {
    let mut admission = strict(5, 2, 2);
    for id in 1..=3 {
        assert_eq!(admission.offer(QueryId(id), team("green"), s(5), s(0)), Ok(()), "nothing is known yet");
    }
    drain(&mut admission, s(0));
    admission.finish(QueryId(1), s(4));
    assert_eq!(drain(&mut admission, s(4)), [3]);
    // 4 s each, two run, nobody waits: the next to arrive waits about 2 s.
    let refused = admission.offer(QueryId(4), team("green"), s(5), s(4)).expect_err("1 s is too short");
    assert_eq!(refused, Refused::DeadlineCannotBeMet { wait: s(2), left: s(1) });
    assert_eq!(refused.to_string(), "about 2000 ms to wait, but 1000 ms left until the deadline");
    assert_eq!(admission.offer(QueryId(4), team("green"), s(6), s(4)), Ok(()));
    let counters = admission.counters();
    assert_eq!(
        (counters.service_average, counters.waits.p50, counters.waits.p99),
        (Some(s(4)), Some(s(0)), Some(s(4)))
    );
    assert_eq!(counters.flows[&team("green")].refused, 1);
}

#[test]
fn the_hint_when_to_come_back_follows_the_service_time() {
    for (service, expected) in [(s(8), s(4)), (s(1_000), s(30)), (Duration::ZERO, Duration::from_millis(100))] {
        let mut admission = strict(0, 2, 2);
        for id in 0..3 {
            assert_eq!(admission.offer(QueryId(id), Flow(None), NEVER, s(0)), Ok(()));
            drain(&mut admission, s(0));
            if id == 0 {
                admission.finish(QueryId(0), service);
            }
        }
        match admission.offer(QueryId(3), Flow(None), NEVER, s(0)) {
            Err(Refused::QueueFull { retry_after, .. }) => assert_eq!(retry_after, expected, "service of {service:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Against a model that keeps the whole queue in one list and starts by walking it.
#[test]
fn random_traffic_agrees_with_a_naive_model() {
    let flows = [team("green"), team("pink"), Flow(None)];
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (capacity, all, each) = (random.usize(0..6), random.usize(1..7), random.usize(1..5));
        let mut admission = strict(capacity, all, each);
        let mut queue: Vec<(u128, usize)> = Vec::new();
        let mut running: Vec<(u128, usize)> = Vec::new();
        let mut next_id = 0;
        for step in 0..500 {
            let of = |running: &[(u128, usize)], flow| running.iter().filter(|(_, f)| *f == flow).count();
            let may = |running: &[(u128, usize)], flow| running.len() < all && of(running, flow) < each;
            match random.u8(0..6) {
                0..=2 => {
                    let flow = random.usize(0..3);
                    let accepted = admission.offer(QueryId(next_id), flows[flow].clone(), NEVER, s(step)).is_ok();
                    assert_eq!(accepted, may(&running, flow) || queue.len() < capacity, "step {step}, seed {seed}");
                    if accepted {
                        queue.push((next_id, flow));
                    }
                    next_id += 1;
                }
                3 | 4 if !running.is_empty() => {
                    let (id, _) = running.swap_remove(random.usize(..running.len()));
                    assert!(admission.finish(QueryId(id), s(step)));
                    assert!(!admission.finish(QueryId(id), s(step)));
                }
                5 if !queue.is_empty() => {
                    let (id, _) = queue.remove(random.usize(..queue.len()));
                    assert!(admission.withdraw(QueryId(id)));
                }
                _ => {}
            }
            let mut expected = Vec::new();
            while let Some(at) = queue.iter().position(|(_, flow)| may(&running, *flow)) {
                let started = queue.remove(at);
                running.push(started);
                expected.push(started.0);
            }
            assert_eq!(drain(&mut admission, s(step)), expected, "step {step}, seed {seed}");
            let counters = admission.counters();
            assert_eq!((counters.active, counters.queued), (running.len(), queue.len()), "step {step}, seed {seed}");
        }
        running.iter().for_each(|(id, _)| assert!(admission.finish(QueryId(*id), s(999))));
        queue.iter().for_each(|(id, _)| assert!(admission.withdraw(QueryId(*id)), "seed {seed}"));
        let counters = admission.counters();
        assert_eq!((counters.active, counters.queued), (0, 0), "seed {seed}");
        assert!(counters.flows.values().all(|flow| (flow.active, flow.queued) == (0, 0)), "seed {seed}");
        assert!(counters.active_peak <= all && counters.queued_peak <= capacity, "seed {seed}");
    }
}
