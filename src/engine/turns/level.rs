//! One level of shares: members side by side, each with a weight and a virtual time, which is what it was served
//! divided by its weight. Whoever is behind comes first.
//!
//! This is start-time fair queueing. The level's own time is that of the member served last, when its service began. A
//! member that comes back from idling starts there: it gets no credit for the time in which it wanted nothing. A member
//! that was served beyond it keeps that debt. While two members both want service, what they get divided by their
//! weights never differs by more than one service of each, times the number of servers: only the one behind is served,
//! so it can pull ahead by no more than what it was just given.
//!
//! A level may grant a small *credit*: who comes back starts that far behind the level's time at most, but never behind
//! where it stood itself. So it can take up at once what it left to others just before, which makes bursts of a modest
//! member quick, and over any time it gets at most its share and once the credit. Not to be granted where anybody can
//! make a new member.
//!
//! Bounded: idle members without debt are forgotten at once, of those with debt the newest [`DEBTORS_MAX`] or so are
//! kept, the least debts going first; when nobody wants anything all start level again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Idle members with a debt that are remembered.
pub const DEBTORS_MAX: usize = 1024;

/// Service divided by weight, in picoseconds of a core at the highest weight, 1000. 128 bits never run over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualTime(u128);

impl VirtualTime {
    /// So much service later, for a member of this weight.
    pub fn plus(self, cost: Duration, weight: u32) -> VirtualTime {
        VirtualTime(self.0.saturating_add(virtual_cost(cost, weight)))
    }

    /// So much service earlier.
    pub fn minus(self, cost: Duration, weight: u32) -> VirtualTime {
        VirtualTime(self.0.saturating_sub(virtual_cost(cost, weight)))
    }

    /// How far it is ahead of another time, as service of a member of weight 1.
    pub fn ahead_of(self, other: VirtualTime) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(other.0) / 1000).unwrap_or(u64::MAX))
    }
}

fn virtual_cost(cost: Duration, weight: u32) -> u128 {
    cost.as_nanos() * 1000 / u128::from(weight.max(1))
}

struct Member<C> {
    time: VirtualTime,
    weight: u32,
    /// What waits or is being served. At 0 the member is idle.
    users: usize,
    is_ready: bool,
    inner: C,
}

/// Members of one level; each carries something of the caller's, `C`.
pub struct Level<K, C = ()> {
    members: BTreeMap<K, Member<C>>,
    /// Those with something to serve, the next first.
    ready: BTreeSet<(VirtualTime, K)>,
    /// Those that are idle and ahead, the least first.
    debtors: BTreeSet<(VirtualTime, K)>,
    now: VirtualTime,
    credit: Duration,
    active: usize,
}

impl<K, C> Default for Level<K, C> {
    fn default() -> Level<K, C> {
        Level::with_credit(Duration::ZERO)
    }
}

impl<K, C> Level<K, C> {
    /// A level that grants a credit, told as service of a member of weight 1.
    pub fn with_credit(credit: Duration) -> Level<K, C> {
        let (members, ready, debtors) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Level { members, ready, debtors, now: VirtualTime::default(), credit, active: 0 }
    }
}

impl<K: Ord + Clone, C: Default> Level<K, C> {
    /// One more thing of this member's waits. Its newest weight counts.
    pub fn join(&mut self, key: &K, weight: u32) -> &mut C {
        let start = self.start();
        let member = self.members.entry(key.clone()).or_insert_with(|| Member {
            time: start,
            weight,
            users: 0,
            is_ready: false,
            inner: C::default(),
        });
        if member.users == 0 {
            self.debtors.remove(&(member.time, key.clone()));
            member.time = member.time.max(start);
            self.active += 1;
        }
        member.users += 1;
        member.weight = weight;
        &mut member.inner
    }

    /// One thing that had joined is done, or not wanted any more.
    pub fn leave(&mut self, key: &K) {
        let member = self.members.get_mut(key).expect("who leaves has joined");
        member.users -= 1;
        if member.users > 0 {
            return;
        }
        self.active -= 1;
        let time = member.time;
        if self.active > 0 {
            self.debtors.insert((time, key.clone()));
            self.forget();
            return;
        }
        // Nobody is left to whom a debt would matter.
        self.now = self.members.values().map(|member| member.time).max().unwrap_or(self.now).max(self.now);
        self.members.clear();
        self.debtors.clear();
    }

    /// Whether the member has something to serve.
    pub fn set_ready(&mut self, key: &K, ready: bool) {
        let member = self.members.get_mut(key).expect("who is ready has joined");
        if ready && !member.is_ready {
            self.ready.insert((member.time, key.clone()));
        } else if !ready && member.is_ready {
            self.ready.remove(&(member.time, key.clone()));
        }
        member.is_ready = ready;
    }

    /// Who comes next of those that are ready.
    pub fn first(&self) -> Option<&K> {
        self.ready.first().map(|(_, key)| key)
    }

    /// The member's service begins: the level's time comes up to it.
    pub fn begin(&mut self, key: &K) {
        self.now = self.now.max(self.time(key));
        self.forget();
    }

    /// The member was served so much. One that is idle is charged as well, as long as there are others.
    pub fn charge(&mut self, key: &K, cost: Duration, weight: u32) {
        if !self.members.contains_key(key) {
            if self.active == 0 || cost.is_zero() {
                return;
            }
            let member = Member { time: self.start(), weight, users: 0, is_ready: false, inner: C::default() };
            self.members.insert(key.clone(), member);
        }
        self.set_time(key, |time, weight| time.plus(cost, weight));
    }

    /// The member was charged so much too much. It was charged before and is not idle, so it comes back to where it would
    /// be without that charge, and gains nothing by it.
    pub fn refund(&mut self, key: &K, cost: Duration) {
        if self.members.contains_key(key) {
            self.set_time(key, |time, weight| time.minus(cost, weight));
        }
    }

    /// The member's virtual time; if it is idle, that at which it would start.
    pub fn time(&self, key: &K) -> VirtualTime {
        match self.members.get(key) {
            Some(member) if member.users > 0 => member.time,
            Some(member) => member.time.max(self.start()),
            None => self.start(),
        }
    }

    /// How far a member is behind the level's time, as service of a member of weight 1.
    pub fn behind(&self, key: &K) -> Duration {
        self.now.ahead_of(self.time(key))
    }

    /// What the member carries.
    pub fn get(&self, key: &K) -> Option<&C> {
        self.members.get(key).map(|member| &member.inner)
    }

    /// What the member carries.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut C> {
        self.members.get_mut(key).map(|member| &mut member.inner)
    }

    /// Members that are remembered.
    pub fn remembered(&self) -> usize {
        self.members.len()
    }

    /// Members that want something.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Where a member starts that has no debt.
    fn start(&self) -> VirtualTime {
        self.now.minus(self.credit, 1)
    }

    fn set_time(&mut self, key: &K, new: impl FnOnce(VirtualTime, u32) -> VirtualTime) {
        let Some(member) = self.members.get_mut(key) else { return };
        let before = member.time;
        member.time = new(before, member.weight);
        let after = member.time;
        if member.is_ready {
            self.ready.remove(&(before, key.clone()));
            self.ready.insert((after, key.clone()));
        }
        if member.users == 0 {
            self.debtors.remove(&(before, key.clone()));
            self.debtors.insert((after, key.clone()));
            self.forget();
        }
    }

    /// Takes out who is idle and would start at the level's time anyway, and the least debts beyond the bound.
    fn forget(&mut self) {
        let start = self.start();
        while let Some((time, key)) = self.debtors.first()
            && (*time <= start || self.debtors.len() > DEBTORS_MAX)
        {
            self.members.remove(key);
            self.debtors.pop_first();
        }
    }
}
