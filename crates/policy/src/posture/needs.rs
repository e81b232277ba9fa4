//! What a node has to look up for the checks there are, and how often to say so.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FactName, PostureFile};

/// What a node has to look up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactNeeds {
    /// Of the facts that nodes look up, those that a check asks for.
    pub facts: BTreeSet<FactName>,
    /// How often at least to say what they are, though nothing changed. `None` if nothing is asked for.
    pub every: Option<Duration>,
}

impl PostureFile {
    /// What nodes have to look up: nothing that no check asks for. A third of the shortest age that a check allows lets
    /// two reports get lost.
    pub fn needs(&self) -> FactNeeds {
        let mut needs = FactNeeds::default();
        for check in &self.checks {
            let names = check.comparisons.iter().map(|comparison| &comparison.fact);
            let of_node: BTreeSet<FactName> = names.filter(|name| name.is_of_node()).cloned().collect();
            if of_node.is_empty() {
                continue;
            }
            needs.facts.extend(of_node);
            let every = (check.max_age / 3).min(REPORT_EVERY_MAX);
            needs.every = Some(needs.every.map_or(every, |shorter| shorter.min(every)));
        }
        needs
    }
}

/// Often enough that what is shown about a node is not old.
const REPORT_EVERY_MAX: Duration = Duration::from_mins(10);
