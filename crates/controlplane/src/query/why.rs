//! Why a person's machine reaches something or not: asked by its node, about itself alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringfence_control::api::ExplainRequest;
use ringfence_control::{PerimeterOwners, SessionFacts, WhyQuestion, WhyReport};
use ringfence_model::{Name, NodeId, UnixMillis};

use crate::{AskError, Controller};

impl Controller {
    /// Why `node` may open a service towards a member of one of its own perimeters at `wall`, or not; and whom to ask.
    ///
    /// # Errors
    /// [`AskError::Nobody`] if nobody there is called so or has that address: also if somebody elsewhere is or does.
    pub fn why(&self, node: NodeId, question: &WhyQuestion, wall: UnixMillis) -> Result<WhyReport, AskError> {
        let nobody = || AskError::nobody(&question.to);
        let own = self.state().nodes.get(&node).ok_or_else(nobody)?;
        let to = self.fellow(&own.perimeters, &question.to).ok_or_else(nobody)?;
        let request = ExplainRequest {
            from: node.to_string(),
            to: to.to_string(),
            service: question.service,
            perimeter: None,
            as_if: None,
            at_ms: None,
        };
        let explained = self.explain(&request, wall)?;
        let names: Vec<&Name> = explained
            .perimeters
            .iter()
            .map(|explained| &explained.perimeter)
            .collect();
        let perimeters = names
            .into_iter()
            .filter_map(|name| self.state().perimeters.get(name));
        let mut asked: BTreeSet<&Name> = BTreeSet::new();
        let mut owners = Vec::new();
        for perimeter in perimeters {
            let policy = perimeter.policy();
            let rules = policy.rules.iter();
            let opens = rules.filter(|rule| {
                rule.services
                    .iter()
                    .any(|opened| opened.overlaps(question.service))
            });
            asked.extend(opens.flat_map(|rule| rule.require.iter().flat_map(|require| &require.posture)));
            owners.push(PerimeterOwners {
                perimeter: perimeter.name.clone(),
                owners: policy.owners.clone(),
            });
        }
        let posture = self.node_posture(node, wall).into_iter();
        let mut posture: Vec<_> = posture.flat_map(|posture| posture.checks).collect();
        posture.retain(|check| asked.contains(&check.name));
        Ok(WhyReport {
            person: self.session_facts(node),
            posture,
            explained,
            owners,
        })
    }

    /// The session at a node, as its person may see it.
    pub fn session_facts(&self, node: NodeId) -> Option<SessionFacts> {
        let session = self.session_at(node)?;
        Some(SessionFacts {
            provider: session.login.user.provider.clone(),
            name: session.login.name.clone(),
            email: session.login.email.clone(),
            groups: session.login.groups.iter().cloned().collect(),
            mfa_at_ms: session.login.mfa_at,
            expires_ms: session.expires,
            factor_asks: self.factor_asks(node),
        })
    }

    /// A member of one of these perimeters, by name, id or address.
    fn fellow(&self, perimeters: &BTreeSet<Name>, text: &str) -> Option<NodeId> {
        let address: Option<IpAddr> = text.parse().ok();
        let mut held = perimeters
            .iter()
            .filter_map(|name| self.state().perimeters.get(name));
        if let Some(address) = address {
            return held.find_map(|perimeter| {
                let mut members = perimeter.members();
                let owner = members.find(|(_, seat)| perimeter.addresses(seat).contains(address));
                owner.map(|(id, _)| id)
            });
        }
        let id = self.find(text)?;
        held.any(|perimeter| perimeter.seat(id).is_some()).then_some(id)
    }
}
