//! Rules that are in no file: access that was granted on request, to one member and until a moment.
//!
//! **Invariant:** a granted rule opens to the one it was granted to alone, and to whom its group of the file has or the
//! one it names; it changes no rule and no group of the file.

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
    /// Who is reached.
    pub to: Reached,
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

/// Who is reached by what was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A group of the file.
    Group(Name),
    /// A node alone.
    Node(NodeId),
}

impl Policy {
    /// The policy with these rules besides its own. One whose group the file does not have any more opens nothing.
    #[must_use]
    pub fn with_granted<'g>(&self, granted: impl IntoIterator<Item = &'g GrantedRule>) -> Self {
        let mut policy = self.clone();
        for rule in granted {
            let to = match &rule.to {
                Reached::Group(name) => policy.groups.contains_key(name).then(|| name.clone()),
                Reached::Node(node) => policy.add_group("grant-to", rule.access, GroupMembers::Node(*node)),
            };
            if let Some(to) = to {
                policy.grant(rule, to);
            }
        }
        policy
    }

    fn grant(&mut self, granted: &GrantedRule, to: Name) {
        let members = match granted.from {
            Grantee::Node(node) => GroupMembers::Node(node),
            Grantee::PersonAt(node) => GroupMembers::PersonAt(node),
        };
        let Some(from) = self.add_group("grant", granted.access, members) else {
            return;
        };
        self.rules.push(AllowRule {
            id: RuleId::granted(granted.access),
            place: Place::default(),
            from,
            to,
            services: granted.services.clone(),
            reason: Some(granted.reason.clone()),
            require: None,
            checks_at: Vec::new(),
            expires: Some(granted.until),
        });
    }

    /// A group of one under a name that no group of the file has: it must neither take the place of one nor be taken for it.
    fn add_group(&mut self, word: &str, access: AccessId, members: GroupMembers) -> Option<Name> {
        let mut text = format!("{word}-{access}");
        loop {
            let name = Name::parse(&text).ok()?;
            if !self.groups.contains_key(&name) {
                let place = Place::default();
                self.groups.insert(name.clone(), Group { members, place });
                return Some(name);
            }
            text.push('x');
        }
    }
}
