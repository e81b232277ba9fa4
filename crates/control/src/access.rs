//! Access on request, asked for by the person at a node: what node and controller say to each other about it.
//!
//! The node's own identity says from which machine; the controller knows who is logged in there, and asks in their name.

use std::time::Duration;

use ringfence_model::{AccessId, Name};
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};

use crate::api::AccessView;

/// Asks for access, ends it, or asks what was asked for: answered by [`AccessAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskAccess {
    /// The node's number for the question, drawn at random.
    pub id: u64,
    /// What is to be done.
    pub errand: AccessErrand,
}

/// What a person at a node may do about access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessErrand {
    /// See what they asked for.
    List,
    /// Ask for it.
    Request(AccessWish),
    /// Give it back, or take the request back.
    End(AccessId),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessWish {
    /// In which perimeter.
    pub perimeter: Name,
    /// Which of its groups is to be reached.
    pub to: Name,
    /// What is to be opened; what rules of the file open towards that group if empty.
    #[serde(default)]
    pub ports: Vec<Service>,
    /// For how long, in seconds.
    pub for_s: u64,
    /// Why.
    pub reason: String,
    /// Whether it cannot wait.
    #[serde(default)]
    pub break_glass: bool,
}

/// Says what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAnswer {
    /// To which question.
    pub id: u64,
    /// What is asked for and granted to the person at the node; of [`AccessErrand::Request`] the new one alone.
    #[serde(default)]
    pub access: Vec<AccessView>,
    /// Why it was not done, for people; empty if it was.
    #[serde(default)]
    pub why: String,
}

impl AccessWish {
    /// For how long.
    pub const fn length(&self) -> Duration {
        Duration::from_secs(self.for_s)
    }
}

/// The first [`crate::CAPABILITY`] with access on request.
pub const ACCESS_SINCE: u32 = 4;
