//! Drills: a rule that opens one port between two members for a moment, made to be taken away again, so that the time
//! this takes is measured and not believed.
//!
//! **Invariant:** a drill opens one UDP port between two nodes that are members anyway, one that no rule opens, and ends
//! by itself.

use ringfence_model::{AccessId, Name, NodeId, UnixMillis};
use ringfence_policy::{GrantedRule, Grantee, PortRange, Reached, Service};
use serde::{Deserialize, Serialize};

use crate::RefusalKind;

/// A drill that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Its number, of those that requests for access have.
    pub id: AccessId,
    /// In which perimeter.
    pub perimeter: Name,
    /// Who opens the conversation.
    pub from: NodeId,
    /// Who is reached.
    pub to: NodeId,
    /// At which UDP port.
    pub port: u16,
    /// When it ends by itself.
    pub until: UnixMillis,
}

/// What may be asked about drills: in [`crate::Command::Drill`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillCommand {
    /// Opens the port.
    Begin {
        /// In which perimeter.
        perimeter: Name,
        /// From which node.
        from: NodeId,
        /// To which.
        to: NodeId,
        /// Which UDP port: one that no rule opens between the two.
        port: u16,
    },
    /// Closes it.
    End {
        /// In which perimeter.
        perimeter: Name,
    },
}

/// One fact about drills: in [`crate::Event::Drill`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum DrillEvent {
    /// The port was opened.
    DrillBegan {
        /// What is open.
        drill: Drill,
    },
    /// It was closed.
    DrillEnded {
        /// What was open.
        before: Drill,
    },
}

/// Why a drill is refused: in [`crate::Refusal::Drill`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrillRefusal {
    /// There is one already.
    #[error("a drill is under way in perimeter {0}: wait until it ends")]
    UnderWay(Name),
    /// There is none.
    #[error("no drill is under way in perimeter {0}")]
    None(Name),
    /// Who would talk to itself.
    #[error("a drill needs two nodes")]
    Alone,
    /// A rule opens that port already: taking the drill's away would end nothing.
    #[error(
        "rule {rule} of perimeter {perimeter} opens udp/{port} between the two already: choose other nodes"
    )]
    Open {
        /// Of which perimeter.
        perimeter: Name,
        /// Which.
        rule: ringfence_model::RuleId,
        /// Which port.
        port: u16,
    },
    /// No port.
    #[error("a port is 1 to 65535")]
    Port,
}

impl Drill {
    /// The rule that it is.
    pub(crate) fn rule(&self) -> GrantedRule {
        let port = PortRange::new(self.port, self.port);
        GrantedRule {
            access: self.id,
            from: Grantee::Node(self.from),
            to: Reached::Node(self.to),
            services: port.into_iter().map(Service::Udp).collect(),
            reason: "a drill".to_owned(),
            until: self.until,
        }
    }
}

impl DrillCommand {
    /// Where.
    pub(crate) fn perimeter(&self) -> &Name {
        match self {
            Self::Begin { perimeter, .. } | Self::End { perimeter } => perimeter,
        }
    }

    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        matches!(self, Self::End { .. })
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "drill.begin",
            Self::End { .. } => "drill.end",
        }
    }
}

impl DrillEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::DrillBegan { .. } => "drill-began",
            Self::DrillEnded { .. } => "drill-ended",
        }
    }

    /// What it is about.
    pub(crate) fn drill(&self) -> &Drill {
        match self {
            Self::DrillBegan { drill } | Self::DrillEnded { before: drill } => drill,
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        let Drill {
            perimeter,
            from,
            to,
            port,
            ..
        } = self.drill();
        let word = match self {
            Self::DrillBegan { .. } => "opened",
            Self::DrillEnded { .. } => "closed",
        };
        format!("{word} udp/{port} from {from} to {to} in perimeter {perimeter} for a drill")
    }
}

impl DrillRefusal {
    /// What it means to the one who asked.
    pub(crate) fn kind(&self) -> RefusalKind {
        match self {
            Self::UnderWay(_) | Self::Open { .. } => RefusalKind::Conflict,
            Self::None(_) => RefusalKind::NotFound,
            Self::Alone | Self::Port => RefusalKind::Invalid,
        }
    }

    /// A stable word for it, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnderWay(_) => "drill-under-way",
            Self::None(_) => "no-drill",
            Self::Alone => "drill-alone",
            Self::Open { .. } => "drill-open",
            Self::Port => "drill-port",
        }
    }
}
