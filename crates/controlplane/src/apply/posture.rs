//! Events of posture, applied.

use std::collections::BTreeSet;

use ringfence_model::{Name, NodeId};

use super::{Misfit, NO_NODE, ensure};
use crate::GivenFact;
use crate::posture::{PostureEvent, PostureSource};
use crate::state::State;

impl State {
    pub(super) fn apply_posture_event(&mut self, event: &PostureEvent) -> Result<(), Misfit> {
        match event {
            PostureEvent::PostureApplied { after, .. } => {
                let source = PostureSource::try_from(after.clone()).map_err(Misfit::Policy)?;
                self.posture.source = Some(source);
                Ok(())
            }
            PostureEvent::PostureJudged { node, before, after } => self.judge_node(*node, before, after),
            PostureEvent::TpmRecorded { node, before, after } => {
                self.nodes.contains_key(node).then_some(()).ok_or(NO_NODE)?;
                let known = self.posture.tpms.insert(*node, after.clone());
                ensure(known == *before, "another TPM was known")
            }
            PostureEvent::FactGiven {
                node, fact, after, ..
            } => self.give_fact(*node, fact, after.as_ref()),
        }
    }

    fn judge_node(
        &mut self,
        id: NodeId,
        before: &BTreeSet<Name>,
        after: &BTreeSet<Name>,
    ) -> Result<(), Misfit> {
        self.nodes.contains_key(&id).then_some(()).ok_or(NO_NODE)?;
        let passed = self.posture.passed.remove(&id).unwrap_or_default();
        ensure(passed == *before, "it passed other checks")?;
        if !after.is_empty() {
            self.posture.passed.insert(id, after.clone());
        }
        Ok(())
    }

    fn give_fact(&mut self, id: NodeId, fact: &Name, after: Option<&GivenFact>) -> Result<(), Misfit> {
        self.nodes.contains_key(&id).then_some(()).ok_or(NO_NODE)?;
        let given = self.posture.given.entry(id).or_default();
        match after {
            Some(after) => given.insert(fact.clone(), after.clone()),
            None => given.remove(fact),
        };
        if given.is_empty() {
            self.posture.given.remove(&id);
        }
        Ok(())
    }
}
