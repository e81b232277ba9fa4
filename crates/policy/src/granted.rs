//! Rules that are in no file: access that was granted on request, to one member and until a moment.
//!
//! **Invariant:** a granted rule opens to the one it was granted to alone, and to whom its group of the file has; it changes
//! no rule and no group of the file.

use ringfence_model::{AccessId, Name, NodeId, RuleId, UnixMillis};

use crate::diagnostic::Place;
use crate::policy::{AllowRule, Group, GroupMembers, Policy};
use crate::service::Service;

/// One rule that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedRule {
    /// The request that was granted.
    pub access: AccessId,
    /// Who opens the conversation.
    pub from: Grantee,
    /// Who is reached: a group of the file.
    pub to: Name,
    /// What is opened.
    pub services: Vec<Service>,
    /// Why, for people.
    pub reason: String,
    /// When it stops counting.
    pub until: UnixMillis,
}

/// To whom access was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// A node, whoever is there.
    Node(NodeId),
    /// The person at a node, for as long as they are.
    PersonAt(NodeId),
}

impl Policy {
    /// The policy with these rules besides its own. One whose group the file does not have any more opens nothing.
    #[must_use]
    pub fn with_granted<'g>(&self, granted: impl IntoIterator<Item = &'g GrantedRule>) -> Self {
        let mut policy = self.clone();
        for rule in granted {
            let name = policy
                .groups
                .contains_key(&rule.to)
                .then(|| policy.free_name(rule.access));
            if let Some(from) = name.flatten() {
                policy.grant(rule, from);
            }
        }
        policy
    }

    fn grant(&mut self, granted: &GrantedRule, from: Name) {
        let members = match granted.from {
            Grantee::Node(node) => GroupMembers::Node(node),
            Grantee::PersonAt(node) => GroupMembers::PersonAt(node),
        };
        let group = Group {
            members,
            place: Place::default(),
        };
        self.groups.insert(from.clone(), group);
        self.rules.push(AllowRule {
            id: RuleId::granted(granted.access),
            place: Place::default(),
            from,
            to: granted.to.clone(),
            services: granted.services.clone(),
            reason: Some(granted.reason.clone()),
            require: None,
            expires: Some(granted.until),
        });
    }

    /// A name for the group of one that no group of the file has: it must neither take the place of one nor be taken for it.
    fn free_name(&self, access: AccessId) -> Option<Name> {
        let mut text = format!("grant-{access}");
        loop {
            let name = Name::parse(&text).ok()?;
            if !self.groups.contains_key(&name) {
                return Some(name);
            }
            text.push('x');
        }
    }
}
