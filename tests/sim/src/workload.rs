//! What administrators and applications do.

use std::time::Duration;

use ringfence_control::RegisterKey;
use ringfence_control::ToController;
use ringfence_controlplane::{Actor, Command, Event, Identity, PolicyFile};
use ringfence_model::{Labels, Name, NodeId, TokenId};

use crate::apps::Call;
use crate::certificates::Certificate;
use crate::controller::{Effect, hash_of};
use crate::disk::Identity as NodeIdentity;
use crate::network::CONTROLLER;
use crate::schedule::Happening;
use crate::spec::{Allow, Perimeter, Service};
use crate::violation::Violation;
use crate::world::World;

/// A join token as an administrator wrote it down.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    id: TokenId,
    secret: u64,
    labels: Vec<(&'static str, &'static str)>,
    /// How many nodes it may make.
    uses: u32,
}

impl World {
    /// An administrator acts.
    pub(crate) fn administer(&mut self) -> Result<(), Violation> {
        let idle: Vec<usize> = (0..self.machines.len())
            .filter(|place| {
                self.machines[*place].disk.identity.is_none() && self.machines[*place].rogue.is_none()
            })
            .collect();
        if !idle.is_empty() && self.dice.chance(0.7) {
            let machine = self.dice.pick(&idle);
            return self.enroll(machine);
        }
        match self.dice.number(0..20) {
            0..=8 => self.apply_perimeter(),
            9 => self.remove_perimeter(),
            10..=14 => self.relabel(),
            15 | 16 => self.expel_any(),
            _ => self.expel_rogue(),
        }
    }

    /// Everything that is there before the faults begin.
    pub(crate) fn furnish(&mut self) -> Result<(), Violation> {
        for machine in 0..self.machines.len() {
            self.enroll(machine)?;
        }
        for _ in 0..self.swarm.perimeters {
            self.apply_perimeter()?;
        }
        Ok(())
    }

    fn draw_labels(&mut self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("role", self.dice.pick(&ROLES)),
            ("env", self.dice.pick(&["prod", "prod", "dev"])),
        ]
    }

    /// Admits a machine: a token, then its use.
    pub(crate) fn enroll(&mut self, machine: usize) -> Result<(), Violation> {
        let labels = self.draw_labels();
        let Some(token) = self.create_token(labels)? else {
            return Ok(());
        };
        self.join(machine, token, true)
    }

    fn create_token(
        &mut self,
        labels: Vec<(&'static str, &'static str)>,
    ) -> Result<Option<usize>, Violation> {
        let secret = self.dice.number(1..u64::MAX);
        let uses = self.dice.number(1..3) as u32;
        let command = Command::CreateToken {
            labels: labels_of(&labels),
            ttl: Duration::from_secs(self.dice.number(30..4_000)),
            uses,
            secret_hash: hash_of(secret),
        };
        let Ok(change) = self.commit(|request| Actor::admin("ada", request), command, Effect::Nothing)?
        else {
            return Ok(None);
        };
        let id = change.events.iter().find_map(|event| match event {
            Event::TokenCreated { token } => Some(token.id),
            _ => None,
        });
        let id = id.ok_or_else(|| Violation::new("enrolment", "no token was made"))?;
        self.tokens.push(Token {
            id,
            secret,
            labels,
            uses,
        });
        Ok(Some(self.tokens.len() - 1))
    }

    /// A machine presents a token. Now and then the answer is lost: the controller knows a node that nobody is.
    fn join(&mut self, machine: usize, token: usize, honest: bool) -> Result<(), Violation> {
        let is_open = self.network.is_open(machine, CONTROLLER) && self.network.is_open(CONTROLLER, machine);
        if !is_open {
            return Ok(());
        }
        self.machines[machine].enrolled += 1;
        self.names += 1;
        let (spki, name) = (
            self.dice.bytes().to_vec(),
            name_of(&format!("m{machine}-{}", self.names)),
        );
        let Token {
            id, secret, labels, ..
        } = self.tokens[token].clone();
        let secret = if honest { secret } else { secret ^ 1 };
        let identity =
            Identity::from_spki(&spki).map_err(|_| Violation::new("enrolment", "an identity of 32 bytes"))?;
        let command = Command::Enroll {
            token: id,
            secret_hash: hash_of(secret),
            name,
            identity,
        };
        let Ok(change) = self.commit(
            |request| Actor::token(id, request),
            command,
            Effect::Enroll(labels),
        )?
        else {
            return Ok(());
        };
        let (uses, used) = (self.tokens[token].uses, self.uses_of(id));
        if used > uses || !honest {
            let what = format!("token {id} for {uses} uses made {used} nodes, secret right: {honest}");
            return Err(Violation::new("enrolment", what));
        }
        let node = change.events.iter().find_map(|event| match event {
            Event::NodeEnrolled { node } => Some(node.id),
            _ => None,
        });
        let Some(node) = node.filter(|_| self.machines[machine].disk.identity.is_none()) else {
            return Ok(());
        };
        if self.dice.chance(0.05) && self.now > Duration::ZERO {
            return Ok(());
        }
        let certificate = Certificate::made_at(self.wall());
        let disk = &mut self.machines[machine].disk;
        disk.identity = Some(NodeIdentity { node, spki });
        disk.certificate = Some(certificate);
        self.queue
            .at(self.now + Duration::from_millis(50), Happening::Start { machine });
        Ok(())
    }

    /// How many nodes a token has made, by the log.
    fn uses_of(&self, token: TokenId) -> u32 {
        let changes = self.controller.log.changes();
        let made = changes.iter().filter(|change| {
            change.actor.name == token.to_string()
                && change
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::NodeEnrolled { .. }))
        });
        made.count() as u32
    }

    /// Someone tries a token that is used up, or a secret that is wrong.
    pub(crate) fn abuse_token(&mut self) -> Result<(), Violation> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let token = self.dice.place(self.tokens.len());
        let machine = self.dice.place(self.machines.len());
        let used_up = self.uses_of(self.tokens[token].id) >= self.tokens[token].uses;
        let honest = used_up && self.dice.chance(0.5);
        self.join(machine, token, honest)
    }

    fn apply_perimeter(&mut self) -> Result<(), Violation> {
        let name = name_of(&format!("p{}", self.dice.number(0..self.swarm.perimeters as u64)));
        let before = self.current.perimeters.get(&name).cloned();
        let perimeter = match before {
            Some(perimeter) if self.dice.chance(0.8) => self.edit(perimeter),
            _ => self.draw_perimeter(),
        };
        let file = PolicyFile {
            file: format!("{name}.toml"),
            text: perimeter.text(&name),
        };
        let command = Command::ApplyPerimeters {
            files: vec![file.clone()],
            prune: false,
            base: None,
        };
        let done = self.commit(
            |request| Actor::admin("ada", request),
            command,
            Effect::Apply(name, perimeter),
        )?;
        match done {
            Err(crate::controller::NotDone::Refused(ringfence_controlplane::Refusal::Unchanged)) | Ok(_) => {
                Ok(())
            }
            Err(crate::controller::NotDone::Refused(refusal)) => Err(Violation::new(
                "policy",
                format!("a sound file is refused: {refusal}\n{}", file.text),
            )),
            Err(_) => Ok(()),
        }
    }

    fn draw_perimeter(&mut self) -> Perimeter {
        let mut groups = Vec::new();
        for name in &GROUPS[..self.dice.number(2..4) as usize] {
            let role = ("role", self.dice.pick(&ROLES));
            let labels = match self.dice.number(0..8) {
                0 => vec![role, ("env", "prod")],
                1..=3 => vec![role],
                _ => vec![("env", self.dice.pick(&["prod", "prod", "dev"]))],
            };
            groups.push((*name, labels));
        }
        let rules = self.dice.number(2..6);
        let allow = (0..rules).map(|_| self.draw_rule(groups.len())).collect();
        Perimeter {
            lease_s: self.dice.pick(&[10, 15, 30, 60, 120]),
            groups,
            allow,
        }
    }

    fn draw_rule(&mut self, groups: usize) -> Allow {
        let services = (0..self.dice.number(1..4)).map(|_| self.draw_service()).collect();
        let soon = self.wall().0 / 1000 + self.dice.number(5..120);
        Allow {
            from: self.dice.place(groups),
            to: self.dice.place(groups),
            services,
            expires_s: self.dice.chance(0.25).then_some(soon),
        }
    }

    fn draw_service(&mut self) -> Service {
        let port = self.dice.pick(&PORTS);
        match self.dice.number(0..6) {
            0 | 1 => Service::Tcp(port, port),
            2 => Service::Tcp(port, port.saturating_add(400)),
            3 | 4 => Service::Udp(port, port),
            _ => Service::Icmp,
        }
    }

    fn edit(&mut self, mut perimeter: Perimeter) -> Perimeter {
        match self.dice.number(0..4) {
            0 if perimeter.allow.len() > 1 => {
                let place = self.dice.place(perimeter.allow.len());
                perimeter.allow.remove(place);
            }
            1 => {
                let rule = self.draw_rule(perimeter.groups.len());
                perimeter.allow.push(rule);
                perimeter.allow.truncate(6);
            }
            2 => {
                let (place, service) = (self.dice.place(perimeter.allow.len()), self.draw_service());
                perimeter.allow[place].services = vec![service];
            }
            _ => perimeter.lease_s = self.dice.pick(&[10, 20, 30, 60]),
        }
        perimeter
    }

    fn remove_perimeter(&mut self) -> Result<(), Violation> {
        let names: Vec<Name> = self.current.perimeters.keys().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let name = names[self.dice.place(names.len())].clone();
        let command = Command::RemovePerimeter { name: name.clone() };
        let _ = self.commit(
            |request| Actor::admin("ada", request),
            command,
            Effect::Remove(name),
        )?;
        Ok(())
    }

    fn any_node(&mut self) -> Option<NodeId> {
        let nodes: Vec<NodeId> = self.current.nodes.keys().copied().collect();
        if nodes.is_empty() {
            None
        } else {
            Some(self.dice.pick(&nodes))
        }
    }

    fn relabel(&mut self) -> Result<(), Violation> {
        let Some(node) = self.any_node() else {
            return Ok(());
        };
        let set = if self.dice.chance(0.8) {
            self.draw_labels()
        } else {
            Vec::new()
        };
        let remove = if set.is_empty() { vec!["env"] } else { Vec::new() };
        let command = Command::UpdateNode {
            node,
            name: None,
            set: labels_of(&set),
            remove: remove.iter().map(|key| (*key).to_owned()).collect(),
        };
        let _ = self.commit(
            |request| Actor::admin("ada", request),
            command,
            Effect::Label(node, set, remove),
        )?;
        Ok(())
    }

    fn expel_any(&mut self) -> Result<(), Violation> {
        let Some(node) = self.any_node() else {
            return Ok(());
        };
        self.expel(node)
    }

    pub(crate) fn expel_rogue(&mut self) -> Result<(), Violation> {
        let rogues = self.machines.iter().filter_map(|machine| machine.rogue.as_ref());
        let known: Vec<NodeId> = rogues
            .map(|rogue| rogue.node)
            .filter(|node| self.current.nodes.contains_key(node))
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let node = self.dice.pick(&known);
        self.expel(node)
    }

    fn expel(&mut self, node: NodeId) -> Result<(), Violation> {
        let _ = self.commit(
            |request| Actor::admin("ada", request),
            Command::RemoveNode { node },
            Effect::Expel(node),
        )?;
        Ok(())
    }

    /// A member registers the key of another as its own: it would be taken for it.
    pub(crate) fn steal_key(&mut self) {
        let keys: Vec<_> = self
            .current
            .keys
            .iter()
            .map(|((name, node), key)| (name.clone(), *node, *key))
            .collect();
        let links: Vec<(u64, NodeId)> = self.links.iter().map(|(id, link)| (*id, link.node)).collect();
        if keys.is_empty() || links.is_empty() {
            return;
        }
        let (perimeter, owner, public_key) = keys[self.dice.place(keys.len())].clone();
        let (link, thief) = self.dice.pick(&links);
        if owner != thief {
            let message = RegisterKey {
                perimeter,
                public_key,
                signature: Vec::new(),
            };
            self.tell_controller(link, &ToController::RegisterKey(message));
        }
    }

    /// An application on a machine begins something, allowed or not.
    pub(crate) fn begin_traffic(&mut self, machine: usize) {
        let wait = self.dice.about(self.swarm.traffic_every);
        self.queue.at(self.now + wait, Happening::Traffic { machine });
        self.continue_connections(machine);
        let Some(identity) = self.machines[machine]
            .disk
            .identity
            .as_ref()
            .map(|identity| identity.node)
        else {
            return;
        };
        let Some(agent) = self.machines[machine].agent.as_ref() else {
            return;
        };
        let devices: Vec<Name> = agent.devices.values().cloned().collect();
        if devices.is_empty() {
            return;
        }
        let perimeter = devices[self.dice.place(devices.len())].clone();
        let v6 = usize::from(self.dice.chance(0.3));
        let addresses = &self.current.addresses;
        let Some(src) = addresses
            .get(&(perimeter.clone(), identity))
            .map(|own| own.both()[v6])
        else {
            return;
        };
        let others: Vec<_> = addresses
            .iter()
            .filter(|((name, node), _)| *name == perimeter && *node != identity)
            .map(|(_, addresses)| addresses.both()[v6])
            .collect();
        if others.is_empty() {
            return;
        }
        let call = Call {
            src,
            dst: self.dice.pick(&others),
            protocol: self.dice.pick(&[6, 6, 17, 17, if v6 == 1 { 58 } else { 1 }]),
            port: self.dice.pick(&PORTS),
        };
        self.call(machine, &perimeter, call);
    }
}

fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    let mut labels = Labels::new();
    for (key, value) in pairs {
        labels
            .add(key, value)
            .expect("the labels of this file are well formed");
    }
    labels
}

/// A name that this program makes up.
pub(crate) fn name_of(text: &str) -> Name {
    Name::parse(text).expect("names of this program are well formed")
}

/// Ports that are called and opened.
pub(crate) const PORTS: [u16; 6] = [22, 53, 443, 5432, 6000, 6100];
const ROLES: [&str; 3] = ["db", "api", "ops"];
const GROUPS: [&str; 3] = ["left", "middle", "right"];
