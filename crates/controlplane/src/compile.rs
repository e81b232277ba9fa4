//! The perimeters as compiled: kept from change to change, and made anew only where a change touches them.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{Name, NodeId, UnixMillis};
use ringfence_policy::{Compiled, compile};

use crate::state::State;
use crate::{Event, LockTarget, PostureEvent};

/// Every perimeter as compiled from the state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Views {
    by_perimeter: BTreeMap<Name, Compiled>,
}

/// What a change touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Perimeters whose every member may get something new.
    pub(crate) perimeters: BTreeSet<Name>,
    /// Perimeters whose rules were judged again: who gets something new is found by comparing.
    pub(crate) judged: BTreeSet<Name>,
    /// Members whose groups may have changed in a perimeter: they and their peers may get something new.
    pub(crate) groups: BTreeSet<(Name, NodeId)>,
    /// Nodes with another name or key: they and their peers get something new.
    pub(crate) facts: BTreeSet<NodeId>,
    /// Everyone: a new term.
    pub(crate) everyone: bool,
}

impl Views {
    pub(crate) fn of(state: &State) -> Self {
        let names = state.perimeters.keys();
        Self {
            by_perimeter: names
                .filter_map(|name| Some((name.clone(), compile_perimeter(state, name)?)))
                .collect(),
        }
    }

    pub(crate) fn perimeter(&self, name: &Name) -> Option<&Compiled> {
        self.by_perimeter.get(name)
    }

    /// Compiles what a change touched anew from the state after it. Those whom judging again concerns.
    pub(crate) fn update(&mut self, state: &State, touched: &Touched) -> BTreeSet<NodeId> {
        let mut concerned = BTreeSet::new();
        for name in touched.recompiled() {
            let Some(compiled) = compile_perimeter(state, name) else {
                self.by_perimeter.remove(name);
                continue;
            };
            let before = self.by_perimeter.remove(name).unwrap_or_default();
            if touched.judged.contains(name) {
                concerned.extend(compiled.concerned_since(&before));
            }
            self.by_perimeter.insert(name.clone(), compiled);
        }
        concerned
    }

    /// How many perimeters there are.
    pub(crate) fn len(&self) -> usize {
        self.by_perimeter.len()
    }

    /// When the clock alone next changes what is open, or ends a rule.
    pub(crate) fn next_change(&self) -> Option<UnixMillis> {
        self.by_perimeter
            .values()
            .filter_map(|compiled| compiled.next_change)
            .min()
    }

    /// Everyone that `touched` concerns, as things stand in these views: call before and after an update.
    pub(crate) fn concerned(&self, state: &State, touched: &Touched) -> BTreeSet<NodeId> {
        let mut concerned = BTreeSet::new();
        if touched.everyone {
            concerned.extend(state.nodes.keys());
        }
        for name in &touched.perimeters {
            if let Some(compiled) = self.perimeter(name) {
                concerned.extend(compiled.members());
            }
        }
        for (name, id) in &touched.groups {
            concerned.insert(*id);
            if let Some(compiled) = self.perimeter(name) {
                concerned.extend(compiled.allowlist(*id).peers);
            }
        }
        for id in &touched.facts {
            concerned.insert(*id);
            concerned.extend(self.peers(state, *id));
        }
        concerned
    }

    /// Everyone a node may talk to, in any perimeter.
    fn peers(&self, state: &State, node: NodeId) -> BTreeSet<NodeId> {
        let Some(node) = state.nodes.get(&node) else {
            return BTreeSet::new();
        };
        let compiled = node.perimeters.iter().filter_map(|name| self.perimeter(name));
        compiled
            .flat_map(|compiled| compiled.allowlist(node.id).peers)
            .collect()
    }
}

/// One perimeter, compiled at the moment its rules were last judged.
pub(crate) fn compile_perimeter(state: &State, name: &Name) -> Option<Compiled> {
    let perimeter = state.perimeters.get(name)?;
    let members = state.members_for(name);
    let policy = state.policy_in_force(perimeter);
    Some(compile(&policy, &members, perimeter.judged_at))
}

/// The same by its file alone, without what was granted on request.
pub(crate) fn compile_file(state: &State, name: &Name) -> Option<Compiled> {
    let perimeter = state.perimeters.get(name)?;
    let members = state.members_for(name);
    Some(compile(perimeter.policy(), &members, perimeter.judged_at))
}

impl Touched {
    /// What the events of a change touch, as seen from the state before it.
    pub(crate) fn by(events: &[Event], before: &State) -> Self {
        let mut touched = Self::default();
        for event in events {
            touched.add(event, before);
        }
        touched
    }

    /// The perimeters to compile anew.
    pub(crate) fn recompiled(&self) -> BTreeSet<&Name> {
        let by_group = self.groups.iter().map(|(name, _)| name);
        self.perimeters
            .iter()
            .chain(&self.judged)
            .chain(by_group)
            .collect()
    }

    fn add(&mut self, event: &Event, before: &State) {
        match event {
            Event::TermStarted { .. } | Event::MeshFounded { .. } => self.everyone = true,
            Event::PerimeterCreated { perimeter, .. }
            | Event::PerimeterChanged { perimeter, .. }
            | Event::PerimeterRemoved { perimeter, .. }
            | Event::BlockAdded { perimeter, .. } => {
                self.perimeters.insert(perimeter.clone());
            }
            Event::RulesExpired { perimeter, .. } | Event::ConditionsChanged { perimeter, .. } => {
                self.judged.insert(perimeter.clone());
            }
            Event::MemberJoined {
                perimeter, member, ..
            }
            | Event::MemberLeft {
                perimeter, member, ..
            } => {
                self.groups.insert((perimeter.clone(), *member));
            }
            Event::NodeLabelled { node, .. } | Event::SourceSeen { node, .. } => {
                self.add_groups_of(*node, before);
            }
            Event::NodeRenamed { node, .. } | Event::KeyRegistered { node, .. } => {
                self.facts.insert(*node);
            }
            Event::DeviceAdded { device } => {
                self.groups.insert((device.perimeter.clone(), device.id));
            }
            Event::DeviceRemoved { before } | Event::DeviceExpired { before } => {
                self.groups.insert((before.perimeter.clone(), before.id));
            }
            Event::NodeRemoved { before } => {
                self.facts.insert(before.id);
            }
            Event::Lapse(event) => {
                let (perimeter, nodes) = event.subjects();
                self.add_members(perimeter, nodes);
            }
            Event::Drill(event) => {
                let drill = event.drill();
                self.add_members(&drill.perimeter, &[drill.from, drill.to]);
            }
            Event::Locks(event) => self.add_target(event.target(), before),
            Event::Posture(event) => self.add_posture(event, before),
            Event::People(event) => event.node().iter().for_each(|node| self.add_groups_of(*node, before)),
            Event::Access(event) => {
                if let Some((perimeter, node)) = event.touched() {
                    self.add_members(perimeter, &[node]);
                }
            }
            Event::TokenCreated { .. }
            | Event::TokenUsed { .. }
            | Event::TokenRevoked { .. }
            | Event::TokenExpired { .. }
            | Event::TokenForgotten { .. }
            | Event::NodeEnrolled { .. }
            | Event::CertificateIssued { .. }
            | Event::ProviderAdded { .. }
            | Event::ProviderRemoved { .. }
            | Event::ApiTokens(_)
            // What follows from it is of the sessions it changes.
            | Event::Directory(_)
            | Event::Receipts(_)
            // What follows from it is of the node that it lets in.
            | Event::Workloads(_)
            | Event::Accounts(_)
            | Event::Refused { .. } => {}
        }
    }

    fn add_members(&mut self, perimeter: &Name, members: &[NodeId]) {
        let members = members.iter().map(|member| (perimeter.clone(), *member));
        self.groups.extend(members);
    }

    fn add_posture(&mut self, event: &PostureEvent, before: &State) {
        match event {
            PostureEvent::PostureJudged { node, .. } => self.add_groups_of(*node, before),
            // Every node is told what to look up from now on, and checks that are only reported count for all.
            PostureEvent::PostureApplied { .. } => {
                self.everyone = true;
                self.perimeters.extend(before.perimeters.keys().cloned());
            }
            PostureEvent::FactGiven { .. } | PostureEvent::TpmRecorded { .. } => {}
        }
    }

    /// What a lock may cut or join again. A person's sessions are events of their own.
    fn add_target(&mut self, target: &LockTarget, before: &State) {
        match target {
            LockTarget::Node { node } => {
                let device = before.devices.get(node);
                self.groups
                    .extend(device.map(|device| (device.perimeter.clone(), *node)));
                self.add_groups_of(*node, before);
            }
            LockTarget::Perimeter { perimeter } => {
                self.perimeters.insert(perimeter.clone());
            }
            // Many may have the labels: to tell everyone of their perimeters costs less than to find out whom.
            LockTarget::Label { selector } => {
                let nodes = before
                    .nodes
                    .values()
                    .filter(|node| selector.matches(&node.labels));
                self.perimeters
                    .extend(nodes.flat_map(|node| node.perimeters.iter().cloned()));
                let devices = before
                    .devices
                    .values()
                    .filter(|device| selector.matches(&device.labels));
                self.perimeters
                    .extend(devices.map(|device| device.perimeter.clone()));
            }
            LockTarget::User { .. } | LockTarget::Token { .. } | LockTarget::Workload { .. } => {}
        }
    }

    /// A node's groups may be others in every perimeter that it was a member of; what it comes into says so itself.
    fn add_groups_of(&mut self, node: NodeId, before: &State) {
        let perimeters = before.nodes.get(&node).map(|node| node.perimeters.clone());
        let each = perimeters.into_iter().flatten();
        self.groups.extend(each.map(|name| (name, node)));
    }
}
