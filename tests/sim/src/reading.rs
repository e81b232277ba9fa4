//! The oracle's reading of the controller's log: what each change means for policy, in [`Spec`]'s plain terms.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringfence_controlplane::{Change, Controller, Event};
use ringfence_model::{Name, NodeId};

use crate::controller::Effect;
use crate::spec::Spec;
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// The oracle's reading of a change.
    pub(crate) fn interpret(
        &mut self,
        controller: &Controller,
        change: &Change,
        effect: &Effect,
    ) -> Result<(), Violation> {
        let mut spec = (*self.current).clone();
        match effect.clone() {
            Effect::Nothing => {}
            Effect::Apply(name, perimeter) => {
                spec.perimeters.insert(name, perimeter);
            }
            Effect::Remove(name) => {
                spec.lapsed.retain(|(lapsed, _)| *lapsed != name);
                spec.perimeters.remove(&name);
            }
            Effect::Label(node, set, remove) => {
                let labels = spec.nodes.entry(node).or_default();
                labels.retain(|key, _| !remove.contains(key));
                labels.extend(set);
            }
            Effect::Enroll(labels) => {
                let id = change.events.iter().find_map(|event| match event {
                    Event::NodeEnrolled { node } => Some(node.id),
                    _ => None,
                });
                let id = id.ok_or_else(|| Violation::new("enrolment", "an enrolment made no node"))?;
                spec.nodes.insert(id, labels.into_iter().collect());
            }
            Effect::Expel(node) => {
                spec.nodes.remove(&node);
            }
            Effect::Key(name, node, key) => {
                spec.keys.insert((name, node), key);
            }
        }
        let seats: Vec<(Name, std::collections::BTreeSet<NodeId>)> = spec
            .perimeters
            .keys()
            .map(|name| (name.clone(), spec.members(name)))
            .collect();
        let seated = |name: &Name, node: NodeId| {
            seats
                .iter()
                .any(|(seat, members)| seat == name && members.contains(&node))
        };
        spec.keys.retain(|(name, node), _| seated(name, *node));
        self.read_lapses(&mut spec, change)?;
        spec.addresses = self.addresses(controller, &spec)?;
        self.current = Rc::new(spec);
        self.controller
            .specs
            .insert(self.controller.log.len(), Rc::clone(&self.current));
        self.oracle
            .committed(change.revision, self.now, Rc::clone(&self.current));
        Ok(())
    }

    /// The addresses given out, which no two share.
    fn addresses(
        &self,
        controller: &Controller,
        spec: &Spec,
    ) -> Result<BTreeMap<(Name, NodeId), ringfence_model::OverlayAddresses>, Violation> {
        let mut all = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for node in spec.nodes.keys() {
            let netmap = controller.netmap(*node, self.wall());
            let netmap =
                netmap.ok_or_else(|| Violation::new("enrolment", format!("node {node} has no netmap")))?;
            for (name, segment) in netmap.segments {
                for address in segment.addresses.both() {
                    if let Some(other) = owners.insert(address, *node) {
                        return Err(Violation::new(
                            "addresses",
                            format!("{address} is {other}'s and {node}'s"),
                        ));
                    }
                }
                let before = self.current.addresses.get(&(name.clone(), *node));
                if before.is_some_and(|before| *before != segment.addresses) {
                    return Err(Violation::new(
                        "addresses",
                        format!("node {node} moved in {name}"),
                    ));
                }
                all.insert((name, *node), segment.addresses);
            }
        }
        Ok(all)
    }
}
