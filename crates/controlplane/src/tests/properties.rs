//! What holds after any sequence of commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use ringfence_control::api::FlowChangeKind;
use ringfence_control::{Netmap, written_bytes};
use ringfence_model::{Name, NodeId, Revision};

use super::sessions::login;
use super::world::*;
use crate::compile::Views;
use crate::weight::weights;
use crate::{
    AccessCommand, Actor, Change, Command, Controller, LockCommand, LockTarget, PeopleCommand, PushKind,
    Urgency, VerifiedLogin,
};

/// One step, with numbers that stand for whichever node, perimeter or device there is.
#[derive(Clone, Debug)]
enum Step {
    Apply {
        perimeter: u8,
        from: u8,
        to: u8,
        ports: u16,
    },
    Enroll {
        role: u8,
        site: u8,
    },
    Label {
        node: u8,
        role: u8,
    },
    Unlabel {
        node: u8,
    },
    Register {
        node: u8,
    },
    AddDevice {
        perimeter: u8,
        role: u8,
        expires: bool,
    },
    RemoveNode {
        node: u8,
    },
    RemovePerimeter {
        perimeter: u8,
    },
    RemoveDevice {
        device: u8,
    },
    Login {
        node: u8,
        person: u8,
        mfa: bool,
    },
    LogOut {
        node: u8,
    },
    Deactivate {
        person: u8,
    },
    Request {
        node: u8,
        perimeter: u8,
        group: u8,
    },
    Approve {
        request: u8,
    },
    EndAccess {
        request: u8,
    },
    Lock {
        node: u8,
        keep: u8,
        kind: u8,
        hours: u8,
    },
    Lift {
        lock: u8,
    },
    Pass {
        hours: u8,
    },
    StartTerm,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0u8..8;
    let role = 0u8..3;
    prop_oneof![
        2 => (0u8..3, role.clone(), role.clone(), 1u16..4)
            .prop_map(|(perimeter, from, to, ports)| Step::Apply { perimeter, from, to, ports }),
        5 => (role.clone(), 0u8..2).prop_map(|(role, site)| Step::Enroll { role, site }),
        3 => (n.clone(), role.clone()).prop_map(|(node, role)| Step::Label { node, role }),
        1 => n.clone().prop_map(|node| Step::Unlabel { node }),
        12 => n.clone().prop_map(|node| Step::Register { node }),
        2 => (0u8..3, role, any::<bool>())
            .prop_map(|(perimeter, role, expires)| Step::AddDevice { perimeter, role, expires }),
        1 => n.clone().prop_map(|node| Step::RemoveNode { node }),
        1 => (0u8..3).prop_map(|perimeter| Step::RemovePerimeter { perimeter }),
        3 => (n.clone(), 0u8..3, any::<bool>())
            .prop_map(|(node, person, mfa)| Step::Login { node, person, mfa }),
        1 => n.clone().prop_map(|node| Step::LogOut { node }),
        1 => (0u8..3).prop_map(|person| Step::Deactivate { person }),
        3 => (n.clone(), 0u8..3, 0u8..4)
            .prop_map(|(node, perimeter, group)| Step::Request { node, perimeter, group }),
        4 => n.clone().prop_map(|request| Step::Approve { request }),
        1 => n.clone().prop_map(|request| Step::EndAccess { request }),
        2 => (n.clone(), n.clone(), 0u8..3, 0u8..9)
            .prop_map(|(node, keep, kind, hours)| Step::Lock { node, keep, kind, hours }),
        2 => n.clone().prop_map(|lock| Step::Lift { lock }),
        1 => n.prop_map(|device| Step::RemoveDevice { device }),
        1 => (1u8..30).prop_map(|hours| Step::Pass { hours }),
        1 => Just(Step::StartTerm),
    ]
}

fn policy(perimeter: u8, from: u8, to: u8, ports: u16) -> String {
    format!(
        r#"
[perimeter]
name = "p-{perimeter}"
owners = ["alice@example.com"]
[members]
a = {{ nodes = "role=r{from}" }}
b = {{ nodes = "role=r{to}" }}
c = {{ nodes = "site=s{}" }}
staff = {{ users = "group=staff" }}
[[allow]]
from = "a"
to = "b"
ports = ["tcp/{ports}"]
[[allow]]
from = "b"
to = "c"
ports = ["udp/53"]
expires = 2023-11-1{}T00:00:00Z
[[allow]]
from = "staff"
to = "a"
ports = ["tcp/22"]
[[allow]]
from = "staff"
to = "b"
ports = ["tcp/23"]
require = {{ mfa = "3h" }}
"#,
        perimeter % 2,
        5 + perimeter,
    )
}

impl World {
    fn pick(&self, n: u8) -> Option<NodeId> {
        let nodes: Vec<NodeId> = self.controller.nodes().map(|node| node.id).collect();
        (!nodes.is_empty()).then(|| nodes[usize::from(n) % nodes.len()])
    }

    /// A segment that waits for its key, else one that has one.
    fn keyless(&self, n: u8) -> Option<(NodeId, Name)> {
        let mut segments: Vec<(bool, NodeId, Name)> = Vec::new();
        for netmap in netmaps(&self.controller, self) {
            let each = netmap.segments.into_iter();
            segments.extend(each.map(|(name, segment)| (segment.public_key.is_some(), netmap.node, name)));
        }
        segments.sort();
        let waiting = segments.iter().filter(|(has_key, ..)| !has_key).count();
        let among = if waiting == 0 { segments.len() } else { waiting };
        let (_, node, name) = segments.get(usize::from(n) % among.max(1))?.clone();
        Some((node, name))
    }

    fn device(&self, perimeter: u8, role: u8, expires: bool) -> Command {
        let ends = self.wall.saturating_add(Duration::from_hours(2));
        Command::AddDevice {
            name: name(&format!("d-{}", self.log.len())),
            perimeter: name(&format!("p-{perimeter}")),
            public_key: public_key(20_000 + self.log.len() as u64),
            labels: labels(&format!("role=r{role}")),
            expires: expires.then_some(ends),
        }
    }

    fn of_people(&self, step: &Step) -> Option<(Actor, Command)> {
        let (actor, command) = match *step {
            Step::Login { node, person, mfa } => {
                let login = VerifiedLogin {
                    mfa_at: mfa.then_some(self.wall),
                    ..login(&format!("p-{person}"), self.wall)
                };
                let start = PeopleCommand::StartSession {
                    node: self.pick(node)?,
                    login,
                    length: Duration::from_hours(9),
                };
                (Actor::system("login", "r"), start)
            }
            Step::LogOut { node } => {
                let node = self.pick(node)?;
                (Actor::node(node, "r"), PeopleCommand::LogOut { node })
            }
            Step::Deactivate { person } => {
                let user = login(&format!("p-{person}"), self.wall).user;
                (Actor::admin("ada", "r"), PeopleCommand::DeactivateUser { user })
            }
            _ => return None,
        };
        Some((actor, Command::People(command)))
    }

    fn of_access(&self, step: &Step) -> Option<(Actor, Command)> {
        let request = |n: u8| {
            let ids: Vec<_> = self
                .controller
                .access_requests()
                .map(|request| request.id)
                .collect();
            Some(*ids.get(usize::from(n) % ids.len().max(1))?)
        };
        let command = match *step {
            Step::Request {
                node,
                perimeter,
                group,
            } => AccessCommand::Request {
                node: self.pick(node)?,
                perimeter: name(&format!("p-{perimeter}")),
                to: name(["a", "b", "c", "staff"][usize::from(group)]),
                services: vec!["tcp/22".parse().unwrap(), "udp/1000-2000".parse().unwrap()],
                length: Duration::from_hours(3),
                reason: "to see".to_owned(),
                urgency: Urgency::Ordinary,
            },
            Step::Approve { request: n } => AccessCommand::Approve {
                access: request(n)?,
                reason: None,
            },
            Step::EndAccess { request: n } => AccessCommand::End { access: request(n)? },
            _ => return None,
        };
        let who = if matches!(step, Step::Approve { .. }) {
            "bob"
        } else {
            "ada"
        };
        Some((Actor::admin(who, "r"), Command::Access(command)))
    }

    fn of_locks(&self, step: &Step) -> Option<LockCommand> {
        match *step {
            Step::Lock {
                node,
                keep,
                kind,
                hours,
            } => {
                let target = match kind {
                    0 => LockTarget::Node {
                        node: self.pick(node)?,
                    },
                    1 => LockTarget::Label {
                        selector: format!("role=r{}", node % 3).parse().unwrap(),
                    },
                    _ => LockTarget::Perimeter {
                        perimeter: name(&format!("p-{}", node % 2)),
                    },
                };
                let ttl = (hours > 0).then(|| Duration::from_hours(hours.into()));
                let keep = self
                    .pick(keep)
                    .filter(|kept| target != LockTarget::Node { node: *kept });
                Some(LockCommand::Set {
                    target,
                    keep: keep.into_iter().collect(),
                    reason: String::new(),
                    ttl,
                })
            }
            Step::Lift { lock } => {
                let locks: Vec<_> = self.controller.locks().map(|lock| lock.id).collect();
                let lock = *locks.get(usize::from(lock) % locks.len().max(1))?;
                Some(LockCommand::Lift { lock })
            }
            _ => None,
        }
    }

    /// The command of a step, and who asks; none if there is nobody to do it to.
    fn command(&mut self, step: &Step) -> Option<(Actor, Command)> {
        let admin = Actor::admin("ada", "r");
        let asked = match step.clone() {
            Step::Apply {
                perimeter,
                from,
                to,
                ports,
            } => (admin, apply(&policy(perimeter, from, to, ports))),
            Step::Enroll { role, site } => {
                let token = self.token(&format!("role=r{role},site=s{site}"), 1);
                (
                    Actor::token(token, "r"),
                    enroll(token, SECRET, &format!("n-{}", self.log.len())),
                )
            }
            Step::Label { node, role } => (admin, relabel(self.pick(node)?, &format!("role=r{role}"), &[])),
            Step::Unlabel { node } => (admin, relabel(self.pick(node)?, "", &["role"])),
            Step::Register { node: n } => {
                let (node, perimeter) = self.keyless(n)?;
                let public_key = public_key(10_000 + self.log.len() as u64);
                (
                    Actor::node(node, "r"),
                    Command::RegisterKey {
                        node,
                        perimeter,
                        public_key,
                    },
                )
            }
            Step::AddDevice {
                perimeter,
                role,
                expires,
            } => (admin, self.device(perimeter, role, expires)),
            Step::RemoveNode { node } => (
                admin,
                Command::RemoveNode {
                    node: self.pick(node)?,
                },
            ),
            Step::RemovePerimeter { perimeter } => (
                admin,
                Command::RemovePerimeter {
                    name: name(&format!("p-{perimeter}")),
                },
            ),
            Step::RemoveDevice { device } => {
                let devices: Vec<_> = self
                    .controller
                    .devices()
                    .map(|device| device.name.clone())
                    .collect();
                let device = devices.get(usize::from(device) % devices.len().max(1))?.clone();
                (admin, Command::RemoveDevice { name: device })
            }
            Step::Login { .. } | Step::LogOut { .. } | Step::Deactivate { .. } => {
                return self.of_people(step);
            }
            Step::Request { .. } | Step::Approve { .. } | Step::EndAccess { .. } => {
                return self.of_access(step);
            }
            Step::Lock { .. } | Step::Lift { .. } => (admin, Command::Locks(self.of_locks(step)?)),
            Step::Pass { hours } => {
                self.pass(Duration::from_hours(hours.into()));
                (Actor::system("clock", "r"), Command::Tick)
            }
            Step::StartTerm => (Actor::system("restore", "r"), Command::StartTerm),
        };
        Some(asked)
    }
}

fn netmaps(controller: &Controller, world: &World) -> Vec<Netmap> {
    let ids: Vec<NodeId> = controller.nodes().map(|node| node.id).collect();
    ids.iter()
        .filter_map(|id| controller.netmap(*id, world.wall))
        .collect()
}

/// A lists B exactly if B lists A, and both say the same of each other.
fn assert_symmetric(world: &World) {
    for netmap in netmaps(&world.controller, world) {
        netmap.check().unwrap();
        for (perimeter, segment) in &netmap.segments {
            for (peer, map) in &segment.peers {
                let Some(theirs) = world.controller.netmap(*peer, world.wall) else {
                    assert!(world.controller.devices().any(|device| device.id == *peer));
                    continue;
                };
                let back = &theirs.segments[perimeter];
                let me = &back.peers[&netmap.node];
                assert_eq!(Some(me.public_key), segment.public_key);
                assert_eq!((me.addresses, back.addresses), (segment.addresses, map.addresses));
            }
        }
    }
}

/// No two members have an address, a key or a name in common, across all perimeters.
fn assert_unique(world: &World) {
    let mut keys = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for perimeter in world.controller.perimeter_names() {
        let detail = world.controller.perimeter_detail(perimeter).unwrap();
        for member in detail.members {
            assert!(member.public_key.is_none_or(|key| keys.insert(key)));
            assert!(member.addresses.iter().all(|address| addresses.insert(*address)));
        }
    }
}

/// Whoever gets another netmap is told.
fn assert_told(before: &[Netmap], world: &World) {
    for netmap in netmaps(&world.controller, world) {
        let old = before.iter().find(|old| old.node == netmap.node);
        let same = match old {
            Some(old) => old.segments == netmap.segments && old.name == netmap.name,
            None => netmap.segments.is_empty(),
        };
        let mut pushes = world.pushes.iter();
        let told = pushes.any(|push| push.node == netmap.node && push.kind == PushKind::Netmap);
        assert!(same || told, "{} was not told", netmap.name);
    }
}

/// What is written never weighs more than each step of weighing says, and no step more than the one before.
fn assert_weighed(world: &World) {
    for netmap in netmaps(&world.controller, world) {
        let [by_seats, by_groups, written, _] = weights(&world.controller, netmap.node).unwrap();
        let real = written_bytes(&netmap);
        assert!(
            real <= written && written <= by_groups && by_groups <= by_seats,
            "{real}, {written}, {by_groups}, {by_seats}"
        );
    }
}

fn weights_apart(world: &World) -> BTreeMap<NodeId, usize> {
    let ids = world.controller.nodes().map(|node| node.id);
    ids.filter_map(|id| Some((id, weights(&world.controller, id)?[3])))
        .collect()
}

fn assert_none_heavier(before: &BTreeMap<NodeId, usize>, world: &World, step: &Step) {
    for (id, weight) in weights_apart(world) {
        assert!(weight <= before[&id], "{step:?} makes {id} heavier");
    }
}

fn only_removes(step: &Step, world: &World) -> bool {
    match step {
        // A lock ends with its time, and with the labels that it is on.
        Step::Unlabel { .. } | Step::Pass { .. } => world.controller.locks().next().is_none(),
        Step::RemoveNode { .. }
        | Step::RemovePerimeter { .. }
        | Step::RemoveDevice { .. }
        | Step::LogOut { .. }
        | Step::Deactivate { .. }
        | Step::EndAccess { .. }
        | Step::Lock { .. }
        | Step::StartTerm => true,
        Step::Apply { .. }
        | Step::Enroll { .. }
        | Step::Label { .. }
        | Step::Register { .. }
        | Step::Login { .. }
        | Step::Request { .. }
        | Step::Approve { .. }
        | Step::Lift { .. }
        | Step::AddDevice { .. } => false,
    }
}

/// Two perimeters and some nodes in both, keys and all, so that steps have something to break.
fn prelude() -> Vec<Step> {
    let mut steps = vec![
        Step::Apply {
            perimeter: 0,
            from: 0,
            to: 1,
            ports: 1,
        },
        Step::Apply {
            perimeter: 1,
            from: 1,
            to: 2,
            ports: 1,
        },
    ];
    steps.extend((0..6).map(|n| Step::Enroll {
        role: n % 3,
        site: n % 2,
    }));
    steps.extend((0..12).map(|node| Step::Register { node }));
    steps
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in prelude().iter().chain(steps) {
        let Some((actor, command)) = world.command(step) else {
            continue;
        };
        let before = netmaps(&world.controller, &world);
        let entropy = world.entropy();
        let proposed = world
            .controller
            .propose(&actor, command.clone(), world.wall, entropy);
        let again = world.controller.propose(&actor, command, world.wall, entropy);
        assert_eq!(proposed, again, "proposing changes nothing and draws nothing");
        let Ok(change) = proposed else { continue };
        let weighed = weights_apart(&world);
        let only_removes = only_removes(step, &world);
        if only_removes {
            let flows = world.controller.flow_changes(&change).listed;
            assert!(
                flows.iter().all(|flow| flow.change == FlowChangeKind::Closes),
                "{step:?} opens {flows:?}"
            );
        }
        world.pushes = world.controller.apply(&change).unwrap();
        world.log.push(change);
        if only_removes {
            assert_none_heavier(&weighed, &world, step);
        }
        assert_weighed(&world);
        assert_told(&before, &world);
        assert_symmetric(&world);
        assert_unique(&world);
        assert_eq!(
            *world.controller.views(),
            Views::of(world.controller.state()),
            "views went stale after {step:?}"
        );
    }
    world
}

fn revisions(log: &[Change]) -> Vec<Revision> {
    log.iter().map(|change| change.revision).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_replays_to_the_same_controller(steps in proptest::collection::vec(step(), 1..60), cut in 0usize..60) {
        let world = run(&steps);
        let replayed = Controller::load(None, &world.log).unwrap();
        prop_assert_eq!(replayed.state(), world.controller.state());
        prop_assert_eq!(replayed.views(), world.controller.views());
        prop_assert_eq!(netmaps(&replayed, &world), netmaps(&world.controller, &world));

        let cut = 1 + cut % world.log.len();
        let early = Controller::load(None, &world.log[..cut]).unwrap().snapshot().to_bytes();
        let late = Controller::load(Some(crate::Snapshot::from_bytes(&early).unwrap()), &world.log[cut..]).unwrap();
        prop_assert_eq!(late.state(), world.controller.state());
        prop_assert_eq!(late.views(), world.controller.views());

        crate::verify_chain(&world.log).unwrap();
        prop_assert!(revisions(&world.log).is_sorted_by(|a, b| a < b));
    }
}
