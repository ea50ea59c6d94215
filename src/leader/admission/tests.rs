use super::*;
use crate::leader::fairness;
use crate::leader::fairness::tests::{share, team};

const NEVER: Duration = Duration::MAX;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn strict(queue_capacity: usize, concurrent_max: usize, team_concurrent_max: usize) -> Admission {
    let limits = AdmissionLimits { queue_capacity, concurrent_max, team_concurrent_max, cores: 1 };
    Admission::new(limits, fairness::by_name("strict").expect("in the table"))
}

fn with(strategy: &str, queue_capacity: usize, concurrent_max: usize, team_concurrent_max: usize) -> Admission {
    let mut admission = strict(queue_capacity, concurrent_max, team_concurrent_max);
    admission.set_strategy(fairness::by_name(strategy).expect("in the table"));
    admission
}

/// The share of a query of one client of a team.
fn of(flow: Flow) -> Share {
    Share { flow, ..share("", 1) }
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
            (Some(flow), _) => {
                assert_eq!(admission.offer(id(), of(flow), NEVER, s(0)).is_ok(), done, "{step} in {story}")
            }
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
        assert_eq!(admission.offer(QueryId(id), of(flow), NEVER, s(0)), Ok(None));
    }
    let refused = admission.offer(QueryId(300), of(Flow(None)), NEVER, s(0)).expect_err("no place");
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
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None));
    }
    assert_eq!(admission.offer(QueryId(500), share("pink", 1), NEVER, s(0)), Ok(None));
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
        assert_eq!(admission.offer(QueryId(id), share("green", 1), deadline, s(0)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(0)), [1]);
    assert_eq!(admission.expired(s(9)), []);
    assert!(admission.finish(QueryId(1), s(10)));
    assert_eq!(drain(&mut admission, s(10)), [3]);
    let over = |id| Expired { id: QueryId(id), why: None };
    assert_eq!(admission.expired(s(10)), [over(2), over(4)]);
    assert_eq!(admission.counters().queued, 0);
    let refused = admission.offer(QueryId(5), share("pink", 1), s(10), s(10)).expect_err("too late");
    assert_eq!(
        refused,
        Refused::DeadlineCannotBeMet { needed: s(0), left: s(0), retry_after: Duration::from_millis(100) }
    );
}

#[test]
fn a_query_that_waited_too_long_to_end_in_time_does_not_start() {
    let mut admission = strict(5, 1, 1);
    for (id, flow, deadline) in [(1, "green", s(100)), (2, "green", s(19)), (3, "pink", s(11)), (4, "green", s(20))] {
        assert_eq!(admission.offer(QueryId(id), share(flow, 1), deadline, s(0)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(0)), [1]);
    assert!(admission.finish(QueryId(1), s(10)));
    // One of green takes 10 s: 2 has one less. Of pink nobody knows.
    let why = Refused::TooLate { left: s(9), least: Duration::from_millis(9_500), retry_after: s(10) };
    assert_eq!(admission.expired(s(10)), [Expired { id: QueryId(2), why: Some(why) }]);
    assert_eq!(admission.counters().flows[&team("green")].displaced, 1);
    assert_eq!(drain(&mut admission, s(10)), [3]);
    assert!(admission.finish(QueryId(3), s(10)));
    assert_eq!(drain(&mut admission, s(10)), [4]);
}

/// What a team's giants take says nothing of its queries that were given little time.
#[test]
fn giants_of_a_team_do_not_speak_for_its_small_queries() {
    let mut admission = strict(9, 2, 2);
    let mut now = s(0);
    for id in 0..4 {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, now), Ok(None));
        assert_eq!(drain(&mut admission, now), [id]);
        now += s(30);
        assert!(admission.finish(QueryId(id), now));
    }
    for id in 4..6 {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, now), Ok(None));
    }
    assert_eq!(drain(&mut admission, now), [4, 5]);
    // 15 s to wait or a quarter more, then at most half of what it was given: that fits. A giant's 30 s would not.
    assert_eq!(admission.offer(QueryId(6), share("green", 1), now + s(40), now), Ok(None));
    assert_eq!(admission.offer(QueryId(7), share("green", 1), now + s(600), now), Ok(None));
    now += s(15);
    assert!(admission.finish(QueryId(4), now));
    assert_eq!(drain(&mut admission, now), [6], "25 s left will do as well as 585");
}

#[test]
fn who_will_end_in_time_starts_before_who_only_may() {
    let mut admission = strict(5, 1, 1);
    let mut now = s(0);
    for (id, service) in [(1, 2), (2, 4), (3, 6), (4, 8)] {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, now), Ok(None));
        assert_eq!(drain(&mut admission, now), [id]);
        now += s(service);
        assert!(admission.finish(QueryId(id), now));
    }
    // Nearly all end within 8 s, one in four within 2.
    assert_eq!(admission.offer(QueryId(5), share("green", 1), NEVER, now), Ok(None));
    for (id, left) in [(6, 13), (7, 21), (8, 27)] {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), now + s(left), now), Ok(None), "{id}");
    }
    assert_eq!(drain(&mut admission, now), [5]);
    now += s(7);
    assert!(admission.finish(QueryId(5), now));
    // 6 s, 14 s and 20 s are left.
    assert_eq!(drain(&mut admission, now), [7]);
    now += s(13);
    assert!(admission.finish(QueryId(7), now));
    // The time of one is over, the other has 7 s left, which may do.
    assert_eq!(drain(&mut admission, now), [8]);
    assert_eq!(admission.expired(now), [Expired { id: QueryId(6), why: None }]);
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_once_times_are_known() {
    let mut admission = strict(5, 2, 2);
    for (id, deadline) in [(1, s(5)), (2, s(5)), (3, s(8))] {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), deadline, s(0)), Ok(None), "nothing is known yet");
    }
    drain(&mut admission, s(0));
    admission.finish(QueryId(1), s(4));
    assert_eq!(drain(&mut admission, s(4)), [3]);
    // 4 s each, two run, nobody waits: the next to arrive waits about 2 s.
    let refused = admission.offer(QueryId(4), share("green", 1), s(5), s(4)).expect_err("1 s is too short");
    // With a quarter more, and half a second to run.
    assert_eq!(refused, Refused::DeadlineCannotBeMet { needed: s(3), left: s(1), retry_after: s(2) });
    assert_eq!(refused.to_string(), "it may take 3000 ms until it ends, but 1000 ms are left until the deadline");
    // It would start after 2 s, or a quarter more, and run for 4, or half of its time if that is less.
    assert!(admission.offer(QueryId(4), share("green", 1), s(8), s(4)).is_err(), "4 s are too short as well");
    assert_eq!(admission.offer(QueryId(4), share("green", 1), s(9), s(4)), Ok(None));
    let counters = admission.counters();
    assert_eq!(
        (counters.service_average, counters.waits.p50, counters.waits.p99),
        (Some(s(4)), Some(s(0)), Some(s(4)))
    );
    assert_eq!(counters.flows[&team("green")].refused, 2);
}

/// The only core is busy: of so many queries of one client the first two run.
fn busy_with(queries: u128) -> Admission {
    let mut admission = with("fair_queue", 200, 100, 60);
    admission.tell_cores(1, false);
    for id in 0..queries {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(0)), [0, 1]);
    admission
}

/// While all cores are busy a flow runs as many as they need; each core that has nothing to do takes one more.
#[test]
fn an_idle_core_takes_one_more_query() {
    let mut admission = busy_with(20);
    admission.tell_cores(1, true);
    assert_eq!((drain(&mut admission, s(0)), drain(&mut admission, s(0))), (vec![2], vec![]));
    // Three run now, which is more than it takes: an end makes room for none.
    admission.finish(QueryId(0), s(1));
    assert_eq!(drain(&mut admission, s(1)), []);
    admission.finish(QueryId(1), s(1));
    assert_eq!(drain(&mut admission, s(1)), [3]);
    // Another flow has its own.
    for id in 20..23 {
        assert_eq!(admission.offer(QueryId(id), share("pink", 1), NEVER, s(1)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(1)), [20, 21]);
    // Nodes with more cores came.
    admission.tell_cores(2, false);
    assert_eq!(drain(&mut admission, s(1)), [4, 5, 22]);
}

/// Giants of a client do not keep its next queries from beginning: once it is seen what they are, others start beside them.
#[test]
fn a_flow_does_not_wait_for_its_own_giants() {
    let mut admission = busy_with(5);
    let mut charge = |id: u128, millis| {
        admission.charge(QueryId(id), &share("green", 1), Cost::cpu(Duration::from_millis(millis)), 1);
        drain(&mut admission, s(1))
    };
    assert_eq!(charge(0, 200), []);
    assert_eq!(charge(0, 200), [2]);
    assert_eq!(charge(0, 200), [], "it is long already");
    assert_eq!(charge(1, 300), [3]);
    assert!(admission.finish(QueryId(0), s(1)), "a long one that ends makes room for none");
    assert_eq!(drain(&mut admission, s(1)), []);
    assert!(admission.finish(QueryId(2), s(1)));
    assert_eq!(drain(&mut admission, s(1)), [4]);
    // What computes without a pause tells no cost, but takes its time.
    let mut admission = busy_with(5);
    admission.expired(RUNS_LONG);
    assert_eq!(drain(&mut admission, RUNS_LONG), []);
    admission.expired(RUNS_LONG + s(1));
    assert_eq!(drain(&mut admission, RUNS_LONG + s(1)), [2, 3]);
}

/// A small query of one client begins at once beside what another of its team has running and waiting.
#[test]
fn a_client_that_comes_newly_starts_beside_those_of_its_team() {
    let mut admission = busy_with(10);
    for (id, client) in [(10, 2), (11, 3), (12, 2), (13, 4)] {
        assert_eq!(admission.offer(QueryId(id), share("green", client), NEVER, s(1)), Ok(None));
    }
    // One each, and no more than twice as many as one client may have.
    assert_eq!(drain(&mut admission, s(1)), [10, 11]);
    admission.charge(QueryId(10), &share("green", 2), Cost::cpu(Duration::from_millis(5)), 1);
    assert!(admission.finish(QueryId(10), s(2)));
    // Both have none; the client that was served least comes first.
    assert_eq!(drain(&mut admission, s(2)), [13]);
    assert!(admission.finish(QueryId(11), s(2)));
    assert_eq!(drain(&mut admission, s(2)), [12]);
    for id in [12, 13] {
        assert!(admission.finish(QueryId(id), s(3)));
    }
    assert_eq!(drain(&mut admission, s(3)), [], "the first has two running still");
}

#[test]
fn the_hint_when_to_come_back_follows_the_service_time() {
    for (service, expected) in [(s(8), s(4)), (s(1_000), s(30)), (Duration::ZERO, Duration::from_millis(100))] {
        let mut admission = strict(0, 2, 2);
        for id in 0..3 {
            assert_eq!(admission.offer(QueryId(id), of(Flow(None)), NEVER, s(0)), Ok(None));
            drain(&mut admission, s(0));
            if id == 0 {
                admission.finish(QueryId(0), service);
            }
        }
        match admission.offer(QueryId(3), of(Flow(None)), NEVER, s(0)) {
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
            let of_flow = |running: &[(u128, usize)], flow| running.iter().filter(|(_, f)| *f == flow).count();
            let may = |running: &[(u128, usize)], flow| running.len() < all && of_flow(running, flow) < each;
            match random.u8(0..6) {
                0..=2 => {
                    let flow = random.usize(0..3);
                    let accepted = admission.offer(QueryId(next_id), of(flows[flow].clone()), NEVER, s(step)).is_ok();
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

#[test]
fn under_fair_queue_nobody_fills_the_queue_alone() {
    let mut admission = with("fair_queue", 4, 1, 1);
    for id in 0..5 {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None));
    }
    let full = |active| Refused::QueueFull { queued: 4, active, retry_after: s(1) };
    assert_eq!(admission.offer(QueryId(5), share("green", 1), NEVER, s(0)), Err(full(1)), "green has them all");
    for (id, expected) in [(6, Some(4)), (7, Some(3)), (8, None)] {
        let offered = admission.offer(QueryId(id), share("pink", 1), NEVER, s(100));
        match (offered, expected) {
            (Ok(Some(Displaced { id, why: Refused::Displaced { .. } })), Some(newest)) => assert_eq!(id.0, newest),
            (Err(Refused::QueueFull { .. }), None) => {}
            (offered, expected) => panic!("{offered:?}, not {expected:?}"),
        }
    }
    // Nor can green take them back.
    assert!(admission.offer(QueryId(9), share("green", 1), NEVER, s(100)).is_err());
    let flows = admission.counters().flows;
    assert_eq!((flows[&team("green")].queued, flows[&team("pink")].queued), (2, 2));
    assert_eq!((flows[&team("green")].displaced, flows[&team("green")].refused), (2, 2));
    // Displaced ones are gone; the rest starts in turn.
    let mut order = drain(&mut admission, s(100));
    while let Some(last) = order.last().copied() {
        let id = QueryId(last);
        admission.charge(id, &share("", 1), Cost::cpu(s(1)), 1);
        if !admission.finish(id, s(101)) {
            break;
        }
        order.extend(drain(&mut admission, s(101)));
    }
    assert_eq!(order, [0, 6, 1, 7, 2]);
}

#[test]
fn under_fair_queue_no_client_fills_its_team_s_places_alone() {
    let mut admission = with("fair_queue", 4, 1, 1);
    for id in 0..5 {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None));
    }
    for (id, client, expected) in [(5, 2, Some(4)), (6, 2, Some(3)), (7, 3, Some(6)), (8, 4, Some(2)), (9, 1, None)] {
        let offered = admission.offer(QueryId(id), share("green", client), NEVER, s(0));
        match (offered, expected) {
            (Ok(Some(Displaced { id, why: Refused::Displaced { .. } })), Some(newest)) => assert_eq!(id.0, newest),
            (Err(Refused::QueueFull { .. }), None) => {}
            (offered, expected) => panic!("{id}: {offered:?}, not {expected:?}"),
        }
    }
    // Another team takes a place of any of them.
    let offered = admission.offer(QueryId(10), share("pink", 9), NEVER, s(0));
    assert!(matches!(offered, Ok(Some(Displaced { id: QueryId(8), .. }))), "{offered:?}");
}

/// At 1 s, of one client of green: one query has ended after a second, two run, which is all that may, and 47 wait.
fn with_a_backlog(strategy: &str) -> Admission {
    let mut admission = with(strategy, 200, 2, 2);
    for id in 0..50 {
        assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(0)).len(), 2);
    admission.finish(QueryId(0), s(1));
    assert_eq!(drain(&mut admission, s(1)).len(), 1);
    admission
}

/// A client waits for its own queries and for as many of others, not for the backlog of one.
#[test]
fn a_client_s_wait_is_not_the_backlog_of_its_team() {
    for (strategy, client, expected) in [("fair_queue", 2, true), ("fair_queue", 1, false), ("strict", 2, false)] {
        let mut admission = with_a_backlog(strategy);
        let offered = admission.offer(QueryId(99), share("green", client), s(4), s(1));
        assert_eq!(offered.is_ok(), expected, "{strategy}, client {client}: {offered:?}");
    }
}

#[test]
fn the_other_strategies_refuse_the_newcomer() {
    for line in fairness::STRATEGIES.iter().filter(|line| line.name != "fair_queue") {
        let mut admission = with(line.name, 4, 1, 1);
        (0..5).for_each(|id| assert_eq!(admission.offer(QueryId(id), share("green", 1), NEVER, s(0)), Ok(None)));
        let refused = admission.offer(QueryId(6), share("pink", 1), NEVER, s(0));
        assert!(matches!(refused, Err(Refused::QueueFull { .. })), "{}: {refused:?}", line.name);
    }
}

/// A modest team's query waits for its share, not for the backlog of the others.
#[test]
fn what_cannot_be_met_is_a_matter_of_the_strategy() {
    // A quarter more than 24 s; how long pink's then run nobody knows.
    for (strategy, expected) in [("fair_queue", Ok(None)), ("fifo", Err(s(30)))] {
        let mut admission = with_a_backlog(strategy);
        let offered = admission.offer(QueryId(99), share("pink", 1), s(4), s(1));
        let wait = offered.map_err(|refused| match refused {
            Refused::DeadlineCannotBeMet { needed, .. } => needed,
            other => panic!("{other:?}"),
        });
        assert_eq!(wait, expected, "{strategy}");
    }
}

/// How soon a query ends goes by how many run, and how many run is the strategy's: what forty took that ran together says
/// nothing of how long four take.
#[test]
fn a_wait_is_known_after_the_strategy_was_changed() {
    let ms = Duration::from_millis;
    let mut admission = with("fifo", 200, 40, 40);
    admission.tell_cores(2, false);
    let (mut now, mut next) = (ms(0), 0);
    let mut offer = |admission: &mut Admission, now: Duration| {
        next += 1;
        admission.offer(QueryId(next), share("green", 1), now + s(5), now).is_ok()
    };
    // 25 ms each: 40 at a time, one more waiting, so that each takes a second.
    (0..41).for_each(|_| assert!(offer(&mut admission, ms(0))));
    let mut running: VecDeque<u128> = drain(&mut admission, ms(0)).into();
    for ends in 0..400 {
        if ends == 200 {
            admission.set_strategy(fairness::by_name("fair_queue").expect("in the table"));
        }
        now += ms(25);
        admission.finish(QueryId(running.pop_front().expect("some run")), now);
        assert!(offer(&mut admission, now), "after {ends} ends at most 41 wait for 25 ms each");
        running.extend(drain(&mut admission, now));
    }
    assert_eq!((running.len(), admission.load()), (4, (4, 37)));
    // A quarter more than 25 ms for each that is ahead, and the second that the last of forty took, fit into 5 s for 128.
    let taken = (0..150).filter(|_| offer(&mut admission, now)).count();
    assert_eq!(37 + taken, 128);
}

/// What a flood of refused requests takes comes out of the share of who sends it.
#[test]
fn refusals_are_charged_to_their_team() {
    let mut admission = with("fair_queue", 9, 1, 1);
    for (id, flow) in [(0, "held"), (1, "green"), (2, "pink")] {
        assert_eq!(admission.offer(QueryId(id), share(flow, 1), NEVER, s(0)), Ok(None));
    }
    assert_eq!(drain(&mut admission, s(0)), [0]);
    admission.charge_refusal(&share("green", 7), Cost::cpu(s(1)));
    assert_eq!(admission.counters().flows[&team("green")].charged, s(1));
    assert_eq!(admission.account.clients(&team("green")), 1, "nothing is kept of the client");
    assert!(admission.finish(QueryId(0), s(1)));
    assert_eq!(drain(&mut admission, s(1)), [2], "pink passes green");
}

/// What a flow did not want for a while is no time between two ends.
#[test]
fn a_pause_is_not_waited_for() {
    // It is the team's own limit that they wait for.
    let mut admission = strict(9, 2, 1);
    let mut now = s(0);
    for burst in 0..40 {
        for id in [0, 1, 2] {
            let left = if id == 2 { s(4) } else { s(9) };
            let offered = admission.offer(QueryId(burst * 3 + id), share("green", 1), now + left, now);
            assert_eq!(offered, Ok(None), "burst {burst}, query {id}");
        }
        for id in [0, 1] {
            assert_eq!(drain(&mut admission, now), [burst * 3 + id]);
            now += s(1);
            assert!(admission.finish(QueryId(burst * 3 + id), now));
        }
        // The third is not wanted any more, and then nothing is for an hour.
        assert!(admission.withdraw(QueryId(burst * 3 + 2)));
        now += s(3600);
    }
}

#[test]
fn strategies_are_switched_without_dropping_a_query() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut admission = with("fifo", 500, 10, 6);
        let (mut running, mut ended) = (Vec::new(), Vec::new());
        for id in 0..200_u128 {
            let flow = ["green", "pink", "blue"][random.usize(..3)];
            assert_eq!(admission.offer(QueryId(id), share(flow, random.u64(..3)), NEVER, s(0)), Ok(None));
            if random.u8(..5) == 0 {
                let line = random.choice(fairness::STRATEGIES).expect("not empty");
                let before = admission.counters();
                admission.set_strategy((line.make)());
                let after = admission.counters();
                assert_eq!((after.active, after.queued, &after.flows), (before.active, before.queued, &before.flows));
                assert_eq!(admission.strategy().0, line.name);
            }
            running.extend(drain(&mut admission, s(1)));
            if random.bool() && !running.is_empty() {
                ended.push(running.swap_remove(random.usize(..running.len())));
                assert!(admission.finish(QueryId(*ended.last().expect("one")), s(1)));
            }
        }
        while let Some(id) = running.pop() {
            assert!(admission.finish(QueryId(id), s(1)));
            ended.push(id);
            running.extend(drain(&mut admission, s(1)));
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..200).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// Nothing is left of a refusal but a count.
#[test]
fn a_hundred_thousand_refusals_leave_nothing_behind() {
    for line in fairness::STRATEGIES {
        let mut admission = with(line.name, 20, 10, 6);
        for id in 0..40 {
            let _ = admission.offer(QueryId(id), share(["green", "pink"][id as usize % 2], id as u64), NEVER, s(0));
        }
        let size = |admission: &Admission| {
            let kept = admission.queue.len() + admission.running.len() + admission.started.len();
            (kept, admission.flows.len(), admission.account.clients(&team("green")))
        };
        let before = size(&admission);
        for id in 0..100_000 {
            let share = share(["green", "pink"][id as usize % 2], id as u64);
            assert!(admission.offer(QueryId(1000 + id), share, NEVER, s(0)).is_err(), "{} {id}", line.name);
        }
        assert_eq!(size(&admission), before, "{}", line.name);
    }
}
