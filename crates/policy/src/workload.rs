//! Workload issuers: whose tokens admit machines without a join token, and what their claims make of a node.
//!
//! **Invariant:** the first rule whose every condition holds decides, and a rule without a condition on who is meant
//! cannot be written; so a condition more never admits more.

mod claims;
mod name;
mod subject;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ringfence_model::{Labels, Name};
use serde_json::{Map, Value};

pub use self::claims::{ClaimPath, ClaimWanted, Condition};
pub use self::name::{NameTemplate, NoNodeName};
pub use self::text::{WORKLOAD_BYTES_MAX, WORKLOAD_RULES_MAX};
use crate::diagnostic::Place;

/// The claims of a token, as its issuer signed them.
pub type Claims = Map<String, Value>;

/// An issuer of tokens for workloads, as an administrator's file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadIssuer {
    /// What it is called here.
    pub name: Name,
    /// What its tokens must say as `iss`.
    pub url: String,
    /// What its tokens must say as `aud`, and nothing beside it: they were made for us.
    pub audience: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The CA its certificate comes from, if it is not one the public trusts.
    pub ca_pem: Option<String>,
    /// Whether its addresses may be private ones (red line 9).
    pub allow_private_address: bool,
    /// The longest life of a token of its that counts.
    pub max_life: Duration,
    /// Which workloads are let in, and as what.
    pub rules: Vec<WorkloadRule>,
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// From where the metadata at its URL say (OpenID Connect Discovery 1.0).
    Discovery,
    /// From this URL.
    Url(String),
    /// From the file itself: a JWKS, for issuers that cannot be reached.
    Given(String),
}

/// One `[[admit]]` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRule {
    /// Counted from 1, in file order.
    pub number: u32,
    /// Where it stands.
    pub place: Place,
    /// What the claims must be: all of it.
    pub conditions: Vec<Condition>,
    /// What the node is labelled.
    pub labels: Labels,
    /// What the node is called; what it asks for if absent.
    pub name: Option<NameTemplate>,
}

/// Why a rule does not let a workload in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMiss {
    /// Which rule.
    pub rule: u32,
    /// The first claim that is not as it wants.
    pub claim: String,
    /// What the claim is.
    pub found: String,
    /// What it would have to be.
    pub wanted: String,
}

impl WorkloadIssuer {
    /// The rule that lets in whoever has these claims.
    ///
    /// # Errors
    /// Why each rule does not.
    pub fn judge(&self, claims: &Claims) -> Result<&WorkloadRule, Vec<RuleMiss>> {
        let mut misses = Vec::new();
        for rule in &self.rules {
            match rule.judge(claims) {
                Ok(()) => return Ok(rule),
                Err(miss) => misses.push(miss),
            }
        }
        Err(misses)
    }
}

impl WorkloadRule {
    /// Whether it lets in whoever has these claims.
    ///
    /// # Errors
    /// The first claim that is not as it wants.
    pub fn judge(&self, claims: &Claims) -> Result<(), RuleMiss> {
        let miss = self.conditions.iter().find(|condition| !condition.holds(claims));
        let Some(condition) = miss else { return Ok(()) };
        Err(RuleMiss {
            rule: self.number,
            claim: condition.claim.to_string(),
            found: condition
                .claim
                .find(claims)
                .map_or_else(|| "absent".to_owned(), claims::shown),
            wanted: condition.wanted.to_string(),
        })
    }

    /// The claims that it looks at, with what they are: what an admission is to be remembered by.
    pub fn looked_at(&self, claims: &Claims) -> BTreeMap<String, String> {
        let conditions = self.conditions.iter().map(|condition| &condition.claim);
        let paths = conditions.chain(self.name.iter().flat_map(NameTemplate::claims));
        let found = paths.filter_map(|path| Some((path.to_string(), claims::shown(path.find(claims)?))));
        found.collect()
    }
}

impl fmt::Display for RuleMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            claim,
            found,
            wanted,
        } = self;
        write!(f, "rule {rule}: {claim} is {found}, not {wanted}")
    }
}

#[cfg(test)]
mod tests;
