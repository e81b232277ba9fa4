//! Holds policy against the network: the nodes try every pair and port, an outsider tries to shake hands.
//!
//! A flow counts as open when its target saw it, or answered; what policy expects comes from the same compiled rules
//! that the nodes enforce, so what is compared is the rules and the packets.

mod plan;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ringfence_control::api::{Verdict, VerifyReport, VerifyRequest, VerifyRow};
use ringfence_control::{ProbeOrder, ProbeOutcome, ProbeVerdict, SeenFlow, SeenQuestion};
use ringfence_controlplane::Actor;
use ringfence_model::{Name, NodeId};

use crate::core::{CoreGone, CoreHandle, wall_now};
use crate::sessions::Sessions;

use plan::{Attempt, Plan};

/// Measures a perimeter; `None` if there is no such that the actor may see.
///
/// # Errors
/// [`CoreGone`] while shutting down.
pub async fn measure(
    core: &CoreHandle,
    sessions: &Sessions,
    (actor, request): (Actor, VerifyRequest),
) -> Result<Option<VerifyReport>, CoreGone> {
    let perimeter = request.perimeter.clone();
    let plan = core
        .with(move |core| {
            let controller = core.controller();
            Plan::of(controller, controller.seen_by(&actor, wall_now())?, &perimeter)
        })
        .await?;
    let Some(plan) = plan else { return Ok(None) };
    let wait_ms = request.wait_ms.clamp(WAIT_MS_MIN, ProbeOrder::WAIT_MS_MAX);
    let mut measurement = Measurement {
        sessions,
        perimeter: request.perimeter,
        wait_ms,
        outcomes: BTreeMap::new(),
        unmeasured: plan.unmeasured.clone(),
    };
    measurement.run(&plan).await;
    Ok(Some(measurement.report(&plan)))
}

struct Measurement<'a> {
    sessions: &'a Sessions,
    perimeter: Name,
    wait_ms: u64,
    /// By the attempt's place in the plan.
    outcomes: BTreeMap<usize, Observed>,
    unmeasured: Vec<String>,
}

#[derive(Clone)]
struct Observed {
    outcome: ProbeOutcome,
    seen: Option<bool>,
}

impl Measurement<'_> {
    async fn run(&mut self, plan: &Plan) {
        let by_source = group(plan, |attempt| attempt.from);
        let mut tries = tokio::task::JoinSet::new();
        for (node, places) in by_source {
            for chunk in places.chunks(ProbeOrder::PROBES_MAX) {
                let order = ProbeOrder {
                    id: self.sessions.next_id(),
                    perimeter: (!plan.attempts[chunk[0]].outsider).then(|| self.perimeter.clone()),
                    probes: chunk
                        .iter()
                        .map(|&place| plan.attempts[place].probe.clone())
                        .collect(),
                    wait_ms: self.wait_ms,
                };
                let (sessions, chunk) = (self.sessions.clone(), chunk.to_vec());
                tries.spawn(async move { (node, chunk, sessions.probe(node, order).await) });
            }
        }
        while let Some(Ok((node, places, report))) = tries.join_next().await {
            match report {
                Ok(report) => {
                    let observed = report
                        .results
                        .into_iter()
                        .map(|outcome| Observed { outcome, seen: None });
                    self.outcomes.extend(places.into_iter().zip(observed));
                }
                Err(error) => self.unmeasured.push(format!("{}: {error}", plan.name(node))),
            }
        }
        self.ask_targets(plan).await;
    }

    /// Silence and refusals prove nothing alone: a closed port answers like a closed perimeter. The target knows.
    async fn ask_targets(&mut self, plan: &Plan) {
        let doubtful = |place: &usize| {
            self.outcomes.get(place).is_some_and(|observed| {
                matches!(
                    observed.outcome.verdict,
                    ProbeVerdict::Silent | ProbeVerdict::Refused
                )
            })
        };
        let by_target: Vec<(NodeId, Vec<usize>)> = group(plan, |attempt| attempt.to)
            .into_iter()
            .map(|(node, places)| (node, places.into_iter().filter(|place| doubtful(place)).collect()))
            .collect();
        for (node, places) in by_target {
            let known: Vec<(usize, SeenFlow)> = places
                .into_iter()
                .filter_map(|place| Some((place, self.flow(plan, place)?)))
                .collect();
            for chunk in known.chunks(ProbeOrder::PROBES_MAX) {
                let question = SeenQuestion {
                    id: self.sessions.next_id(),
                    perimeter: self.perimeter.clone(),
                    flows: chunk.iter().map(|(_, flow)| *flow).collect(),
                };
                match self.sessions.seen(node, question).await {
                    Ok(answer) => {
                        for ((place, _), seen) in chunk.iter().zip(answer.seen) {
                            if let Some(observed) = self.outcomes.get_mut(place) {
                                observed.seen = Some(seen);
                            }
                        }
                    }
                    Err(error) => self
                        .unmeasured
                        .push(format!("what {} has seen: {error}", plan.name(node))),
                }
            }
        }
    }

    fn flow(&self, plan: &Plan, place: usize) -> Option<SeenFlow> {
        let (protocol, dst) = plan.attempts[place].flow()?;
        let src: SocketAddr = self.outcomes.get(&place)?.outcome.src?;
        Some(SeenFlow { protocol, src, dst })
    }

    fn report(self, plan: &Plan) -> VerifyReport {
        let mut rows: Vec<VerifyRow> = Vec::new();
        for (place, attempt) in plan.attempts.iter().enumerate() {
            let (measured, detail) = match self.outcomes.get(&place) {
                Some(observed) => judge(attempt, observed),
                None => (None, "not measured".to_owned()),
            };
            rows.push(VerifyRow {
                from: plan.name(attempt.from),
                outsider: attempt.outsider,
                to: plan.name(attempt.to),
                service: attempt.service.clone(),
                expected: attempt.expected,
                measured,
                detail: format!("{}{detail}", attempt.family_prefix()),
            });
        }
        let ok = self.unmeasured.is_empty() && rows.iter().all(VerifyRow::is_ok);
        VerifyReport {
            perimeter: self.perimeter,
            revision: plan.revision,
            ok,
            rows,
            unmeasured: self.unmeasured,
        }
    }
}

/// What an observation says about the flow.
fn judge(attempt: &Attempt, observed: &Observed) -> (Option<Verdict>, String) {
    let detail = &observed.outcome.detail;
    let with_detail = |words: &str| {
        if detail.is_empty() {
            words.to_owned()
        } else {
            format!("{words} ({detail})")
        }
    };
    match (observed.outcome.verdict, observed.seen) {
        (ProbeVerdict::Answered, _) => (Some(Verdict::Allow), "answered".to_owned()),
        (ProbeVerdict::Prohibited, _) => (Some(Verdict::Deny), "refused by policy".to_owned()),
        (ProbeVerdict::Refused, Some(true)) => {
            (Some(Verdict::Allow), "reached the target, port closed".to_owned())
        }
        (ProbeVerdict::Silent, Some(true)) => {
            (Some(Verdict::Allow), "seen by the target, no answer".to_owned())
        }
        (ProbeVerdict::Refused, Some(false)) => {
            (Some(Verdict::Deny), with_detail("refused before the target"))
        }
        (ProbeVerdict::Silent, Some(false)) => (
            Some(Verdict::Deny),
            "silence, and the target saw nothing".to_owned(),
        ),
        // An outsider's handshake has no flow to ask about: silence is the answer.
        (ProbeVerdict::Silent, None) if attempt.outsider => {
            (Some(Verdict::Deny), "no handshake answered".to_owned())
        }
        (ProbeVerdict::Silent | ProbeVerdict::Refused, None) => (None, "the target was not asked".to_owned()),
        (ProbeVerdict::Failed, _) => (None, with_detail("could not be tried")),
    }
}

/// Places of attempts by one of their ends.
fn group(plan: &Plan, end: impl Fn(&Attempt) -> NodeId) -> BTreeMap<NodeId, Vec<usize>> {
    let mut groups: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (place, attempt) in plan.attempts.iter().enumerate() {
        groups.entry(end(attempt)).or_default().push(place);
    }
    groups
}

const WAIT_MS_MIN: u64 = 200;
