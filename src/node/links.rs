//! The tasks that keep this node's links: hello, then news as it comes, at least once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::membership::{FORGET_AFTER, Membership};
use crate::failure::FailureKind;
use crate::routing::NodeId;
use crate::routing::announcements::Load;
use crate::transport::peer::{PeerLink, PeerLinks};
use crate::transport::services::{Hello, LinkKind};

/// How often a node speaks when there is nothing to say.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a neighbour may take. Generous: on a busy machine a process waits for its turn.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after a failed exchange.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The pause after a refusal, which only a person can mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// Keeps one link: a configured one until the node ends, an adopted one until the peer refuses it or stays away. Gives
/// why it ended.
pub async fn keep_link(
    membership: Arc<Membership>,
    links: Arc<PeerLinks>,
    neighbor: NodeId,
    link: PeerLink,
    hello: Hello,
) -> String {
    let mut link = link;
    let is_configured = hello.kind == LinkKind::Configured;
    // Who is asked to take a link and is not there is not waited for.
    let mut patience = if hello.kind == LinkKind::Adopted { Duration::ZERO } else { FORGET_AFTER };
    let mut heard = Instant::now();
    let mut news = membership.news();
    'greet: loop {
        let hello = Hello { incarnation: membership.instance().incarnation, ..hello.clone() };
        let greeted = match link.hello(hello, EXCHANGE_TIMEOUT).await {
            Ok(answer) if answer.process_id == neighbor => answer,
            Ok(answer) => {
                let refusal = format!("{} answers at the address of {neighbor}", answer.process_id);
                if !is_configured {
                    return refusal;
                }
                tracing::error!("{refusal}");
                membership.refused(refusal);
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue 'greet;
            }
            Err(failure) => {
                let refused = matches!(failure.kind, FailureKind::FailedPrecondition | FailureKind::AlreadyExists);
                if !is_configured && (refused || heard.elapsed() >= patience) {
                    return failure.to_string();
                }
                if refused {
                    tracing::error!(%neighbor, %failure, "the link is refused");
                    membership.refused(format!("{neighbor} refuses the link: {failure}"));
                }
                membership.untold(&neighbor, None, failure.kind == FailureKind::Unavailable);
                if failure.kind == FailureKind::DeadlineExceeded {
                    link = link.reconnected();
                    links.insert(neighbor.clone(), link.clone());
                }
                tokio::time::sleep(if refused { REFUSED_PAUSE } else { RETRY_PAUSE }).await;
                continue 'greet;
            }
        };
        membership.at_least_incarnation(greeted.newest_incarnation);
        membership.greeted(&neighbor, greeted.nonce);
        (patience, heard) = (FORGET_AFTER, Instant::now());
        loop {
            // Marked before reading, so that what comes in between wakes the next round.
            news.mark_unchanged();
            let outgoing = membership.outgoing(&neighbor);
            let asked = Instant::now();
            match link.announce(outgoing.news.clone(), EXCHANGE_TIMEOUT).await {
                Ok(answer) => {
                    let restarted = answer.nonce != greeted.nonce;
                    membership.told(&neighbor, &outgoing, &answer, asked.elapsed());
                    heard = Instant::now();
                    if restarted {
                        continue 'greet;
                    }
                }
                Err(failure) => {
                    let gone = failure.kind == FailureKind::Unavailable;
                    membership.untold(&neighbor, Some(outgoing), gone);
                    if failure.kind == FailureKind::DeadlineExceeded {
                        // Whatever holds this connection up must not hold up the link once the peer is back.
                        link = link.reconnected();
                        links.insert(neighbor.clone(), link.clone());
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue 'greet;
                }
            }
            // News wakes at once; without any, the interval keeps the link counted as live.
            let _ = tokio::time::timeout(ANNOUNCE_INTERVAL, news.changed()).await;
        }
    }
}

/// Speaks every second, and forgets who does not.
pub async fn keep_announcing(membership: Arc<Membership>, load: impl Fn() -> Load + Send) {
    let mut ticks = tokio::time::interval(ANNOUNCE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        membership.expire();
        membership.set_load(load());
        membership.announce_self();
    }
}
