//! Workload issuers, and the nodes that come in by their word.

use std::sync::Arc;

use ringfence_model::Name;
use ringfence_policy::WorkloadIssuer;

use super::nodes::{self, NewNode};
use crate::draft::Draft;
use crate::limit::{FILE_NAME_BYTES_MAX, JWTS_REMEMBERED_MAX, WORKLOAD_ISSUERS_MAX};
use crate::{
    Admission, Identity, PolicyFile, Refusal, VerifiedWorkload, WorkloadCommand, WorkloadEvent,
    WorkloadIdentity, WorkloadRefusal, membership,
};

pub(super) fn dispatch(draft: &mut Draft, command: WorkloadCommand) -> Result<(), Refusal> {
    match command {
        WorkloadCommand::Set { file } => set(draft, file),
        WorkloadCommand::Remove { name } => remove(draft, name),
        WorkloadCommand::Admit {
            verified,
            name,
            identity,
        } => admit(draft, &verified, name, identity),
    }
}

fn set(draft: &mut Draft, after: PolicyFile) -> Result<(), Refusal> {
    if after.file.len() > FILE_NAME_BYTES_MAX {
        return Err(Refusal::Limit {
            what: "bytes of a file name",
            max: FILE_NAME_BYTES_MAX,
        });
    }
    let issuer =
        WorkloadIssuer::parse(&after.file, &after.text).map_err(|errors| Refusal::Policy(errors.0))?;
    let issuers = &draft.state.workloads.issuers;
    let before = issuers
        .get(&issuer.name)
        .map(|source| source.file.as_ref().clone());
    if before.as_ref().is_some_and(|before| before.text == after.text) {
        return Err(Refusal::Unchanged);
    }
    if before.is_none() && issuers.len() >= WORKLOAD_ISSUERS_MAX {
        return Err(Refusal::Limit {
            what: "workload issuers",
            max: WORKLOAD_ISSUERS_MAX,
        });
    }
    let event = WorkloadEvent::WorkloadIssuerSet {
        issuer: issuer.name,
        before,
        after,
    };
    draft.record(event.into());
    Ok(())
}

fn remove(draft: &mut Draft, issuer: Name) -> Result<(), Refusal> {
    let Some(source) = draft.state.workloads.issuers.get(&issuer) else {
        return Err(WorkloadRefusal::NoIssuer(issuer).into());
    };
    let before = source.file.as_ref().clone();
    draft.record(WorkloadEvent::WorkloadIssuerRemoved { issuer, before }.into());
    Ok(())
}

/// Admits a node by the word of its platform, and notes the token in the same change (red line 7).
fn admit(
    draft: &mut Draft,
    verified: &VerifiedWorkload,
    asked: Name,
    identity: Identity,
) -> Result<(), Refusal> {
    let name = &verified.issuer.name;
    let state = &draft.state.workloads;
    let Some(source) = state.issuers.get(name) else {
        return Err(WorkloadRefusal::IssuerGone(name.clone()).into());
    };
    if source.issuer != verified.issuer {
        return Err(WorkloadRefusal::IssuerChanged(name.clone()).into());
    }
    if draft.state.workload_lock(name).is_some() {
        return Err(WorkloadRefusal::IssuerLocked(name.clone()).into());
    }
    if draft.wall >= verified.ends() {
        return Err(WorkloadRefusal::Expired.into());
    }
    if state.is_used(&verified.jwt) {
        return Err(WorkloadRefusal::Used.into());
    }
    if state.remembered(draft.wall) >= JWTS_REMEMBERED_MAX {
        return Err(Refusal::Limit {
            what: "platforms' tokens that have to be remembered",
            max: JWTS_REMEMBERED_MAX,
        });
    }
    let issuer = Arc::clone(&source.issuer);
    let rule = issuer
        .judge(&verified.claims)
        .map_err(|_| WorkloadRefusal::NoRule {
            issuer: name.clone(),
            subject: verified.subject.clone(),
        })?;
    let called = match &rule.name {
        None => asked,
        Some(template) => template
            .fill(&verified.claims)
            .map_err(|why| WorkloadRefusal::Nameless {
                issuer: name.clone(),
                why,
            })?,
    };
    let workload = WorkloadIdentity {
        issuer: name.clone(),
        subject: verified.subject.clone(),
        rule: rule.number,
    };
    let new = NewNode {
        name: called,
        labels: rule.labels.clone(),
        identity,
        admission: Admission::Workload { workload },
    };
    let node = nodes::add(draft, new)?;
    let event = WorkloadEvent::WorkloadAdmitted {
        node,
        issuer: name.clone(),
        subject: verified.subject.clone(),
        rule: rule.number,
        claims: rule.looked_at(&verified.claims),
        jwt: verified.jwt,
        until: verified.remember_until(),
    };
    draft.record(event.into());
    membership::settle_node(draft, node)
}
