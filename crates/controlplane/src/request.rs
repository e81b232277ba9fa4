//! Just-in-time access: what was asked for, by whom, and what was granted of it.
//!
//! **Invariant:** a grant is to one node, and if a person was there to that person alone; it was approved by as many others
//! as it needs, or is reviewed by another afterwards; and it ends by itself.

mod command;
mod event;

use std::time::Duration;

use ringfence_model::{AccessId, Name, NodeId, SessionId, UnixMillis};
use ringfence_policy::{GrantedRule, Grantee, Reached, Service};
use serde::{Deserialize, Serialize};

pub use self::command::AccessCommand;
pub use self::event::{AccessEnd, AccessEvent};
use crate::limit::ACCESS_APPROVALS_MAX;
use crate::{Actor, ActorKind, Change, Event, UserId};

/// What somebody asked to reach for a time, and what became of it. Once it has ended and owes no review it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRequest {
    /// Its number.
    pub id: AccessId,
    /// In which perimeter.
    pub perimeter: Name,
    /// From which node.
    pub node: NodeId,
    /// What that was called when it was asked for.
    pub node_name: Name,
    /// Which group of the perimeter is to be reached.
    pub to: Name,
    /// What is to be opened.
    pub services: Vec<Service>,
    /// For how long, from the moment it is granted.
    pub length: Duration,
    /// Why.
    pub reason: String,
    /// Whether it could wait.
    pub urgency: Urgency,
    /// Who asked.
    pub asked_by: Asker,
    /// When.
    pub asked_at: UnixMillis,
    /// Until when it may be answered.
    pub answer_by: UnixMillis,
    /// Who approved it.
    pub approvals: Vec<Approval>,
    /// What became of it.
    pub standing: AccessStanding,
    /// If nobody approved it: until when somebody is to review it.
    pub review_by: Option<UnixMillis>,
}

/// Who asked for access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Its name.
    pub name: String,
    /// Who was logged in at the node: it is for them.
    pub person: Option<AskingPerson>,
}

/// Who was logged in where access was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskingPerson {
    /// In which session: what is granted ends with it.
    pub session: SessionId,
    /// Who.
    pub user: UserId,
    /// What people call them.
    pub name: String,
    /// Their verified address.
    pub email: Option<String>,
}

/// Whether access could wait for the owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// It could.
    Ordinary,
    /// It could not: see [`ringfence_policy::BreakGlass`].
    BreakGlass,
}

/// That somebody approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// What they said to it.
    pub reason: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum AccessStanding {
    /// It waits for approval.
    Waiting,
    /// It is granted.
    Open {
        /// Since when.
        since: UnixMillis,
        /// Until when.
        until: UnixMillis,
    },
    /// What was granted has ended, and nobody has reviewed it yet.
    Closed,
}

impl Change {
    /// The request for access that it holds.
    pub fn access_requested(&self) -> Option<AccessId> {
        self.events.iter().find_map(|event| match event {
            Event::Access(event) => match event.as_ref() {
                AccessEvent::AccessRequested { request } => Some(request.id),
                _ => None,
            },
            _ => None,
        })
    }
}

impl AccessRequest {
    /// How many have to approve it.
    pub fn approvals_needed(&self) -> usize {
        match self.urgency {
            Urgency::Ordinary => 1,
            Urgency::BreakGlass => ACCESS_APPROVALS_MAX,
        }
    }

    /// Whether it is granted now.
    pub fn is_open(&self) -> bool {
        matches!(self.standing, AccessStanding::Open { .. })
    }

    /// Whether it may only be answered or reviewed by somebody else: whoever asked, or is to get it.
    pub(crate) fn is_of(&self, actor: &Actor) -> bool {
        let person = self.asked_by.person.iter();
        let person = person.flat_map(|person| [Some(&person.name), person.email.as_ref()]);
        let asker = (self.asked_by.kind != ActorKind::Node).then_some(&self.asked_by.name);
        let mut names = person.flatten().chain(asker);
        names.any(|name| name.eq_ignore_ascii_case(&actor.name))
    }

    /// Whether both were asked for by the same one.
    pub(crate) fn is_by_same(&self, asker: &Asker) -> bool {
        match (&self.asked_by.person, &asker.person) {
            (Some(one), Some(other)) => one.user == other.user,
            (None, None) => (self.asked_by.kind, &self.asked_by.name) == (asker.kind, &asker.name),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// When the clock ends it.
    pub(crate) fn ends(&self) -> Option<UnixMillis> {
        match self.standing {
            AccessStanding::Waiting => Some(self.answer_by),
            AccessStanding::Open { until, .. } => Some(until),
            AccessStanding::Closed => None,
        }
    }

    /// The rule that it is while it is granted.
    pub(crate) fn rule(&self) -> Option<GrantedRule> {
        let AccessStanding::Open { until, .. } = self.standing else {
            return None;
        };
        Some(GrantedRule {
            access: self.id,
            from: match &self.asked_by.person {
                Some(_) => Grantee::PersonAt(self.node),
                None => Grantee::Node(self.node),
            },
            to: Reached::Group(self.to.clone()),
            services: self.services.clone(),
            reason: self.reason.clone(),
            until,
        })
    }
}
