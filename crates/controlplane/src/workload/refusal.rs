//! Why a workload is not let in, or an issuer not changed.

use ringfence_model::Name;
use ringfence_policy::NoNodeName;

use crate::RefusalKind;

/// Why: in [`crate::Refusal::Workload`]. Which rules there are is not told to who is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadRefusal {
    /// No such issuer, for an administrator.
    #[error("there is no workload issuer {0}: `ringfence workload ls` lists them")]
    NoIssuer(Name),
    /// A token of an issuer that never was, or was removed.
    #[error("there is no workload issuer {0} any more: ask an administrator for a new locator")]
    IssuerGone(Name),
    /// The issuer is not what the token was verified against.
    #[error("workload issuer {0} was changed just now: try again")]
    IssuerChanged(Name),
    /// An issuer that was locked.
    #[error("workload issuer {0} is locked: ask an administrator")]
    IssuerLocked(Name),
    /// A token past its time.
    #[error("the platform's token has expired")]
    Expired,
    /// A token that let a machine in.
    #[error("the platform's token was used before: each lets one machine in, once")]
    Used,
    /// Claims that no rule takes.
    #[error(
        "no rule of workload issuer {issuer} lets {subject} in: `ringfence workload test {issuer}` says why"
    )]
    NoRule {
        /// Which issuer.
        issuer: Name,
        /// Whose token it is.
        subject: String,
    },
    /// Claims that the node's name cannot be made of.
    #[error("workload issuer {issuer} cannot name the node: {why}")]
    Nameless {
        /// Which issuer.
        issuer: Name,
        /// What is wrong.
        why: NoNodeName,
    },
}

impl WorkloadRefusal {
    /// What it means to the one who asked.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::NoIssuer(_) => RefusalKind::NotFound,
            Self::IssuerChanged(_) => RefusalKind::Conflict,
            Self::IssuerGone(_)
            | Self::IssuerLocked(_)
            | Self::Expired
            | Self::Used
            | Self::NoRule { .. }
            | Self::Nameless { .. } => RefusalKind::Denied,
        }
    }

    /// A stable word for it, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoIssuer(_) => "no-workload-issuer",
            Self::IssuerGone(_) => "workload-issuer-gone",
            Self::IssuerChanged(_) => "workload-issuer-changed",
            Self::IssuerLocked(_) => "workload-issuer-locked",
            Self::Expired => "workload-token-expired",
            Self::Used => "workload-token-used",
            Self::NoRule { .. } => "workload-no-rule",
            Self::Nameless { .. } => "workload-nameless",
        }
    }
}
