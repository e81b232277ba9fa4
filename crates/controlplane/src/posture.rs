//! What is known of machines, and which checks they pass.
//!
//! **Invariant:** which checks a node passes is in the log, and changes there and nowhere else. What nodes report is
//! not: it comes too often. It only makes the controller ask for an entry when a verdict differs from the last.

mod attestation;
mod command;
mod event;
mod tpm;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ringfence_control::{PostureOrder, PostureReport};
use ringfence_model::{Name, NodeId, TableSize, UnixMillis};
use ringfence_policy::{
    Check, CheckMode, Fact, FactName, FactSource, FactValue, Judgement, KnownFacts, NativeFact, PolicyErrors,
    PostureFile, TpmNeeds,
};
use serde::{Deserialize, Serialize};

pub use self::attestation::{Attestation, Attested, ChallengeEntropy, ProvedTpm};
pub use self::command::PostureCommand;
pub use self::event::PostureEvent;
pub use self::tpm::{TpmMaker, TpmName, TpmRecord};
use crate::{Controller, Event, PolicyFile};

/// What the log says about posture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PostureState {
    pub(crate) source: Option<PostureSource>,
    /// Of each node, the checks it passes, those that are only reported left out.
    pub(crate) passed: BTreeMap<NodeId, BTreeSet<Name>>,
    /// What was said of nodes through the API.
    pub(crate) given: BTreeMap<NodeId, BTreeMap<Name, GivenFact>>,
    /// Of each node that has shown one, its TPM.
    #[serde(default)]
    pub(crate) tpms: BTreeMap<NodeId, TpmRecord>,
}

/// A fact that was given through the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenFact {
    /// What it is.
    pub value: FactValue,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: UnixMillis,
    /// When it stops counting.
    pub expires: UnixMillis,
}

/// A posture file and what it says. Written as the text alone, and read by checking that again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PolicyFile", into = "PolicyFile")]
pub(crate) struct PostureSource {
    pub(crate) file: Arc<PolicyFile>,
    pub(crate) checks: Arc<PostureFile>,
}

/// What nodes reported since the controller started. Not in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// When this controller began to listen. What nodes passed then counts as measured then.
    began: UnixMillis,
    by_node: BTreeMap<NodeId, KnownFacts>,
    /// Of each node with a TPM, what came of the last challenge.
    by_tpm: BTreeMap<NodeId, Fact>,
    /// Of each node that passes a check, when it stops passing one by the clock alone.
    ends: BTreeMap<NodeId, UnixMillis>,
}

impl TryFrom<PolicyFile> for PostureSource {
    type Error = PolicyErrors;

    fn try_from(file: PolicyFile) -> Result<Self, PolicyErrors> {
        let checks = PostureFile::parse(&file.file, &file.text)?;
        Ok(Self {
            file: Arc::new(file),
            checks: Arc::new(checks),
        })
    }
}

impl From<PostureSource> for PolicyFile {
    fn from(source: PostureSource) -> Self {
        Arc::unwrap_or_clone(source.file)
    }
}

impl PostureState {
    /// The checks there are.
    pub(crate) fn checks(&self) -> &[Check] {
        self.source.as_ref().map_or(&[], |source| &source.checks.checks)
    }

    /// What policy may hold a node to: the checks that it passes, and those that are only reported.
    pub(crate) fn counts_for(&self, node: NodeId) -> BTreeSet<Name> {
        let reported = self
            .checks()
            .iter()
            .filter(|check| check.mode == CheckMode::Report)
            .map(|check| check.name.clone());
        let mut passed = self.passed.get(&node).cloned().unwrap_or_default();
        passed.extend(reported);
        passed
    }

    pub(crate) fn forget(&mut self, node: NodeId) {
        self.passed.remove(&node);
        self.given.remove(&node);
        self.tpms.remove(&node);
    }
}

impl From<&GivenFact> for Fact {
    fn from(given: &GivenFact) -> Self {
        Self {
            value: Ok(given.value.clone()),
            source: FactSource::Api(given.by.clone()),
            measured_at: given.at,
            expires: Some(given.expires),
        }
    }
}

impl Reports {
    fn forget(&mut self, node: NodeId) {
        self.by_node.remove(&node);
        self.by_tpm.remove(&node);
        self.ends.remove(&node);
    }

    pub(crate) fn tables(&self, nodes: usize) -> [TableSize; 3] {
        let Self {
            began: _,
            by_node,
            by_tpm,
            ends,
        } = self;
        [
            TableSize::new("nodes that reported", by_node.len(), nodes),
            TableSize::new("nodes whose TPM was challenged", by_tpm.len(), nodes),
            TableSize::new("nodes whose checks end", ends.len(), nodes),
        ]
    }

    /// When the next node stops passing a check.
    pub(crate) fn next_end(&self) -> Option<UnixMillis> {
        self.ends.values().min().copied()
    }

    /// The nodes that stopped passing a check by `wall`.
    pub(crate) fn due(&self, wall: UnixMillis) -> Vec<NodeId> {
        let due = self.ends.iter().filter(|(_, end)| **end <= wall);
        due.map(|(node, _)| *node).collect()
    }

    /// Everything known of a node: what it reported, what its TPM proved, and what was given.
    pub(crate) fn known(&self, state: &PostureState, node: NodeId) -> KnownFacts {
        let mut known = self.by_node.get(&node).cloned().unwrap_or_default();
        let given = state.given.get(&node).into_iter().flatten();
        known.extend(given.map(|(name, fact)| (FactName::Custom(name.clone()), Fact::from(fact))));
        let of_tpm = self.by_tpm.get(&node).cloned();
        known.extend(of_tpm.map(|fact| (TPM_STATE, fact)));
        known
    }

    /// The checks that a node passes at `wall`, each with the moment at which it stops by the clock alone. Of `held`, one
    /// that has been silent since this controller started counts as measured then: see [`Check::judge_silent`].
    pub(crate) fn judge(
        &self,
        state: &PostureState,
        node: NodeId,
        held: Option<&BTreeSet<Name>>,
        wall: UnixMillis,
    ) -> BTreeMap<Name, UnixMillis> {
        let known = self.known(state, node);
        let enforced = state.checks().iter();
        let enforced = enforced.filter(|check| check.mode == CheckMode::Enforce);
        let judged = enforced.filter_map(|check| {
            let judgement = if held.is_some_and(|held| held.contains(&check.name)) {
                check.judge_silent(&known, |fact| self.is_silent(node, fact), self.began, wall)
            } else {
                check.judge(&known, wall)
            };
            Some((check.name.clone(), judgement.until?))
        });
        judged.collect()
    }

    /// What came of one check, for people.
    pub(crate) fn judgement(
        &self,
        state: &PostureState,
        node: NodeId,
        check: &Check,
        wall: UnixMillis,
    ) -> Judgement {
        let held = state.passed.get(&node);
        let known = self.known(state, node);
        if held.is_some_and(|held| held.contains(&check.name)) {
            check.judge_silent(&known, |fact| self.is_silent(node, fact), self.began, wall)
        } else {
            check.judge(&known, wall)
        }
    }

    /// Whether whoever says this of a node has not said it since this controller started.
    fn is_silent(&self, node: NodeId, fact: &FactName) -> bool {
        match fact {
            FactName::Native(NativeFact::TpmState) => !self.by_tpm.contains_key(&node),
            FactName::Custom(_) => false,
            FactName::Native(_) | FactName::Process(_) | FactName::File(_) | FactName::Script(_) => {
                !self.by_node.contains_key(&node)
            }
        }
    }

    /// The nodes that something is known of.
    pub(crate) fn nodes<'a>(&'a self, state: &'a PostureState) -> BTreeSet<NodeId> {
        let all = self.by_node.keys().chain(self.by_tpm.keys());
        let all = all.chain(state.passed.keys());
        all.chain(state.given.keys()).copied().collect()
    }

    /// Notes when a node stops passing the first of the checks that the log says it passes: at once, if it does not.
    fn settle(&mut self, state: &PostureState, node: NodeId, wall: UnixMillis) {
        let held = state.passed.get(&node);
        let passed = self.judge(state, node, held, wall);
        let ends = held.into_iter().flatten();
        let ends = ends.map(|check| passed.get(check).copied().unwrap_or(wall));
        match ends.min() {
            Some(end) => self.ends.insert(node, end),
            None => self.ends.remove(&node),
        };
    }
}

impl Controller {
    /// The controller listens from now on. What nodes passed when it was last up counts as measured now, so that a
    /// restart cuts nobody off, and nobody who stays silent keeps it for longer than a check allows.
    pub fn begin_posture(&mut self, wall: UnixMillis) {
        self.reports.began = wall;
        let nodes: Vec<NodeId> = self.state.posture.passed.keys().copied().collect();
        for node in nodes {
            self.reports.settle(&self.state.posture, node, wall);
        }
    }

    /// A connected node told what it found about its machine. Gives whether it passes other checks than before: propose
    /// [`PostureCommand::Judge`] then.
    pub fn posture_reported(
        &mut self,
        node: NodeId,
        connection_id: u64,
        report: &PostureReport,
        wall: UnixMillis,
    ) -> bool {
        if self.connected_as(node, connection_id).is_none() {
            return false;
        }
        self.reports.by_node.insert(node, report.known_at(wall));
        self.passes_others(node, wall)
    }

    /// Takes what came of challenging a node's TPM, as [`Self::posture_reported`] takes a report.
    fn take_tpm_fact(&mut self, node: NodeId, fact: Fact, wall: UnixMillis) -> bool {
        self.reports.by_tpm.insert(node, fact);
        self.passes_others(node, wall)
    }

    /// Whether a node of which something is newly known passes other checks than before.
    fn passes_others(&mut self, node: NodeId, wall: UnixMillis) -> bool {
        self.reports.settle(&self.state.posture, node, wall);
        let held = self.state.posture.passed.get(&node);
        let passed = self.reports.judge(&self.state.posture, node, held, wall);
        !passed.keys().eq(held.into_iter().flatten())
    }

    /// What checks ask of the TPMs of nodes.
    pub fn tpm_needs(&self) -> TpmNeeds {
        let source = self.state.posture.source.as_ref();
        source.map_or_else(TpmNeeds::default, |source| source.checks.tpm_needs())
    }

    /// What nodes are to look up.
    pub fn posture_order(&self) -> PostureOrder {
        let source = self.state.posture.source.as_ref();
        source.map_or_else(PostureOrder::default, |source| {
            PostureOrder::of(&source.checks.needs())
        })
    }

    /// Notes what a change did to what nodes pass.
    pub(crate) fn settle_posture(&mut self, events: &[Event], wall: UnixMillis) {
        let mut nodes = BTreeSet::new();
        for event in events {
            match event {
                Event::Posture(event) => match event.as_ref() {
                    PostureEvent::PostureApplied { .. } => {
                        nodes.extend(self.reports.nodes(&self.state.posture));
                    }
                    PostureEvent::PostureJudged { node, .. }
                    | PostureEvent::FactGiven { node, .. }
                    | PostureEvent::TpmRecorded { node, .. } => {
                        nodes.insert(*node);
                    }
                },
                Event::NodeRemoved { before } => self.reports.forget(before.id),
                _ => {}
            }
        }
        for node in nodes {
            self.reports.settle(&self.state.posture, node, wall);
        }
    }
}

const TPM_STATE: FactName = FactName::Native(NativeFact::TpmState);
/// The longest time to live of a given fact.
pub const FACT_TTL_MAX: Duration = Duration::from_hours(24 * 31);
/// Given facts that are kept of one node.
pub const FACTS_GIVEN_MAX: usize = 64;
