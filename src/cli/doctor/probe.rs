//! Asks every node of the configuration how it is, from here, within two seconds.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::TcpStream;

use crate::cli::target::Target;
use crate::client::Client;
use crate::config::Config;
use crate::node::status::NodeStatus;
use crate::routing::NodeId;

/// How long one node is asked.
pub const PROBE_MAX: Duration = Duration::from_secs(2);
/// How often its clock is read: the quickest answer says it best.
const CLOCK_SAMPLES: usize = 4;
/// Links that were only just started are looked at again after this.
const SETTLE: Duration = Duration::from_millis(1500);

/// What one process of the configuration is like from here.
#[derive(Debug, Clone)]
pub struct Probe {
    pub id: NodeId,
    pub host: String,
    /// `None`: port 0 and it does not run here.
    pub address: Option<String>,
    /// Whether its address is this machine's.
    pub local: bool,
    pub seen: Seen,
}

/// What answered.
#[derive(Debug, Clone)]
pub enum Seen {
    Answers {
        status: Box<NodeStatus>,
        clock: Clock,
    },
    /// The host is there and nothing listens.
    Refused,
    /// No answer in time, or no way there.
    Silent(String),
    /// Something answers that is no node.
    Strange(String),
    /// There is no address to ask.
    Nowhere,
}

/// Another host's clock against this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub round_trip: Duration,
    /// Microseconds by which it is ahead, wrong by half of the round trip at the most. `None`: it did not tell.
    pub ahead_us: Option<i64>,
}

impl Probe {
    /// Whether it certainly does not run: its host says so.
    pub fn is_gone(&self) -> bool {
        matches!(self.seen, Seen::Refused) || (self.local && matches!(self.seen, Seen::Nowhere))
    }

    /// What the node says, if it is the one that is meant.
    pub fn status(&self) -> Option<&NodeStatus> {
        match &self.seen {
            Seen::Answers { status, .. } if status.process_id == self.id => Some(status),
            _ => None,
        }
    }
}

/// Asks all at once; once more if links between nodes that run are missing, which may be about to come up.
pub async fn all(target: &Target, local: &[NodeId]) -> Vec<Probe> {
    let once =
        async || futures::future::join_all(target.config.processes.keys().map(|id| one(target, id, local))).await;
    let probes = once().await;
    if has_all_links(&target.config, &probes) {
        return probes;
    }
    tokio::time::sleep(SETTLE).await;
    once().await
}

fn has_all_links(config: &Config, probes: &[Probe]) -> bool {
    let status = |id: &NodeId| probes.iter().find(|probe| probe.id == *id).and_then(Probe::status);
    config.links().links().all(|link| {
        let (a, b) = link.ends();
        match (status(a), status(b)) {
            (Some(at_a), Some(at_b)) => at_a.links.contains(b) && at_b.links.contains(a),
            _ => true,
        }
    })
}

async fn one(target: &Target, id: &NodeId, local: &[NodeId]) -> Probe {
    let host = target.config.process(id).map(|process| process.host.clone()).unwrap_or_default();
    let address = target.address(id).ok();
    let seen = match &address {
        None => Seen::Nowhere,
        Some(address) => {
            let silent = format!("no answer within {} s", PROBE_MAX.as_secs());
            tokio::time::timeout(PROBE_MAX, look(address)).await.unwrap_or(Seen::Silent(silent))
        }
    };
    Probe { id: id.clone(), host, address, local: local.contains(id), seen }
}

async fn look(address: &str) -> Seen {
    // A plain connection first: the system's own word says more than what gRPC makes of it.
    if let Err(error) = TcpStream::connect(address).await {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => Seen::Refused,
            _ => Seen::Silent(error.to_string()),
        };
    }
    let client = Client::new(address);
    let mut answer: Option<(NodeStatus, Clock)> = None;
    for _ in 0..CLOCK_SAMPLES {
        let (before, start) = (unix_us(), Instant::now());
        let status = match client.status(PROBE_MAX).await {
            Ok(status) => status,
            Err(failure) => match answer {
                Some(_) => break,
                None => return Seen::Strange(failure.message),
            },
        };
        let clock = clock(before, start.elapsed(), status.unix_us);
        if answer.as_ref().is_none_or(|(_, best)| clock.round_trip < best.round_trip) {
            answer = Some((status, clock));
        }
    }
    match answer {
        Some((status, clock)) => Seen::Answers { status: Box::new(status), clock },
        None => Seen::Strange("it said nothing".to_owned()),
    }
}

/// The other clock was read about half a round trip after the question left.
fn clock(before_us: u64, round_trip: Duration, their_us: u64) -> Clock {
    let half = u64::try_from(round_trip.as_micros() / 2).unwrap_or(u64::MAX);
    let ours = i128::from(before_us) + i128::from(half);
    let ahead = i64::try_from(i128::from(their_us) - ours).ok();
    Clock { round_trip, ahead_us: ahead.filter(|_| their_us != 0) }
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_round_trip() {
        let trip = Duration::from_millis(10);
        for (their_us, ahead) in
            [(1_005_000, Some(0)), (1_605_000, Some(600_000)), (5_000, Some(-1_000_000)), (0, None)]
        {
            assert_eq!(clock(1_000_000, trip, their_us).ahead_us, ahead);
        }
    }
}
