//! What became of requests for access.

use ringfence_model::{AccessId, Name, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use super::{AccessRequest, AccessStanding, Approval, Urgency};

/// One fact about access on request: in [`crate::Event::Access`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AccessEvent {
    /// Somebody asked.
    AccessRequested {
        /// For what.
        request: AccessRequest,
    },
    /// Somebody approved.
    AccessApproved {
        /// Which request.
        access: AccessId,
        /// Who, and when.
        approval: Approval,
    },
    /// It is granted.
    AccessOpened {
        /// Which request.
        access: AccessId,
        /// In which perimeter.
        perimeter: Name,
        /// To which node.
        node: NodeId,
        /// Until when.
        until: UnixMillis,
        /// If nobody approved it: until when somebody is to review it.
        review_by: Option<UnixMillis>,
    },
    /// Somebody denied it.
    AccessDenied {
        /// What was asked.
        before: AccessRequest,
        /// Why it was denied.
        reason: Option<String>,
    },
    /// It was ended before its time, or taken back before anybody answered.
    AccessEnded {
        /// What it was.
        before: AccessRequest,
        /// Why.
        cause: AccessEnd,
    },
    /// Its time ran out: to be answered, or what was granted.
    AccessExpired {
        /// What it was.
        before: AccessRequest,
    },
    /// Somebody reviewed what was opened before anybody approved.
    AccessReviewed {
        /// Which request.
        access: AccessId,
        /// What came of it.
        reason: Option<String>,
    },
}

/// Why access, or a request for it, ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessEnd {
    /// Somebody ended it.
    Ended,
    /// The person it was for is not logged in any more.
    SessionEnded,
    /// The node was removed.
    NodeRemoved,
    /// The perimeter was removed.
    PerimeterRemoved,
    /// The perimeter has no such group any more.
    GroupRemoved,
}

impl AccessEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AccessRequested { .. } => "access-requested",
            Self::AccessApproved { .. } => "access-approved",
            Self::AccessOpened { .. } => "access-opened",
            Self::AccessDenied { .. } => "access-denied",
            Self::AccessEnded { .. } => "access-ended",
            Self::AccessExpired { .. } => "access-expired",
            Self::AccessReviewed { .. } => "access-reviewed",
        }
    }

    /// The perimeter and the node of what it opens or closes.
    pub(crate) fn touched(&self) -> Option<(&Name, NodeId)> {
        match self {
            Self::AccessOpened { perimeter, node, .. } => Some((perimeter, *node)),
            Self::AccessEnded { before, .. } | Self::AccessExpired { before } => {
                before.is_open().then_some((&before.perimeter, before.node))
            }
            Self::AccessRequested { .. }
            | Self::AccessApproved { .. }
            | Self::AccessDenied { .. }
            | Self::AccessReviewed { .. } => None,
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        let said = |reason: &Option<String>| reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        match self {
            Self::AccessRequested { request } => {
                let glass = match request.urgency {
                    Urgency::Ordinary => "",
                    Urgency::BreakGlass => ", breaking the glass",
                };
                format!("asked for access {}{glass}: {}", request.words(), request.reason)
            }
            Self::AccessApproved { access, approval } => {
                format!(
                    "{} approved access {access}{}",
                    approval.by,
                    said(&approval.reason)
                )
            }
            Self::AccessOpened {
                access,
                perimeter,
                review_by: None,
                ..
            } => format!("granted access {access} in perimeter {perimeter}"),
            Self::AccessOpened {
                access, perimeter, ..
            } => format!("opened access {access} in perimeter {perimeter}, to be reviewed"),
            Self::AccessDenied { before, reason } => {
                format!("denied access {}{}", before.words(), said(reason))
            }
            Self::AccessEnded { before, cause } => {
                format!("access {} {}", before.words(), cause.as_str())
            }
            Self::AccessExpired { before } => match before.standing {
                AccessStanding::Waiting => {
                    format!("nobody answered the request for access {}", before.words())
                }
                AccessStanding::Open { .. } | AccessStanding::Closed => {
                    format!("access {} expired", before.words())
                }
            },
            Self::AccessReviewed { access, reason } => format!("reviewed access {access}{}", said(reason)),
        }
    }
}

impl AccessRequest {
    /// Its number, and what it is to whom.
    fn words(&self) -> String {
        let person = self.asked_by.person.as_ref();
        let person = person
            .map(|person| format!("{} at ", person.name))
            .unwrap_or_default();
        let services: Vec<String> = self.services.iter().map(ToString::to_string).collect();
        let (id, node, to, perimeter) = (self.id, &self.node_name, &self.to, &self.perimeter);
        format!(
            "{id} of {person}{node} to {to} of {perimeter} on {}",
            services.join(", ")
        )
    }
}

impl AccessEnd {
    /// In words, after "access 17 of alice".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "was ended",
            Self::SessionEnded => "ended with the session",
            Self::NodeRemoved => "ended because the node was removed",
            Self::PerimeterRemoved => "ended because the perimeter was removed",
            Self::GroupRemoved => "ended because the perimeter has no such group any more",
        }
    }
}
