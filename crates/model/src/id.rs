//! Ids that the controller gives out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names one member of the mesh for its whole life: a node, or a device that runs a stock WireGuard client.
///
/// Drawn at random by the controller, never used twice, written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct NodeId(pub u64);

/// Names one join token. Not a secret: it is what listings and audit records show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct TokenId(pub u64);

/// Names one session of a person at a node. Not a secret: it opens nothing, it is what is ended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct SessionId(pub u64);

/// Names one person or group in the directory that an identity provider keeps here (SCIM `id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct DirectoryId(pub u64);

/// Names one lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct LockId(pub u64);

/// Names one API token. Not a secret: it is what listings and audit records show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct ApiTokenId(pub u64);

/// The place of an allow rule in its perimeter's policy, counted from 1 in file order.
///
/// Written `#3`; with the perimeter it is a rule's full name: `payments-db#3`. A rule that is in no file, but was granted
/// on request, is `payments-db#grant-17`: its numbers lie above those that a file can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u32))]
pub struct RuleId(pub u32);

/// Names one request for access, and the grant that comes of it. Counted from 1 for the life of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u32))]
pub struct AccessId(pub u32);

/// A text is not an id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 16 hex digits")]
pub struct IdError;

fn parse_hex(text: &str) -> Result<u64, IdError> {
    // `from_str_radix` alone would take a sign and capitals: one id has one spelling.
    let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !plain {
        return Err(IdError);
    }
    u64::from_str_radix(text, 16).map_err(|_| IdError)
}

macro_rules! hex_id {
    ($id:ident) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $id {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl TryFrom<String> for $id {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }
    };
}

hex_id!(NodeId);
hex_id!(TokenId);
hex_id!(SessionId);
hex_id!(LockId);
hex_id!(ApiTokenId);
hex_id!(DirectoryId);

impl RuleId {
    /// The rule that a request for access becomes once it is granted.
    pub const fn granted(access: AccessId) -> Self {
        Self(GRANTED_FROM | access.0)
    }

    /// Whether it is in no file, but was granted on request.
    pub const fn is_granted(self) -> bool {
        self.0 >= GRANTED_FROM
    }
}

impl AccessId {
    /// The last there can be.
    pub const MAX: Self = Self(GRANTED_FROM - 1);
}

/// A text is not the number of a request for access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request for access is named by its number, as `ringfence access ls` prints it")]
pub struct AccessIdError;

impl FromStr for AccessId {
    type Err = AccessIdError;

    fn from_str(text: &str) -> Result<Self, AccessIdError> {
        // `parse` alone would take a sign and zeros in front: one id has one spelling.
        let plain =
            text.starts_with(|c: char| matches!(c, '1'..='9')) && text.bytes().all(|b| b.is_ascii_digit());
        let id = text.parse().ok().filter(|_| plain).map(Self);
        id.filter(|id| *id <= Self::MAX).ok_or(AccessIdError)
    }
}

/// Far above the rules of the longest file.
const GRANTED_FROM: u32 = 1 << 31;

impl fmt::Display for AccessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_granted() {
            return write!(f, "#grant-{}", self.0 - GRANTED_FROM);
        }
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_granted_rule_is_told_from_those_of_a_file() {
        assert_eq!(RuleId(3).to_string(), "#3");
        assert_eq!(RuleId::granted(AccessId(17)).to_string(), "#grant-17");
        assert!(RuleId::granted(AccessId::MAX).is_granted() && !RuleId(10_000).is_granted());
    }

    #[test]
    fn one_id_has_one_spelling() {
        let id = NodeId(0xab);

        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(id));
        for other in ["00000000000000AB", "+0000000000000ab", "ab", ""] {
            assert_eq!(other.parse::<NodeId>(), Err(IdError));
        }
        assert_eq!("17".parse(), Ok(AccessId(17)));
        for other in ["", "0", "017", "+17", "-1", "2147483648", "#17"] {
            assert_eq!(other.parse::<AccessId>(), Err(AccessIdError));
        }
    }
}
