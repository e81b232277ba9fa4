//! Measures what taking access away takes: opens a port between two nodes, has them keep a flow going, and closes it.
//!
//! When the flow died is told by how long before its report the sender had its last answer, so no two clocks need to
//! agree; what the report itself takes counts as if the flow had lived for as long.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ringfence_control::api::{RevokeDrillReport, RevokeDrillRequest};
use ringfence_control::{DrillOrder, DrillPart, DrillReport, PeerKind, Probe, ProbeOrder, ProbeVerdict};
use ringfence_controlplane::{Actor, Command, Controller, DrillCommand, DrillRefusal, Refusal};
use ringfence_model::{Name, NodeId, Revision};
use ringfence_policy::{PortRange, Service};

use crate::core::{CommitError, CoreGone, CoreHandle, entropy, wall_now};
use crate::sessions::{AskError, Sessions};

/// Why nothing was measured. What was opened is closed again.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// There is no such perimeter that the actor may see.
    #[error("there is no perimeter {0}")]
    NoPerimeter(Name),
    /// Two nodes are needed.
    #[error("{0}")]
    Nodes(String),
    /// The controller refused it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A node did not do its part.
    #[error("{node}: {why}")]
    Part {
        /// Which.
        node: Name,
        /// Why.
        why: String,
    },
    /// The flow goes on.
    #[error(
        "the flow from {from} to {to} went on for {waited:?} after revision {revision} had taken its rule away: see `ringfence receipt {revision}`"
    )]
    Alive {
        /// Who opened it.
        from: Name,
        /// Who is reached.
        to: Name,
        /// What should have ended it.
        revision: Revision,
        /// For how long it was waited.
        waited: Duration,
    },
    /// Shutting down.
    #[error(transparent)]
    Gone(#[from] CoreGone),
}

/// One of the two.
#[derive(Clone)]
struct End {
    node: NodeId,
    name: Name,
    v4: Ipv4Addr,
}

impl End {
    fn failed(&self, why: &str) -> DrillError {
        DrillError::Part {
            node: self.name.clone(),
            why: why.to_owned(),
        }
    }
}

/// A drill in a perimeter, by the actor who asked for it.
struct Drill<'a> {
    core: &'a CoreHandle,
    sessions: &'a Sessions,
    actor: Actor,
    perimeter: Name,
    from: End,
    to: End,
    port: u16,
}

/// Holds one drill.
///
/// # Errors
/// [`DrillError`].
pub async fn revoke(
    core: &CoreHandle,
    sessions: &Sessions,
    (actor, request): (Actor, RevokeDrillRequest),
) -> Result<RevokeDrillReport, DrillError> {
    let port = free_port()?;
    let (asker, perimeter) = (actor.clone(), request.perimeter.clone());
    let ends = core.with(move |core| choose(core.controller(), &asker, &request, port));
    let (from, to) = ends.await??;
    let drill = Drill {
        core,
        sessions,
        actor,
        perimeter,
        from,
        to,
        port,
    };
    drill
        .part(&drill.to, DrillPart::Answer { port }, ANSWERER_LENGTH)
        .await?;
    let opened = drill.commit(drill.begin()).await?;
    let measured = drill.measure(opened).await;
    if measured.is_err() {
        // The clock ends it too, should this fail.
        let _ = drill.commit(drill.end()).await;
    }
    measured
}

impl Drill<'_> {
    async fn measure(&self, opened: Revision) -> Result<RevokeDrillReport, DrillError> {
        self.enforced(opened).await?;
        self.until_open().await?;
        let dst = (self.to.v4, self.port).into();
        let flow = self.part(&self.from, DrillPart::Send { dst }, FLOW_LENGTH);
        let cut = async {
            tokio::time::sleep(FLOW_LIVES).await;
            let ordered = Instant::now();
            self.commit(self.end()).await.map(|revision| (ordered, revision))
        };
        let (flow, cut) = tokio::join!(async { flow.await.map(|report| (report, Instant::now())) }, cut);
        let (ordered, revision) = cut?;
        let (report, heard) = flow?;
        let quiet = Duration::from_micros(report.quiet_us);
        if report.answered == 0 {
            return Err(self.from.failed("no answer came through while the port was open"));
        }
        if quiet < Duration::from_millis(DrillOrder::QUIET_MS) {
            return Err(DrillError::Alive {
                from: self.from.name.clone(),
                to: self.to.name.clone(),
                revision,
                waited: heard.saturating_duration_since(ordered),
            });
        }
        let silent = heard.checked_sub(quiet).unwrap_or(ordered);
        if ordered.saturating_duration_since(silent) > FLOW_LIVES {
            return Err(self.from.failed("the flow had stopped before it was taken away"));
        }
        let silent = silent.saturating_duration_since(ordered);
        let enforced = self.enforced(revision).await?;
        Ok(RevokeDrillReport {
            perimeter: self.perimeter.clone(),
            from: self.from.name.clone(),
            to: self.to.name.clone(),
            port: self.port,
            revision,
            answered: report.answered,
            silent_ms: millis(silent),
            enforced_ms: millis(enforced),
            took_ms: millis(silent.max(enforced)),
        })
    }

    /// Waits until both enforce a revision: how long that took the second of them.
    async fn enforced(&self, revision: Revision) -> Result<Duration, DrillError> {
        let ends = [self.from.node, self.to.node];
        let mut progress = self.core.progress();
        let until = tokio::time::Instant::now() + ENFORCED_WAIT;
        loop {
            progress.mark_unchanged();
            let look = move |core: &mut crate::core::Core| {
                let receipt = core.controller().revision_receipt(revision)?;
                let words = receipt.enforced.iter().filter(|ack| ends.contains(&ack.id));
                let words: Vec<u64> = words.map(|ack| ack.after_ms).collect();
                (words.len() == ends.len())
                    .then(|| words.into_iter().max())
                    .flatten()
            };
            if let Some(after) = self.core.with(look).await? {
                return Ok(Duration::from_millis(after));
            }
            if tokio::time::timeout_at(until, progress.changed()).await.is_err() {
                let why = format!(
                    "one of the two has not enforced revision {revision} within {ENFORCED_WAIT:?}: see `ringfence receipt {revision}`"
                );
                return Err(DrillError::Nodes(why));
            }
        }
    }

    /// Tries until something comes back: the tunnel may have to be built first.
    async fn until_open(&self) -> Result<(), DrillError> {
        let dst = (self.to.v4, self.port).into();
        for _ in 0..OPEN_TRIES {
            let order = ProbeOrder {
                id: self.sessions.next_id(),
                perimeter: Some(self.perimeter.clone()),
                probes: vec![Probe::UdpSend { dst }],
                wait_ms: OPEN_TRY_MS,
            };
            let report = self.sessions.probe(self.from.node, order).await;
            let report = report.map_err(|error| self.from.failed(&error.to_string()))?;
            let answered = |verdict| verdict == ProbeVerdict::Answered;
            if report
                .results
                .first()
                .is_some_and(|outcome| answered(outcome.verdict))
            {
                return Ok(());
            }
        }
        let why = format!(
            "it gets no answer from {} on udp/{}, which is open to it: is there a firewall of the host's own?",
            self.to.name, self.port
        );
        Err(self.from.failed(&why))
    }

    async fn part(&self, end: &End, part: DrillPart, length: Duration) -> Result<DrillReport, DrillError> {
        let order = DrillOrder {
            id: self.sessions.next_id(),
            perimeter: self.perimeter.clone(),
            part,
            wait_ms: millis(length),
        };
        let report = self.sessions.drill(end.node, order).await;
        let report = report.map_err(|error: AskError| end.failed(&error.to_string()))?;
        if report.failure.is_empty() {
            Ok(report)
        } else {
            Err(end.failed(&report.failure))
        }
    }

    async fn commit(&self, command: DrillCommand) -> Result<Revision, DrillError> {
        let change = self
            .core
            .commit(self.actor.clone(), Command::Drill(command))
            .await?;
        Ok(change?.revision)
    }

    fn begin(&self) -> DrillCommand {
        DrillCommand::Begin {
            perimeter: self.perimeter.clone(),
            from: self.from.node,
            to: self.to.node,
            port: self.port,
        }
    }

    fn end(&self) -> DrillCommand {
        DrillCommand::End {
            perimeter: self.perimeter.clone(),
        }
    }
}

/// Two members that are connected, and between which no rule opens the port.
fn choose(
    controller: &Controller,
    actor: &Actor,
    request: &RevokeDrillRequest,
    port: u16,
) -> Result<(End, End), DrillError> {
    let none = || DrillError::NoPerimeter(request.perimeter.clone());
    let seen = controller.seen_by(actor, wall_now()).ok_or_else(none)?;
    let detail = seen.perimeter_detail(&request.perimeter).ok_or_else(none)?;
    let compiled = controller.compiled(&request.perimeter).ok_or_else(none)?;
    let connected: BTreeSet<NodeId> = controller.connected_nodes().collect();
    let members = detail
        .members
        .iter()
        .filter(|member| member.kind == PeerKind::Node);
    let ends: Vec<End> = members
        .filter(|member| connected.contains(&member.id))
        .filter_map(|member| {
            let v4 = member.addresses.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            Some(End {
                node: member.id,
                name: member.name.clone(),
                v4: v4?,
            })
        })
        .collect();
    for wanted in [&request.from, &request.to].into_iter().flatten() {
        if !ends.iter().any(|end| end.name == *wanted) {
            let why = format!(
                "{wanted} is no node of perimeter {} that is connected",
                request.perimeter
            );
            return Err(DrillError::Nodes(why));
        }
    }
    let wanted = PortRange::new(port, port).map(Service::Udp);
    let wanted = wanted.map_err(|_| CommitError::from(Refusal::from(DrillRefusal::Port)))?;
    let is = |end: &End, name: &Option<Name>| name.as_ref().is_none_or(|name| end.name == *name);
    for from in ends.iter().filter(|end| is(end, &request.from)) {
        for to in ends
            .iter()
            .filter(|end| is(end, &request.to) && end.node != from.node)
        {
            if compiled.opener(from.node, to.node, wanted).is_none() {
                return Ok((from.clone(), to.clone()));
            }
        }
    }
    Err(DrillError::Nodes(format!(
        "a drill in perimeter {} needs two nodes of it that are connected, with udp/{port} from one to the other not open by a rule: {} of its nodes are connected",
        request.perimeter,
        ends.len()
    )))
}

/// One of those that no program is known by (RFC 6335 section 6).
fn free_port() -> Result<u16, CommitError> {
    let [high, low, ..] = entropy()?;
    Ok(u16::from_be_bytes([high, low]) | DYNAMIC_PORTS_FROM)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const DYNAMIC_PORTS_FROM: u16 = 0xc000;
/// How long the flow runs before it is cut.
const FLOW_LIVES: Duration = Duration::from_millis(300);
/// A flow that nothing has ended by then is not ended.
const FLOW_LENGTH: Duration = Duration::from_secs(10);
const ANSWERER_LENGTH: Duration = Duration::from_secs(25);
const ENFORCED_WAIT: Duration = Duration::from_secs(5);
const OPEN_TRIES: usize = 8;
const OPEN_TRY_MS: u64 = 500;
