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
use crate::facts::{Facts, UserFacts};
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
    /// What it takes to get in when it cannot wait for one of the owners.
    pub break_glass: BreakGlass,
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

/// What it takes to get in when it cannot wait for one of the owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakGlass {
    /// Two who approve. What a file that does not say gets.
    #[default]
    TwoApprovers,
    /// For who is a member: nothing, but somebody reviews it afterwards.
    Review,
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
    /// Nodes at which these people are logged in, for as long as they are.
    Users(UserSelector),
    /// The one node that access was granted to. No file says so: see [`Policy::with_granted`].
    Node(NodeId),
    /// The same, for as long as somebody is logged in there.
    PersonAt(NodeId),
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
    /// Where each posture check of `require` is named, in its order.
    pub checks_at: Vec<Place>,
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

/// How those at one end of a rule may come apart, whatever is verified about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// They are the group as it is.
    Whole,
    /// They are a part of it.
    Part,
    /// The rule ends for each at a moment of their own.
    Each,
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
        if id.is_granted() {
            return self.rules.iter().find(|rule| rule.id == id);
        }
        let index = usize::try_from(id.0).ok()?.checked_sub(1)?;
        self.rules.get(index)
    }

    /// How those at each end of a rule may come apart by what it asks and by when it ends for them: `from`, then `to`.
    pub fn spreads(&self, rule: &AllowRule) -> (Spread, Spread) {
        let of_users = |group: &Name| match self.groups.get(group).map(|group| &group.members) {
            Some(GroupMembers::Users(_) | GroupMembers::PersonAt(_)) => true,
            Some(GroupMembers::Nodes(_) | GroupMembers::Node(_)) | None => false,
        };
        let from = match &rule.require {
            _ if of_users(&rule.from) => Spread::Each,
            Some(require) if require.ends_apart() => Spread::Each,
            Some(_) => Spread::Part,
            None => Spread::Whole,
        };
        let to = if of_users(&rule.to) {
            Spread::Each
        } else {
            Spread::Whole
        };
        (from, to)
    }

    /// Whether the clock alone may change what a rule opens before it expires.
    pub fn is_timed(&self, rule: &AllowRule) -> bool {
        let has_hours = rule
            .require
            .as_ref()
            .is_some_and(|require| require.hours.is_some());
        let (from, to) = self.spreads(rule);
        has_hours || from == Spread::Each || to == Spread::Each
    }
}

impl GroupMembers {
    /// Whether any node or device with these labels, of which this is verified, is in the group at `wall`.
    pub fn matches(&self, labels: &Labels, facts: &Facts, wall: UnixMillis) -> bool {
        match self {
            Self::Nodes(selector) => selector.matches(labels),
            Self::Users(selector) => facts.person(wall).is_some_and(|user| selector.matches(user)),
            Self::Node(_) | Self::PersonAt(_) => false,
        }
    }

    /// Whether this one is in the group at `wall`.
    pub fn holds(&self, member: &Member, wall: UnixMillis) -> bool {
        match self {
            Self::Nodes(_) | Self::Users(_) => self.matches(&member.labels, &member.facts, wall),
            Self::Node(id) => *id == member.id,
            Self::PersonAt(id) => *id == member.id && member.facts.person(wall).is_some(),
        }
    }
}

impl UserSelector {
    /// Whether it selects this person.
    pub fn matches(&self, user: &UserFacts) -> bool {
        self.lacking(user).next().is_none()
    }

    /// What it asks for that this person lacks.
    pub(crate) fn lacking<'a>(&'a self, user: &'a UserFacts) -> impl Iterator<Item = (UserKey, &'a str)> {
        let pairs = self.0.iter().map(|(key, value)| (*key, value.as_str()));
        pairs.filter(|(key, value)| match key {
            UserKey::Group => !user.groups.contains(*value),
            // The part behind the at sign is the same in both cases (RFC 5321 section 2.4), and no provider tells the
            // other parts of two people apart by case.
            UserKey::Email => !user
                .email
                .as_ref()
                .is_some_and(|email| email.eq_ignore_ascii_case(value)),
        })
    }

    /// What it asks about one thing.
    pub(crate) fn value(&self, key: UserKey) -> Option<&str> {
        self.0.get(&key).map(String::as_str)
    }

    /// Whether everyone whom `inner` selects is selected by this too.
    pub(crate) fn covers(&self, inner: &Self) -> bool {
        self.0.iter().all(|(key, value)| inner.0.get(key) == Some(value))
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
            Self::Node(id) => write!(f, "node {id}"),
            Self::PersonAt(id) => write!(f, "the person at node {id}"),
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

impl BreakGlass {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::TwoApprovers, Self::Review];

    /// As the file writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TwoApprovers => "two-approvers",
            Self::Review => "review",
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
