//! Why one member may reach another, or not.

use std::collections::BTreeSet;

use ringfence_control::api;
use ringfence_model::{Name, NodeId, UnixMillis};
use ringfence_policy::{Explanation, Member, Verdict, explain};

use super::suppose::suppose;
use crate::Controller;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody is called that.
    #[error("there is no node or device {0:?}")]
    Nobody(String),
    /// No such perimeter.
    #[error("there is no perimeter {0}")]
    NoPerimeter(Name),
}

impl AskError {
    pub(super) fn nobody(text: &str) -> Self {
        Self::Nobody(text.chars().take(ASKED_CHARS_MAX).collect())
    }
}

impl Controller {
    /// Why `from` may open a service towards `to` at `wall`, or not: in the perimeter asked about, else in each that both are
    /// in, else in each that one of them is in.
    ///
    /// # Errors
    /// [`AskError`] if one of them, or the perimeter, is not there.
    pub fn explain(
        &self,
        request: &api::ExplainRequest,
        wall: UnixMillis,
    ) -> Result<api::ExplainReport, AskError> {
        self.explain_in(request, |_| true, wall)
    }

    /// The same in perimeters that may be seen alone.
    pub(super) fn explain_in(
        &self,
        request: &api::ExplainRequest,
        sees: impl Fn(&Name) -> bool,
        wall: UnixMillis,
    ) -> Result<api::ExplainReport, AskError> {
        let mut from = self.ask_member(&request.from)?;
        let supposed_wall = request.as_if.as_ref().and_then(|as_if| as_if.time_ms);
        let wall = supposed_wall.unwrap_or(wall);
        if let Some(as_if) = &request.as_if {
            suppose(&mut from, as_if, wall);
        }
        let to = self.ask_member(&request.to)?;
        let names = match &request.perimeter {
            Some(name) => BTreeSet::from([name.clone()]),
            None => self.shared_perimeters(from.id, to.id, &sees),
        };
        let mut perimeters = Vec::new();
        for name in names {
            let perimeter = self.state().perimeters.get(&name).filter(|_| sees(&name));
            let (Some(perimeter), Some(compiled)) = (perimeter, self.compiled(&name)) else {
                return Err(AskError::NoPerimeter(name));
            };
            let policy = self.state().policy_in_force(perimeter);
            let supposed = request.as_if.is_some().then_some(&from);
            let compiled = self.compiled_as_if((&name, &policy), supposed, wall, compiled);
            let mut ends = [from.clone(), to.clone()];
            self.state().isolate(&name, &mut ends);
            let [from, to] = &ends;
            let explanation = explain(&policy, &compiled, (from, to), &request.service, wall);
            perimeters.push(explained(name, explanation));
        }
        let allowed = perimeters
            .iter()
            .any(|explained| explained.verdict == api::Verdict::Allow);
        Ok(api::ExplainReport {
            from: from.name,
            to: to.name,
            service: request.service,
            verdict: if allowed {
                api::Verdict::Allow
            } else {
                api::Verdict::Deny
            },
            perimeters,
        })
    }

    fn ask_member(&self, text: &str) -> Result<Member, AskError> {
        let id = self.find(text);
        let member = id.and_then(|id| self.state().member(id));
        member.ok_or_else(|| AskError::nobody(text))
    }

    fn shared_perimeters(&self, from: NodeId, to: NodeId, sees: impl Fn(&Name) -> bool) -> BTreeSet<Name> {
        let [mut from, mut to] = [from, to].map(|id| self.perimeters_of(id));
        from.retain(&sees);
        to.retain(&sees);
        let both: BTreeSet<Name> = from.intersection(&to).cloned().collect();
        if both.is_empty() {
            from.union(&to).cloned().collect()
        } else {
            both
        }
    }

    fn perimeters_of(&self, id: NodeId) -> BTreeSet<Name> {
        if let Some(node) = self.state().nodes.get(&id) {
            return node.perimeters.clone();
        }
        let device = self.state().devices.get(&id);
        device
            .map(|device| device.perimeter.clone())
            .into_iter()
            .collect()
    }
}

fn explained(perimeter: Name, explanation: Explanation) -> api::Explained {
    api::Explained {
        perimeter,
        verdict: match explanation.verdict {
            Verdict::Allow => api::Verdict::Allow,
            Verdict::Deny => api::Verdict::Deny,
        },
        rule: explanation.rule,
        file: Some(explanation.file),
        line: explanation.line,
        until_ms: explanation.until,
        reason: explanation.reason,
        missing: explanation.missing,
    }
}

/// How much of a name that nobody has is repeated.
const ASKED_CHARS_MAX: usize = 80;
