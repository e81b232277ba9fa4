//! Where rules ask for posture checks, and what to say of those that ask for one that is not there.

use ringfence_model::Name;

use super::Check;
use crate::diagnostic::{Diagnostic, Place};
use crate::policy::{AllowRule, Policy};
use crate::reader::nearest;

/// One place where a rule asks for a check.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CheckUse<'p> {
    policy: &'p Policy,
    /// The rule.
    pub rule: &'p AllowRule,
    /// The check.
    pub check: &'p Name,
    /// Where it is named.
    place: Place,
}

impl Policy {
    /// Where its rules ask for checks, in file order.
    pub fn check_uses(&self) -> impl Iterator<Item = CheckUse<'_>> {
        self.rules.iter().flat_map(move |rule| {
            let checks = rule.require.iter().flat_map(|require| &require.posture);
            checks.zip(&rule.checks_at).map(move |(check, place)| CheckUse {
                policy: self,
                rule,
                check,
                place: *place,
            })
        })
    }

    /// A warning for each rule that asks for a check that is not among these: nobody passes it.
    pub fn unknown_checks(&self, known: &[Check]) -> Vec<Diagnostic> {
        let unknown = self.check_uses().filter(|used| !used.is_among(known));
        unknown.map(|used| used.warning(known)).collect()
    }
}

impl CheckUse<'_> {
    /// Whether a check is called so.
    pub fn is_among(&self, checks: &[Check]) -> bool {
        checks.iter().any(|check| check.name == *self.check)
    }

    /// What is said where checks are taken out of the posture file.
    pub fn would_close(&self) -> Diagnostic {
        let (perimeter, rule, check) = (&self.policy.name, self.rule.id, self.check);
        let message = format!(
            "rule {rule} of perimeter {perimeter} requires the posture check {check}: without the check it opens nothing"
        );
        Diagnostic::new(&self.policy.file, self.place, message)
    }

    fn warning(&self, known: &[Check]) -> Diagnostic {
        let (perimeter, rule, check) = (&self.policy.name, self.rule.id, self.check);
        let message = format!(
            "rule {rule} of perimeter {perimeter} requires the posture check {check}, which the posture file does not have: it opens nothing"
        );
        let help = match nearest(check.as_str(), known.iter().map(|check| check.name.as_str())) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None if known.is_empty() => {
                "there are no checks yet: `ringfence posture apply -f posture.toml` makes some".to_owned()
            }
            None => "`ringfence posture ls` lists the checks there are".to_owned(),
        };
        Diagnostic::new(&self.policy.file, self.place, message).with_help(help)
    }
}
