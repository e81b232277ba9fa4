//! What is asked of machines, and how each stands to it.

use ringfence_control::api;
use ringfence_model::{NodeId, UnixMillis};
use ringfence_policy::{Judgement, Saying};

use super::count;
use crate::Controller;

impl Controller {
    /// The posture file, and how many nodes meet each check at `wall`.
    pub fn posture_detail(&self, wall: UnixMillis) -> api::PostureDetail {
        let posture = &self.state().posture;
        let file = posture.source.as_ref().map(|source| api::PolicyFile {
            name: source.file.file.clone(),
            text: source.file.text.clone(),
        });
        let nodes = &self.state().nodes;
        let checks = posture.checks().iter().map(|check| {
            let met_by = nodes
                .keys()
                .filter(|node| self.reports.judgement(posture, **node, check, wall).holds);
            api::CheckSummary {
                name: check.name.clone(),
                description: check.description.clone(),
                mode: check.mode.as_str().to_owned(),
                max_age_ms: u64::try_from(check.max_age.as_millis()).unwrap_or(u64::MAX),
                met_by: count(met_by.count()),
                nodes: count(nodes.len()),
            }
        });
        api::PostureDetail {
            file,
            checks: checks.collect(),
        }
    }

    /// A warning for each rule, of any perimeter, that asks for a check that the posture file does not have. The first
    /// [`api::CHECK_USES_MAX`].
    pub fn unknown_checks(&self) -> Vec<api::Finding> {
        let checks = self.state().posture.checks();
        let policies = self.state().perimeters.values();
        let unknown = policies.flat_map(|perimeter| perimeter.policy().unknown_checks(checks));
        let listed = unknown.take(api::CHECK_USES_MAX);
        listed.map(|warning| api::Finding::from(&warning)).collect()
    }

    /// What is known of a node's machine at `wall`, and what came of each check.
    pub fn node_posture(&self, id: NodeId, wall: UnixMillis) -> Option<api::NodePosture> {
        let node = self.node(id)?;
        let posture = &self.state().posture;
        let checks = posture.checks().iter().map(|check| {
            let judgement = self.reports.judgement(posture, id, check, wall);
            api::CheckResult {
                name: check.name.clone(),
                mode: check.mode.as_str().to_owned(),
                passes: judgement.passes,
                holds: judgement.holds,
                until_ms: judgement.until,
                findings: findings(&judgement),
            }
        });
        Some(api::NodePosture {
            id,
            node: node.name.clone(),
            connected: self.is_connected(id),
            now_ms: wall,
            checks: checks.collect(),
            facts: api::FactView::list(&self.reports.known(posture, id)),
        })
    }
}

fn findings(judgement: &Judgement) -> Vec<api::CheckFinding> {
    let findings = judgement.findings.iter().map(|finding| api::CheckFinding {
        fact: finding.fact.to_string(),
        holds: matches!(finding.saying, Saying::Holds { .. } | Saying::Vouched { .. }),
        says: finding.to_string(),
    });
    findings.collect()
}
