use super::super::tests::share;
use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn start(account: &mut Account, share: &Share) -> Bill {
    account.arrives(share);
    account.starts(share)
}

/// How far `a` is ahead of the flow `other`, which keeps the account busy.
fn ahead(account: &Account, a: &Share, other: &Share) -> Duration {
    account.virtual_times(a).0.ahead_of(account.virtual_times(other).0)
}

#[test]
fn charged_is_what_was_measured_in_the_end() {
    for (increments, rows) in [(vec![], 0), (vec![5], 100), (vec![1, 2, 3], 6000), (vec![0, 900], 9)] {
        let mut account = Account::default();
        let green = share("green", 1);
        let mut bill = start(&mut account, &green);
        account.plans(&mut bill, 1_000_000);
        for more in &increments {
            account.charge(&mut bill, Cost::cpu(ms(*more)), rows);
        }
        account.ends(bill);
        assert_eq!(account.charged(&green.flow), ms(increments.iter().sum()), "{increments:?}");
        assert_eq!((account.total(), account.of(&green.flow), account.clients(&green.flow)), (0, 0, 0));
    }
}

#[test]
fn a_giant_is_billed_when_it_is_planned_and_while_it_runs() {
    let mut account = Account::default();
    let (green, pink) = (share("green", 1), share("pink", 2));
    let keeps_busy = start(&mut account, &pink);
    // The flow learns that a row costs 1 µs.
    let mut first = start(&mut account, &green);
    account.charge(&mut first, Cost::cpu(ms(1)), 1000);
    account.ends(first);
    let before = account.charged(&green.flow);
    let mut giant = start(&mut account, &green);
    account.plans(&mut giant, 5_000_000);
    assert_eq!(account.charged(&green.flow) - before, ms(5000), "by its rows, before it did anything");
    assert!(ahead(&account, &green, &pink) >= ms(4900));
    account.charge(&mut giant, Cost::cpu(ms(3000)), 3_000_000);
    assert_eq!(account.charged(&green.flow) - before, ms(5000), "as estimated so far");
    account.charge(&mut giant, Cost::cpu(ms(4000)), 2_000_000);
    assert_eq!(account.charged(&green.flow) - before, ms(7000), "more than estimated");
    account.ends(giant);
    account.ends(keeps_busy);
}

#[test]
fn an_estimate_that_was_too_high_never_becomes_credit() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut account = Account::default();
        let (green, pink) = (share("green", 1), share("pink", 2));
        account.arrives(&pink);
        let mut sum = Duration::ZERO;
        for _ in 0..30 {
            // Pink goes on in the meantime, and the account's time with it.
            let mut other = start(&mut account, &pink);
            account.charge(&mut other, Cost::cpu(ms(random.u64(0..20))), random.u64(0..1000));
            account.ends(other);
            account.arrives(&green);
            let at_start = account.virtual_times(&green).0;
            let mut bill = account.starts(&green);
            account.plans(&mut bill, random.u64(0..1_000_000));
            for _ in 0..random.u8(0..3) {
                let cost = ms(random.u64(0..30));
                sum += cost;
                account.charge(&mut bill, Cost::cpu(cost), random.u64(0..10_000));
            }
            account.ends(bill);
            assert!(account.virtual_times(&green).0 >= at_start, "green gained by ending, seed {seed}");
            assert_eq!(account.charged(&green.flow), sum, "seed {seed}");
        }
        account.leaves(&pink);
    }
}

#[test]
fn what_comes_after_the_end_is_a_debt_while_others_are_busy() {
    let mut account = Account::default();
    let (green, pink) = (share("green", 1), share("pink", 2));
    let held = Cost { byte_seconds_held: (512 << 20) as f64, ..Cost::default() };
    let busy = start(&mut account, &pink);
    let bill = start(&mut account, &green);
    account.ends(bill);
    account.charge_afterwards(&green, held);
    assert!(ahead(&account, &green, &pink) > ms(900));
    assert_eq!(account.charged(&green.flow), ms(1000));
    account.ends(busy);
    assert_eq!(ahead(&account, &green, &pink), Duration::ZERO, "all start level when nobody is left");
}

#[test]
fn clients_that_come_and_go_are_not_kept() {
    let mut account = Account::default();
    let lasting = start(&mut account, &share("green", 0));
    for client in 1..20_000 {
        let share = share("green", client);
        let mut bill = start(&mut account, &share);
        account.charge(&mut bill, Cost::cpu(ms(client)), 1);
        account.ends(bill);
        let kept = account.clients(&share.flow);
        assert!(kept <= crate::engine::turns::level::DEBTORS_MAX + 1, "{kept} clients");
    }
    account.ends(lasting);
}
