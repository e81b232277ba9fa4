//! Why something can or cannot be reached from a node: what the person at it asks, and what the controller answers.
//!
//! A node is told about itself, and about the members of its own perimeters; whoever else there is stays unknown to it.

use ringfence_model::Name;
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};

use crate::SessionFacts;
use crate::api::{CheckResult, ExplainReport};

/// Asks why: answered by [`WhyAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskWhy {
    /// The node's number for the question, drawn at random.
    pub id: u64,
    /// What is asked.
    pub question: WhyQuestion,
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyQuestion {
    /// A member's name or id, or one of its addresses.
    pub to: String,
    /// With what.
    pub service: Service,
}

/// Says why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// To which question.
    pub id: u64,
    /// The answer, if there is one.
    #[serde(default)]
    pub report: Option<Box<WhyReport>>,
    /// Why there is none, for people.
    #[serde(default)]
    pub why: String,
}

/// Why something can or cannot be reached from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// Who is logged in at the node.
    pub person: Option<SessionFacts>,
    /// What came of each posture check that a rule asks for which may open it, and on which facts.
    pub posture: Vec<CheckResult>,
    /// The verdict, the rule, and what is missing, the nearest first.
    pub explained: ExplainReport,
    /// Whom to ask, by perimeter.
    pub owners: Vec<PerimeterOwners>,
}

/// Who answers for a perimeter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerimeterOwners {
    /// Which.
    pub perimeter: Name,
    /// Their addresses.
    pub owners: Vec<String>,
}

/// The first [`crate::CAPABILITY`] with it.
pub const WHY_SINCE: u32 = 4;
