//! What this node does for its neighbours: answers hello, takes news, runs scans.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;

use super::adopted::AdoptedLinks;
use super::membership::Membership;
use super::trace::Tracer;
use crate::config::fingerprint::Fingerprint;
use crate::engine::hop::{Hop, ScanStream};
use crate::engine::message::{BranchFailure, ScanMessage, ScanRequest};
use crate::engine::scan::Output;
use crate::engine::stop::{Stop, StopReason};
use crate::failure::{Failure, FailureKind};
use crate::routing::trace::{TraceHop, TraceRequest};
use crate::routing::{self, Load, NodeId};
use crate::transport::peer::PeerLinks;
use crate::transport::services::{Hello, HelloAnswer, LinkKind, News, NewsAnswer, PeerService};

/// Scans under way at one node, at most: the Leader's 100 running queries with ten leaves each. More are refused.
const SCANS_MAX: usize = 1000;
/// How long the process that a link was made with may take to show that it is still there.
const PROBE_TIMEOUT: Duration = Duration::from_millis(700);

/// Serves neighbours.
pub struct Peers {
    pub membership: Arc<Membership>,
    pub hop: Arc<Hop>,
    pub links: Arc<PeerLinks>,
    pub adopted: Arc<AdoptedLinks>,
    pub tracer: Tracer,
    pub fingerprint: Fingerprint,
    pub scans: Arc<AtomicUsize>,
    /// Told of rows and bytes that leave this node.
    pub sent: Arc<dyn Fn(u64, u64) + Send + Sync>,
    /// How busy this node is.
    pub load: Arc<dyn Fn() -> Load + Send + Sync>,
}

#[async_trait]
impl PeerService for Peers {
    async fn hello(&self, hello: Hello) -> Result<HelloAnswer, Failure> {
        let me = self.membership.me();
        let refuse =
            |reason: &str, message: String| Err(Failure::new(FailureKind::FailedPrecondition, reason, message).at(me));
        let theirs = Fingerprint::from_keys(hello.fingerprint.clone());
        let differences = self.fingerprint.differences(&theirs);
        if !differences.is_empty() {
            let keys = differences.join(", ");
            let message = format!("the configurations of {me} and {} differ in {keys}", hello.process_id);
            return refuse("FINGERPRINT", message);
        }
        if let Err((reason, message)) = self.may_link(&hello) {
            return refuse(reason, message);
        }
        if let Some(before) = self.membership.live_process(&hello.process_id)
            && before != hello.nonce
            && self.still_answers(&hello.process_id, hello.kind, before).await
        {
            let message = format!("another process runs as {} already", hello.process_id);
            return Err(Failure::new(FailureKind::AlreadyExists, "ID_IN_USE", message).at(me));
        }
        if hello.kind == LinkKind::Adopted {
            self.adopted.begin(&hello.process_id, LinkKind::AdoptedBack);
        }
        Ok(HelloAnswer {
            process_id: me.clone(),
            incarnation: self.membership.instance().incarnation,
            newest_incarnation: self.membership.newest_incarnation(&hello.process_id),
            nonce: self.membership.nonce(),
        })
    }

    fn announce(&self, news: News) -> Result<NewsAnswer, Failure> {
        let answer = self.membership.receive(news)?;
        Ok(NewsAnswer { load: Some((self.load)()), ..answer })
    }

    fn scan(&self, request: ScanRequest) -> Result<ScanStream, Failure> {
        let me = self.membership.me();
        let newest = self.membership.newest_incarnation(&request.leader.id);
        if request.leader.incarnation < newest {
            let message = format!("{} was started again since this was ordered", request.leader.id);
            return Err(Failure::new(FailureKind::FailedPrecondition, "OLD_LEADER", message).at(me));
        }
        if request.hops.contains(me) {
            let route = routing::names(&request.hops, " → ");
            let message = format!("loop: {me} is on the route already ({route})");
            return Err(Failure::new(FailureKind::Internal, "LOOP", message).at(me));
        }
        let Some(running) = Running::begin(&self.scans) else {
            let message = format!("{SCANS_MAX} scans are running");
            return Err(Failure::new(FailureKind::ResourceExhausted, "SCANS", message).at(me));
        };
        let stop = Stop::default();
        let timer = Timer(tokio::spawn({
            let (stop, time_left) = (stop.clone(), request.time_left);
            async move {
                tokio::time::sleep(time_left).await;
                stop.set(StopReason::Deadline);
            }
        }));
        let messages = self.hop.run(request, stop, Output::ForPeer);
        let held_until_dropped = (running, timer);
        let (me, load, sent) = (me.clone(), Arc::clone(&self.load), Arc::clone(&self.sent));
        Ok(messages
            .map(move |message| {
                let _ = &held_until_dropped;
                match message {
                    ScanMessage::Done { work, skipped, load: None } if work.node == me => {
                        ScanMessage::Done { work, skipped, load: Some(without_one(load())) }
                    }
                    // Of no partition: the scan was stopped, and this is its last word.
                    ScanMessage::Failed(failure) if failure.node == me && failure.partitions.is_empty() => {
                        ScanMessage::Failed(BranchFailure { load: Some(without_one(load())), ..failure })
                    }
                    ScanMessage::Zones(answers) => {
                        let rows = answers.iter().map(|answer| answer.rows).sum();
                        let bytes = answers.iter().map(|answer| answer.payload.bytes_sent()).sum();
                        sent(rows, bytes);
                        ScanMessage::Zones(answers)
                    }
                    other => other,
                }
            })
            .boxed())
    }

    async fn trace(&self, request: TraceRequest) -> Result<TraceHop, Failure> {
        self.tracer.follow(request).await
    }
}

/// The load without the scan that ends with the word that carries it.
fn without_one(load: Load) -> Load {
    Load { active: load.active.saturating_sub(1), ..load }
}

impl Peers {
    /// Whether there may be such a link to the caller; else a reason and a message.
    fn may_link(&self, hello: &Hello) -> Result<(), (&'static str, String)> {
        let (me, config, peer) = (self.membership.me(), self.membership.config(), &hello.process_id);
        let is_configured = config.process(me).is_some_and(|process| process.neighbors.contains(peer));
        match hello.kind {
            LinkKind::Configured if is_configured => Ok(()),
            LinkKind::AdoptedBack if self.adopted.has_adopted(peer) => Ok(()),
            LinkKind::Adopted
                if config.adopt_links && !is_configured && peer != me && config.process(peer).is_some() =>
            {
                if self.membership.hears_leader_without(peer) {
                    return Ok(());
                }
                Err(("NO_LEADER", format!("{me} does not hear the leader without {peer}")))
            }
            LinkKind::Configured => Err(("NOT_A_NEIGHBOR", format!("{me} has no link to {peer} in its configuration"))),
            LinkKind::Adopted | LinkKind::AdoptedBack => {
                Err(("NOT_ADOPTED", format!("{me} has no adopted link to {peer}")))
            }
        }
    }

    /// Whether the process that this node has a live link to is still that one.
    async fn still_answers(&self, id: &NodeId, kind: LinkKind, nonce: u64) -> bool {
        let Some(link) = self.links.get(id) else { return false };
        let me = self.membership.instance();
        let probe = Hello {
            process_id: me.id,
            incarnation: me.incarnation,
            nonce: self.membership.nonce(),
            fingerprint: self.fingerprint.keys().clone(),
            // The same link, seen from this end.
            kind: match kind {
                LinkKind::Configured => LinkKind::Configured,
                LinkKind::Adopted => LinkKind::AdoptedBack,
                LinkKind::AdoptedBack => LinkKind::Adopted,
            },
        };
        link.hello(probe, PROBE_TIMEOUT).await.is_ok_and(|answer| answer.nonce == nonce)
    }
}

/// Counts a scan from its begin to the drop of its stream.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(scans: &Arc<AtomicUsize>) -> Option<Running> {
        let begun = scans.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < SCANS_MAX).then_some(n + 1));
        begun.ok().map(|_| Running(Arc::clone(scans)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Ends with the stream it watches over.
struct Timer(tokio::task::JoinHandle<()>);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
