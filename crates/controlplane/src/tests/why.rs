//! What a person is told about why their machine reaches something or not.

use std::time::Duration;

use ringfence_control::api::Verdict;
use ringfence_control::{WhyQuestion, WhyReport};
use ringfence_model::NodeId;

use super::sessions::login;
use super::world::*;
use crate::{AskError, Command, PeopleCommand};

/// Database administrators, with a second factor; and another perimeter that is nobody's business here.
fn world() -> (World, NodeId, NodeId) {
    let mut world = World::new();
    let people = database("ledger").replace("{ nodes = \"role=app\" }", "{ users = \"group=dba\" }");
    world
        .admin(apply(&(people + "require = { mfa = \"1h\" }\n")))
        .unwrap();
    let secret = database("secret").replace("role=db", "role=vault");
    world.admin(apply(&secret)).unwrap();
    let db = world.enroll("db", "role=db");
    world.enroll("vault", "role=vault");
    let laptop = world.enroll("laptop", "role=laptop");
    (world, db, laptop)
}

impl World {
    fn why(&self, node: NodeId, to: &str) -> Result<WhyReport, AskError> {
        let question = WhyQuestion {
            to: to.to_owned(),
            service: "tcp/5432".parse().unwrap(),
        };
        self.controller.why(node, &question, self.wall)
    }

    fn log_in_as_dba(&mut self, node: NodeId, has_factor: bool) {
        let mut login = login("alice", self.wall);
        login.groups = ["dba".to_owned()].into();
        login.mfa_at = has_factor.then_some(self.wall);
        let start = PeopleCommand::StartSession {
            node,
            login,
            length: Duration::from_hours(8),
        };
        self.system(Command::People(start)).unwrap();
    }
}

#[test]
fn a_person_is_told_what_their_second_factor_opens_and_until_when() {
    let (mut world, _, laptop) = world();
    let asks = |world: &World| world.controller.session_facts(laptop).unwrap().factor_asks;

    world.log_in_as_dba(laptop, false);
    let never = asks(&world);
    world.log_in_as_dba(laptop, true);
    let proved = asks(&world);

    assert_eq!((never.len(), never[0].ends_ms), (1, None));
    assert_eq!(
        (&proved[0].perimeter, &proved[0].to, proved[0].within_s),
        (&name("ledger"), &name("db"), 3600)
    );
    let ends = world.wall.saturating_add(Duration::from_hours(1)).whole_second();
    assert_eq!(proved[0].ends_ms, Some(ends));
}

#[test]
fn a_person_is_told_who_they_are_what_is_missing_and_whom_to_ask() {
    let (mut world, db, laptop) = world();
    world.log_in_as_dba(laptop, false);

    let closed = world.why(laptop, "db").unwrap();
    world.log_in_as_dba(laptop, true);
    let open = world.why(laptop, "db").unwrap();

    assert_eq!(closed.explained.verdict, Verdict::Deny);
    assert_eq!(closed.person.unwrap().groups, ["dba"]);
    let missing = &closed.explained.perimeters[0].missing[0];
    assert!(missing.contains("log in again with a second factor"), "{missing}");
    assert_eq!(closed.owners.len(), 1);
    assert_eq!(closed.owners[0].owners, ["alice@example.com"]);
    assert_eq!(open.explained.verdict, Verdict::Allow);
    assert!(open.person.unwrap().mfa_at_ms.is_some());
    for address in world.netmap(db).segments[&name("ledger")].addresses.both() {
        let by_address = world.why(laptop, &address.to_string()).unwrap();
        assert_eq!(by_address.explained.to, name("db"));
    }
}

#[test]
fn a_node_is_told_of_nobody_beyond_its_own_perimeters() {
    let (mut world, _, laptop) = world();
    let nobody = |text: &str| Err(AskError::Nobody(text.to_owned()));

    assert_eq!(world.why(laptop, "db"), nobody("db"), "nobody is logged in there");
    world.log_in_as_dba(laptop, true);

    assert_eq!(world.why(laptop, "vault"), nobody("vault"));
    assert_eq!(world.why(laptop, "no-such"), nobody("no-such"));
    assert_eq!(world.why(laptop, "100.64.255.1"), nobody("100.64.255.1"));
}
