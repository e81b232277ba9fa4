//! What machines are asked, what is given about them, and which checks they pass.
//!
//! **Invariant:** a node that is reported well and ill in turn makes no more entries than its pace allows, and what it
//! loses is recorded at once all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::api::CHECK_USES_MAX;
use ringfence_model::{Name, NodeId, UnixMillis};
use ringfence_policy::{Diagnostic, FactValue, PostureFile};

use crate::draft::Draft;
use crate::limit::FILE_NAME_BYTES_MAX;
use crate::posture::{FACT_TTL_MAX, FACTS_GIVEN_MAX, GivenFact, PostureEvent, Reports, TpmName, TpmRecord};
use crate::{Controller, PolicyFile, PostureCommand, Refusal};

pub(super) fn dispatch(
    draft: &mut Draft,
    controller: &Controller,
    command: PostureCommand,
) -> Result<(), Refusal> {
    let reports = &controller.reports;
    match command {
        PostureCommand::Apply { file, may_close } => {
            let dropped = if may_close {
                Dropped::Close
            } else {
                Dropped::Refuse
            };
            apply(draft, reports, file, dropped)
        }
        PostureCommand::Judge { node } => {
            let may_gain = controller.pace.allows(node, draft.wall);
            let gains = if may_gain { Gains::Count } else { Gains::Wait };
            judge(draft, reports, node, gains)
        }
        PostureCommand::RecordTpm { node, tpm } => record_tpm(draft, node, &tpm),
        PostureCommand::Give {
            node,
            fact,
            value,
            ttl,
        } => give(draft, reports, node, fact, (value, ttl)),
    }
}

/// Whether gains are recorded besides losses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gains {
    Count,
    Wait,
}

/// What becomes of a file without a check that is there now and that rules ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dropped {
    Refuse,
    Close,
}

/// Makes `after` the posture file, and judges every node by it.
fn apply(draft: &mut Draft, reports: &Reports, after: PolicyFile, dropped: Dropped) -> Result<(), Refusal> {
    if after.file.len() > FILE_NAME_BYTES_MAX {
        return Err(Refusal::Limit {
            what: "bytes of a file name",
            max: FILE_NAME_BYTES_MAX,
        });
    }
    let checks = PostureFile::parse(&after.file, &after.text).map_err(|errors| Refusal::Policy(errors.0))?;
    let source = draft.state.posture.source.clone();
    let before = source.as_ref().map(|source| source.file.as_ref().clone());
    if before.as_ref().is_some_and(|before| before.text == after.text) {
        return Err(Refusal::Unchanged);
    }
    if dropped == Dropped::Refuse {
        refuse_dropped(draft, &checks)?;
    }
    // What a node passed under another wording says nothing.
    let same = checks.checks.iter().filter(|check| {
        let before = source
            .as_ref()
            .and_then(|source| source.checks.check(&check.name));
        before.is_some_and(|before| before.asks_the_same(check))
    });
    let same: BTreeSet<Name> = same.map(|check| check.name.clone()).collect();
    draft.record(PostureEvent::PostureApplied { before, after }.into());
    for node in reports.nodes(&draft.state.posture) {
        let passed = draft.state.posture.passed.get(&node);
        let held: BTreeSet<Name> = passed
            .into_iter()
            .flatten()
            .filter(|name| same.contains(*name))
            .cloned()
            .collect();
        judge_by(draft, reports, node, &held, Gains::Count);
    }
    Ok(())
}

/// Refuses a file that closes rules by what it leaves out, and names them: it is likelier a slip than a wish.
fn refuse_dropped(draft: &Draft, after: &PostureFile) -> Result<(), Refusal> {
    let before = draft.state.posture.checks();
    let policies = draft.state.perimeters.values();
    let uses = policies.flat_map(|perimeter| perimeter.policy().check_uses());
    let dropped = uses.filter(|used| used.is_among(before) && !used.is_among(&after.checks));
    let listed = dropped.take(CHECK_USES_MAX);
    let closing: Vec<Diagnostic> = listed.map(|used| used.would_close()).collect();
    if closing.is_empty() {
        Ok(())
    } else {
        Err(Refusal::ChecksInUse(closing))
    }
}

/// Records which checks a node passes now, if they are others than before.
fn judge(draft: &mut Draft, reports: &Reports, node: NodeId, gains: Gains) -> Result<(), Refusal> {
    draft.node(node)?;
    let held = draft.state.posture.passed.get(&node).cloned().unwrap_or_default();
    judge_by(draft, reports, node, &held, gains);
    Ok(())
}

fn judge_by(draft: &mut Draft, reports: &Reports, node: NodeId, held: &BTreeSet<Name>, gains: Gains) {
    let judged = reports.judge(&draft.state.posture, node, Some(held), draft.wall);
    let before = draft.state.posture.passed.get(&node).cloned().unwrap_or_default();
    let mut after: BTreeSet<Name> = judged.into_keys().collect();
    if gains == Gains::Wait {
        after.retain(|check| before.contains(check));
    }
    if before != after {
        draft.record(PostureEvent::PostureJudged { node, before, after }.into());
    }
}

/// Pins a node's TPM, or notes that another showed itself.
fn record_tpm(draft: &mut Draft, node: NodeId, tpm: &TpmName) -> Result<(), Refusal> {
    draft.node(node)?;
    let before = draft.state.posture.tpms.get(&node).cloned();
    let after = TpmRecord::after(before.as_ref(), tpm).ok_or(Refusal::Unchanged)?;
    draft.record(PostureEvent::TpmRecorded { node, before, after }.into());
    Ok(())
}

/// Ends what nodes passed on facts that are too old by now.
pub(super) fn tick(draft: &mut Draft, reports: &Reports) {
    for node in reports.due(draft.wall) {
        let held = draft.state.posture.passed.get(&node).cloned().unwrap_or_default();
        judge_by(draft, reports, node, &held, Gains::Wait);
    }
}

/// Notes a fact that someone gives about a node.
fn give(
    draft: &mut Draft,
    reports: &Reports,
    node: NodeId,
    fact: Name,
    (value, ttl): (FactValue, Duration),
) -> Result<(), Refusal> {
    draft.node(node)?;
    if ttl < Duration::from_secs(1) || ttl > FACT_TTL_MAX {
        return Err(Refusal::FactTtl);
    }
    if !value.fits() {
        return Err(Refusal::FactValue);
    }
    forget_expired(draft, node);
    let given = draft.state.posture.given.get(&node);
    let before = given.and_then(|given| given.get(&fact)).cloned();
    if before.is_none() && given.is_some_and(|given| given.len() >= FACTS_GIVEN_MAX) {
        return Err(Refusal::Limit {
            what: "facts given about one node",
            max: FACTS_GIVEN_MAX,
        });
    }
    let after = GivenFact {
        value,
        by: draft.actor.name.clone(),
        at: draft.wall,
        expires: draft.wall.saturating_add(ttl),
    };
    let event = PostureEvent::FactGiven {
        node,
        fact,
        before,
        after: Some(after),
    };
    draft.record(event.into());
    judge(draft, reports, node, Gains::Count)
}

fn forget_expired(draft: &mut Draft, node: NodeId) {
    let is_over = |expires: UnixMillis| expires <= draft.wall;
    let given = draft.state.posture.given.get(&node).into_iter().flatten();
    let over = given.filter(|(_, fact)| is_over(fact.expires));
    let over: Vec<PostureEvent> = over
        .map(|(name, fact)| PostureEvent::FactGiven {
            node,
            fact: name.clone(),
            before: Some(fact.clone()),
            after: None,
        })
        .collect();
    for event in over {
        draft.record(event.into());
    }
}
