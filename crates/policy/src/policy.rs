//! A checked policy: what one perimeter's file says, with every name resolved.
//!
//! **Invariant:** made by [`Policy::parse`] alone; each rule and expectation names groups that exist, and rules are
//! numbered from 1 in file order.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ringfence_model::{Labels, Name, NodeId, RuleId, Selector, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Place};
use crate::facts::Facts;
use crate::require::Requirement;
use crate::service::Service;

/// What one perimeter's policy file says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// The file it was read from, for messages.
    pub file: String,
    /// The perimeter's name.
    pub name: Name,
    /// What it protects, for people.
    pub description: String,
    /// Who answers for it.
    pub owners: Vec<String>,
    /// How much depends on it.
    pub criticality: Criticality,
    /// How often the owners look at it again.
    pub review: Option<Duration>,
    /// How long a node may act on it without hearing from the controller.
    pub lease: Duration,
    /// Who has a key here at all.
    pub groups: BTreeMap<Name, Group>,
    /// What is open, in file order.
    pub rules: Vec<AllowRule>,
    /// The tests in the file.
    pub expectations: Vec<Expectation>,
}

/// A policy that parsed, with what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The policy.
    pub policy: Policy,
    /// Not wrong, but likely not meant.
    pub warnings: Vec<Diagnostic>,
}

/// How much depends on a perimeter. For people and for reports: it does not change what is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// Loss is a nuisance.
    Low,
    /// Loss costs work. What a file that does not say gets.
    #[default]
    Medium,
    /// Loss costs money.
    High,
    /// Loss threatens the organisation.
    Critical,
}

/// One line of `[members]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Who is in it.
    pub members: GroupMembers,
    /// Its line.
    pub place: Place,
}

/// Who is in a group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupMembers {
    /// Nodes and devices with these labels.
    Nodes(Selector),
    /// Devices of these people. Empty for as long as no identity provider vouches for anyone.
    Users(UserSelector),
}

/// A question about a person: `group=dba` or `email=alice@example.com`, every pair must hold. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSelector(pub(crate) BTreeMap<UserKey, String>);

/// What may be asked about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserKey {
    /// A group of the identity provider.
    Group,
    /// The verified address.
    Email,
}

/// One `[[allow]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowRule {
    /// Its number, from 1 in file order.
    pub id: RuleId,
    /// Where it starts.
    pub place: Place,
    /// Who opens the conversation.
    pub from: Name,
    /// Who is reached.
    pub to: Name,
    /// What is opened. Never empty.
    pub services: Vec<Service>,
    /// Why, for people.
    pub reason: Option<String>,
    /// What else must be true of the one who opens.
    pub require: Option<Requirement>,
    /// When it stops counting.
    pub expires: Option<UnixMillis>,
}

/// One `[[expect]]`: a test of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// Where it starts.
    pub place: Place,
    /// Who would open the conversation.
    pub from: Endpoint,
    /// Who would be reached.
    pub to: Endpoint,
    /// With what.
    pub service: Service,
    /// What must come of it.
    pub verdict: Verdict,
}

/// Whom an `[[expect]]` is about: `node:web-1`, or a group, which stands for each of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One node or device by name, member or not.
    Node(Name),
    /// Every member of a group.
    Group(Name),
}

/// Whether a conversation may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// A node or device that policy may speak about, as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// The labels an administrator or its join token gave it.
    pub labels: Labels,
    /// What is verified about it besides.
    pub facts: Facts,
}

impl Policy {
    /// The rule with this number.
    pub fn rule(&self, id: RuleId) -> Option<&AllowRule> {
        let index = usize::try_from(id.0).ok()?.checked_sub(1)?;
        self.rules.get(index)
    }

    /// Whether a rule can open anything at all: not while it needs people or postures, which nothing verifies
    /// (fail closed).
    pub fn grants(&self, rule: &AllowRule) -> bool {
        let of_nodes = |group: &Name| match self.groups.get(group).map(|group| &group.members) {
            Some(GroupMembers::Nodes(_)) => true,
            Some(GroupMembers::Users(_)) | None => false,
        };
        rule.require.is_none() && of_nodes(&rule.from) && of_nodes(&rule.to)
    }
}

impl GroupMembers {
    /// Whether a node or device with these labels is in the group.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nodes(selector) => selector.matches(labels),
            Self::Users(_) => false,
        }
    }
}

impl AllowRule {
    /// Whether it counts at `wall`.
    pub fn is_live(&self, wall: UnixMillis) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }

    /// The services as the file writes them.
    pub fn services_text(&self) -> String {
        list(&self.services)
    }
}

pub(crate) fn list<T: fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    texts.join(", ")
}

impl fmt::Display for GroupMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(selector) => selector.fmt(f),
            Self::Users(selector) => write!(f, "users {selector}"),
        }
    }
}

impl fmt::Display for UserSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}={value}", key.as_str())?;
        }
        Ok(())
    }
}

impl UserKey {
    /// As the file writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Email => "email",
        }
    }
}

impl Criticality {
    /// Every value, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// As the file writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Group(name) => name.fmt(f),
        }
    }
}
