//! People at nodes, minute by minute: what is open is what sessions, second factors, hours and addresses say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use ringfence_model::{NodeId, UnixMillis};

use super::sessions::login;
use super::world::*;
use crate::{Command, Controller, Event, PeopleCommand};

/// How old, in minutes, a second factor may be: of staff and of apps.
#[derive(Clone, Copy, Debug)]
struct Ages {
    staff: u64,
    apps: u64,
}

/// By number: staff with any session, staff with a fresh factor, apps at which someone has one in these hours, databases
/// to staff, apps in the office.
fn policy(ages: Ages) -> String {
    let Ages { staff, apps } = ages;
    format!(
        r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = {{ nodes = "role=db" }}
app = {{ nodes = "role=app" }}
staff = {{ users = "group=staff" }}
[[allow]]
from = "staff"
to = "db"
ports = ["tcp/1"]
[[allow]]
from = "staff"
to = "db"
ports = ["tcp/2"]
require = {{ mfa = "{staff}m" }}
[[allow]]
from = "app"
to = "db"
ports = ["tcp/3"]
require = {{ mfa = "{apps}m", hours = "Mon-Sun 08:00-19:00 UTC" }}
[[allow]]
from = "db"
to = "staff"
ports = ["tcp/4"]
[[allow]]
from = "app"
to = "db"
ports = ["tcp/5"]
require = {{ source = ["10.1.0.0/16"] }}
"#
    )
}

/// What the test itself keeps of who is logged in at a node.
#[derive(Clone, Copy, Debug)]
struct Person {
    number: u8,
    is_staff: bool,
    factor_at: Option<UnixMillis>,
    until: UnixMillis,
}

struct Story {
    world: World,
    ages: Ages,
    roles: BTreeMap<NodeId, &'static str>,
    people: BTreeMap<NodeId, Person>,
    inside: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
enum Move {
    Enroll {
        role: &'static str,
    },
    Relabel {
        node: usize,
        role: &'static str,
    },
    Login {
        node: usize,
        number: u8,
        is_staff: bool,
        factor_ago: Option<u64>,
        minutes: u64,
    },
    LogOut {
        node: usize,
    },
    Source {
        node: usize,
        source: Option<&'static str>,
    },
    Pass {
        minutes: u64,
    },
}

fn step() -> impl Strategy<Value = Move> {
    let role = || prop::sample::select(&["app", "db", "spare"][..]);
    let source = prop::option::of(prop::sample::select(
        &["10.1.2.3", "::ffff:10.1.9.9", "192.0.2.1"][..],
    ));
    let login = (
        0..6_usize,
        0..3_u8,
        prop::bool::weighted(0.8),
        prop::option::weighted(0.8, 0..120_u64),
        1..400_u64,
    );
    prop_oneof![
        2 => role().prop_map(|role| Move::Enroll { role }),
        1 => (0..6_usize, role()).prop_map(|(node, role)| Move::Relabel { node, role }),
        4 => login.prop_map(|(node, number, is_staff, factor_ago, minutes)| Move::Login { node, number, is_staff, factor_ago, minutes }),
        1 => (0..6_usize).prop_map(|node| Move::LogOut { node }),
        2 => (0..6_usize, source).prop_map(|(node, source)| Move::Source { node, source }),
        4 => (1..300_u64).prop_map(|minutes| Move::Pass { minutes }),
    ]
}

impl Story {
    fn new(ages: Ages) -> Self {
        let mut world = World::new();
        // A Tuesday, 06:00 UTC.
        world.wall = UnixMillis(1_699_920_000_000 + 6 * 3_600_000);
        world.admin(apply(&policy(ages))).unwrap();
        let mut story = Self {
            world,
            ages,
            roles: BTreeMap::new(),
            people: BTreeMap::new(),
            inside: BTreeSet::new(),
        };
        for role in ["db", "app", "spare"] {
            story.enroll(role, role);
        }
        story
    }

    fn enroll(&mut self, called: &str, role: &'static str) {
        let node = self.world.enroll(called, &format!("role={role}"));
        self.roles.insert(node, role);
    }

    fn pick(&self, node: usize) -> NodeId {
        *self.roles.keys().nth(node % self.roles.len()).unwrap()
    }

    fn step(&mut self, number: usize, step: &Move) {
        match *step {
            Move::Enroll { role } => self.enroll(&format!("n-{number}"), role),
            Move::Relabel { node, role } => {
                let node = self.pick(node);
                let _unchanged = self.world.admin(relabel(node, &format!("role={role}"), &[]));
                self.roles.insert(node, role);
            }
            Move::Login {
                node,
                number,
                is_staff,
                factor_ago,
                minutes,
            } => {
                let wall = self.world.wall;
                let factor_at = factor_ago.map(|ago| UnixMillis(wall.0 - ago * MINUTE));
                let until = UnixMillis(wall.0 + minutes * MINUTE);
                let person = Person {
                    number,
                    is_staff,
                    factor_at,
                    until,
                };
                self.log_in(self.pick(node), person);
            }
            Move::LogOut { node } => {
                let node = self.pick(node);
                let actor = crate::Actor::node(node, "r");
                let _nobody = self
                    .world
                    .ask(&actor, Command::People(PeopleCommand::LogOut { node }));
                self.people.remove(&node);
            }
            Move::Source { node, source } => {
                let node = self.pick(node);
                let source = source.map(|source| source.parse().unwrap());
                let was_asked = self.world.controller.is_source_news(node, source);
                let noted = self.world.system(Command::NoteSource { node, source });
                assert_eq!(noted.is_ok(), was_asked);
                if was_asked {
                    let inside =
                        source.is_some_and(|source| source.to_canonical().to_string().starts_with("10.1."));
                    self.inside.remove(&node);
                    self.inside.extend(inside.then_some(node));
                }
            }
            Move::Pass { minutes } => self.pass(minutes),
        }
        self.check();
    }

    fn log_in(&mut self, node: NodeId, mut person: Person) {
        let mut login = login(&format!("user-{}", person.number), self.world.wall);
        login.mfa_at = person.factor_at;
        if !person.is_staff {
            login.groups.clear();
        }
        let length = Duration::from_millis(person.until.0 - self.world.wall.0);
        let started = PeopleCommand::StartSession { node, login, length };
        self.world.system(Command::People(started)).unwrap();
        // What the same person has proved before stays proved.
        if let Some(before) = self
            .people
            .get(&node)
            .filter(|before| before.number == person.number)
        {
            person.factor_at = person.factor_at.max(before.factor_at);
        }
        self.people.insert(node, person);
    }

    /// Lets time pass as the shell does: a tick whenever one is due, and none else.
    fn pass(&mut self, minutes: u64) {
        for _ in 0..minutes {
            self.world.pass(Duration::from_mins(1));
            let wall = self.world.wall;
            if self
                .world
                .controller
                .poll_timeout()
                .is_some_and(|due| due <= wall)
            {
                let before = self.open();
                let change = self.world.system(Command::Tick).unwrap();
                let told = change.events.iter().filter_map(|event| match event {
                    Event::ConditionsChanged { rules, .. } => Some(rules),
                    _ => None,
                });
                let told: BTreeSet<u32> = told.flatten().map(|rule| rule.0).collect();
                let after = self.open();
                let changed = before.symmetric_difference(&after).map(|(.., rule)| *rule);
                let changed: BTreeSet<u32> = changed.collect();
                // What the end of a session closes is told by that.
                assert!(told.is_subset(&changed), "{told:?} of {changed:?}");
                let next = self.world.controller.poll_timeout();
                assert!(next.is_none_or(|due| due > wall), "{next:?} at {wall:?}");
            }
            self.people.retain(|_, person| wall < person.until);
            self.check();
        }
    }

    fn check(&self) {
        assert_eq!(self.open(), self.wanted(), "at {:?}", self.world.wall);
    }

    /// Everything that is open, as the controller holds it: from whom, to whom, by which rule.
    fn open(&self) -> BTreeSet<(NodeId, NodeId, u32)> {
        let compiled = self.world.controller.compiled(&name("ledger")).unwrap();
        let openings = compiled.openings().into_iter();
        openings
            .map(|opening| (opening.from, opening.to, opening.rule.0))
            .collect()
    }

    /// The same, read off what happened.
    fn wanted(&self) -> BTreeSet<(NodeId, NodeId, u32)> {
        let wall = self.world.wall;
        let fresh = |node: &NodeId, minutes: u64| {
            let factor = self.people.get(node).and_then(|person| person.factor_at);
            factor.is_some_and(|at| wall.0 < at.0 + minutes * MINUTE)
        };
        let is_staff = |node: &NodeId| self.people.get(node).is_some_and(|person| person.is_staff);
        let has_role = |node: &NodeId, role| self.roles[node] == role;
        let hour = wall.0 / (60 * MINUTE) % 24;
        let mut wanted = BTreeSet::new();
        for from in self.roles.keys() {
            for to in self.roles.keys().filter(|to| *to != from) {
                let opens = [
                    is_staff(from) && has_role(to, "db"),
                    is_staff(from) && has_role(to, "db") && fresh(from, self.ages.staff),
                    has_role(from, "app")
                        && has_role(to, "db")
                        && fresh(from, self.ages.apps)
                        && (8..19).contains(&hour),
                    has_role(from, "db") && is_staff(to),
                    has_role(from, "app") && has_role(to, "db") && self.inside.contains(from),
                ];
                let open = (1..).zip(opens).filter(|(_, is_open)| *is_open);
                wanted.extend(open.map(|(rule, _)| (*from, *to, rule)));
            }
        }
        wanted
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn each_minute_opens_what_sessions_and_factors_and_addresses_say(
        (staff, apps) in (1..300_u64, 1..300_u64),
        moves in prop::collection::vec(step(), 1..16),
    ) {
        let mut story = Story::new(Ages { staff, apps });
        for (number, step) in moves.iter().enumerate() {
            story.step(number, step);
        }
        let replayed = Controller::load(None, &story.world.log).unwrap();
        prop_assert_eq!(replayed.views(), story.world.controller.views());
    }
}

const MINUTE: u64 = 60_000;
