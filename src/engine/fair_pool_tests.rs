use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use futures::FutureExt;

use super::*;
use crate::delivery::QueryId;
use crate::engine::share::Flow;

fn share(flow: &str, query: u128) -> Share {
    Share { flow: Flow(Some(flow.into())), client: 1, query: QueryId(query), weight: 1 }
}

/// A pool of one thread on a clock that each look advances by a millisecond.
fn pool(threads: usize) -> FairPool {
    let ticks = AtomicU64::new(0);
    let clock: Clock = Arc::new(move || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed)));
    FairPool::new(threads, clock).expect("threads")
}

/// A pool of one thread, and what sets its clock, in milliseconds.
fn pool_that_is_told_the_time() -> (FairPool, impl Fn(u64)) {
    let time = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&time);
    let clock: Clock = Arc::new(move || Duration::from_millis(now.load(Ordering::Relaxed)));
    (FairPool::new(1, clock).expect("a thread"), move |millis| time.store(millis, Ordering::Relaxed))
}

/// Holds the pool's only thread until the sender goes.
fn hold(pool: &FairPool) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    pool.spawn(
        &share("held", 0),
        Box::new(move || {
            tell.send(()).expect("the test waits");
            let _ = held.recv();
        }),
    );
    told.recv().expect("the thread runs");
    release
}

#[test]
fn jobs_run_in_turn_and_not_in_order_of_arrival() {
    let pool = pool(1);
    let release = hold(&pool);
    let (done, order) = mpsc::channel();
    for (flow, query) in [("a", 1), ("a", 1), ("a", 1), ("a", 1), ("b", 2), ("b", 2)] {
        let done = done.clone();
        pool.spawn(&share(flow, query), Box::new(move || done.send(query).expect("the test waits")));
    }
    // One that panics takes nobody along.
    pool.spawn(&share("c", 3), Box::new(|| panic!("on purpose")));
    drop((release, done));
    assert_eq!(order.iter().collect::<Vec<u128>>(), [1, 2, 1, 2, 1, 1]);
}

#[test]
fn a_turn_elsewhere_waits_for_its_place_and_is_passed_on_when_dropped() {
    let pool = pool(1);
    let share = share("a", 1);
    let first = pool.turn(&share).now_or_never().expect("the node is idle");
    let mut second = Box::pin(pool.turn(&share));
    let mut third = Box::pin(pool.turn(&share));
    let mut fourth = Box::pin(pool.turn(&share));
    assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
    assert!(fourth.as_mut().now_or_never().is_none());
    assert_eq!(pool.load(), (1, 3));
    // Who does not want it any more is passed over; who got it and never looked gives it back.
    drop(second);
    drop(first);
    drop(third);
    let fourth = fourth.now_or_never().expect("its turn");
    let (tell, told) = mpsc::channel();
    pool.spawn(&share, Box::new(move || tell.send(()).expect("the test waits")));
    assert!(told.try_recv().is_err(), "the only turn is given");
    drop(fourth);
    told.recv().expect("the job ran");
}

#[test]
fn who_holds_a_turn_for_too_long_does_not_keep_the_others_waiting() {
    let (pool, at) = pool_that_is_told_the_time();
    let (tell, told) = mpsc::channel();
    let spawn = || {
        let tell = tell.clone();
        pool.spawn(&share("b", 2), Box::new(move || tell.send(()).expect("the test waits")));
    };
    let until = |load: (usize, usize)| {
        while pool.load() != load {
            std::thread::yield_now();
        }
    };
    let long = pool.long_turn(&share("a", 1)).now_or_never().expect("the node is idle");
    spawn();
    at(10);
    pool.lend();
    assert_eq!(pool.load(), (1, 1), "not yet too long");
    at(11);
    pool.lend();
    told.recv().expect("the job ran beside it");
    until((1, 0));
    spawn();
    told.recv().expect("so does what comes later");
    until((1, 0));
    // Once it is back, one turn is one turn again: what waits goes on waiting for the one that was lent.
    let release = hold(&pool);
    spawn();
    assert_eq!(pool.load(), (2, 1));
    drop(long);
    assert_eq!(pool.load(), (1, 1));
    drop(release);
    told.recv().expect("its turn");
    until((0, 0));
    // Who did not say that it may take long keeps its turn.
    let held = pool.turn(&share("a", 1)).now_or_never().expect("the node is idle");
    spawn();
    at(1_000);
    pool.lend();
    assert_eq!(pool.load(), (1, 1));
    drop(held);
    told.recv().expect("its turn");
}

#[test]
fn who_wants_to_know_is_told_once_that_a_turn_is_left_over() {
    let pool = pool(1);
    let is_told = |pool: &FairPool| pool.idled().now_or_never().is_some();
    let take = || pool.turn(&share("a", 1)).now_or_never().expect("the node is idle");
    drop(take());
    assert!(pool.is_idle() && !is_told(&pool), "nobody wanted to know");
    let held = take();
    pool.want_idleness(true);
    assert!(!pool.is_idle() && !is_told(&pool));
    drop(held);
    assert!(is_told(&pool) && !is_told(&pool));
    // One that is left over now counts only for who has not seen it.
    pool.want_idleness(false);
    assert!(!is_told(&pool));
    drop(take());
    assert!(is_told(&pool));
    pool.want_idleness(true);
    assert!(is_told(&pool));
}

#[test]
fn random_traffic_leaves_every_turn_free() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pool = pool(random.usize(1..4));
        let (tell, told) = mpsc::channel();
        let mut waiting = Vec::new();
        let jobs = random.usize(1..200);
        for job in 0..jobs {
            let share = share(&random.u8(0..3).to_string(), random.u128(0..5));
            let tell = tell.clone();
            pool.spawn(&share, Box::new(move || tell.send(job).expect("the test waits")));
            let asked = pool.clone();
            let mut turn = Box::pin(async move { asked.turn(&share).await });
            if turn.as_mut().now_or_never().is_none() {
                waiting.push(turn);
            }
            waiting.truncate(random.usize(0..5));
        }
        drop((waiting, tell));
        let mut ran: Vec<usize> = told.iter().collect();
        ran.sort_unstable();
        assert_eq!(ran, (0..jobs).collect::<Vec<_>>(), "seed {seed}");
        // The last thread hands its turn back a moment after its job's last word.
        while pool.load() != (0, 0) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn who_was_served_less_gets_a_short_turn_beside_the_others() {
    let (pool, at) = pool_that_is_told_the_time();
    let ask = |flow: &str| {
        let (pool, share) = (pool.clone(), share(flow, 1));
        Box::pin(async move { pool.turn(&share).await })
    };
    let first = ask("a").now_or_never().expect("the node is idle");
    let mut second = ask("a");
    assert!(second.as_mut().now_or_never().is_none(), "it was served as much as itself");
    at(20);
    drop(first);
    let second = second.now_or_never().expect("its turn");
    assert_eq!(pool.load(), (1, 0));
    // Another comes, which has had nothing for 20 ms.
    let beside = ask("b").now_or_never().expect("a turn beside that");
    let (mut third, mut next) = (ask("a"), ask("b"));
    assert!(next.as_mut().now_or_never().is_none(), "one at a time");
    assert!(third.as_mut().now_or_never().is_none(), "who has the cores waits");
    assert_eq!(pool.load(), (1, 2));
    at(30);
    drop(beside);
    let beside = next.now_or_never().expect("10 ms are still less than 20");
    at(40);
    drop(beside);
    assert!(ask("b").now_or_never().is_none(), "it was charged 20 ms by now");
    // What may take long is never beside the others.
    let newcomer = share("c", 2);
    let mut long = Box::pin(pool.long_turn(&newcomer));
    assert!(long.as_mut().now_or_never().is_none());
    assert_eq!(pool.load(), (1, 3));
    drop((second, third, long));
    assert_eq!(pool.load(), (0, 0));
}
