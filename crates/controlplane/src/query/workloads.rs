//! Whose word lets workloads in, and what it would come to.

use std::sync::Arc;

use ringfence_control::api;
use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{KeySource, WorkloadIssuer};

use crate::{Admission, Controller, VerifiedWorkload, WorkloadRefusal};

impl Controller {
    /// The issuer of this name.
    pub fn workload_issuer(&self, name: &Name) -> Option<&Arc<WorkloadIssuer>> {
        let source = self.state().workloads.issuers.get(name);
        source.map(|source| &source.issuer)
    }

    /// Every issuer, in order of name.
    pub fn workload_issuer_views(&self) -> Vec<api::WorkloadIssuerView> {
        let issuers = self.state().workloads.issuers.values();
        issuers
            .map(|source| self.workload_issuer_view(&source.issuer))
            .collect()
    }

    /// One issuer, with its file; `locator` is what its workloads are to be given.
    pub fn workload_issuer_detail(&self, name: &Name, locator: String) -> Option<api::WorkloadIssuerDetail> {
        let source = self.state().workloads.issuers.get(name)?;
        Some(api::WorkloadIssuerDetail {
            issuer: self.workload_issuer_view(&source.issuer),
            file: api::PolicyFile {
                name: source.file.file.clone(),
                text: source.file.text.clone(),
            },
            locator,
        })
    }

    /// What a token would come to at `wall`. Nothing is admitted, and the token is not used by it.
    pub fn test_workload(&self, verified: &VerifiedWorkload, wall: UnixMillis) -> api::WorkloadTest {
        let state = self.state();
        let issuer = &verified.issuer;
        let mut why = Vec::new();
        if state.workload_lock(&issuer.name).is_some() {
            why.push(WorkloadRefusal::IssuerLocked(issuer.name.clone()).to_string());
        }
        if wall >= verified.ends() {
            why.push(WorkloadRefusal::Expired.to_string());
        }
        if state.workloads.is_used(&verified.jwt) {
            why.push(WorkloadRefusal::Used.to_string());
        }
        let mut test = api::WorkloadTest {
            subject: Some(verified.subject.clone()),
            admitted: false,
            rule: None,
            labels: None,
            name: None,
            why: Vec::new(),
        };
        match issuer.judge(&verified.claims) {
            Err(misses) => why.extend(misses.iter().map(ToString::to_string)),
            Ok(rule) => {
                test.rule = Some(rule.number);
                test.labels = Some(rule.labels.clone());
                match rule.name.as_ref().map(|name| name.fill(&verified.claims)) {
                    Some(Err(error)) => why.push(error.to_string()),
                    Some(Ok(name)) => {
                        if let Some(holder) = state.names.get(&name) {
                            why.push(format!("the name {name} is taken by node {holder}"));
                        }
                        test.name = Some(name);
                    }
                    None => {}
                }
            }
        }
        test.admitted = why.is_empty();
        test.why = why;
        test
    }

    fn workload_issuer_view(&self, issuer: &WorkloadIssuer) -> api::WorkloadIssuerView {
        let nodes = self.nodes().filter(|node| match &node.admission {
            Admission::Workload { workload } => workload.issuer == issuer.name,
            Admission::Token { .. } => false,
        });
        api::WorkloadIssuerView {
            name: issuer.name.clone(),
            url: issuer.url.clone(),
            audience: issuer.audience.clone(),
            keys: match &issuer.keys {
                KeySource::Discovery => "discovered".to_owned(),
                KeySource::Url(url) => url.clone(),
                KeySource::Given(_) => "given".to_owned(),
            },
            max_life_seconds: issuer.max_life.as_secs(),
            rules: issuer.rules.len(),
            nodes: nodes.count(),
            locked: self.state().workload_lock(&issuer.name).is_some(),
        }
    }
}

/// What let a node in, for the API.
pub(super) fn admission_view(admission: &Admission) -> api::AdmissionView {
    match admission {
        Admission::Token { token } => api::AdmissionView::Token { token: *token },
        Admission::Workload { workload } => api::AdmissionView::Workload {
            issuer: workload.issuer.clone(),
            subject: workload.subject.clone(),
            rule: workload.rule,
        },
    }
}
