//! Local accounts: who logs in by one, in which groups, and who does not any more.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::NodeId;

use super::sessions::causes;
use super::world::*;
use crate::provider::tests::provider;
use crate::{
    Account, AccountCommand, AccountEvent, AccountRefusal, Actor, ApiTokenCommand, Change, Command,
    Controller, Event, PeopleCommand, ProviderCommand, Refusal, Role, SessionEnd, Snapshot, TokenHash,
    VerifiedLogin,
};

const LENGTH: Duration = Duration::from_hours(8);

const LEDGER: &str = r#"
[perimeter]
name = "ledger"

[members]
db  = { nodes = "role=db" }
dba = { users = "group=dba" }
eve = { users = "email=eve@example.com" }

[[allow]]
from  = "dba"
to    = "db"
ports = ["tcp/5432"]

[[allow]]
from  = "eve"
to    = "db"
ports = ["tcp/22"]
"#;

impl World {
    /// Somebody with the account `ada` at a laptop, and what they may reach.
    fn with_ada() -> (Self, NodeId) {
        let mut world = Self::new();
        world.admin(apply(LEDGER)).unwrap();
        world.enroll("db", "role=db");
        let laptop = world.enroll("laptop", "os=linux");
        world.admin(add("ada", None, &["dba"])).unwrap();
        world.enter(laptop, "ada").unwrap();
        (world, laptop)
    }

    fn enter(&mut self, node: NodeId, account: &str) -> Result<Change, Refusal> {
        let login = VerifiedLogin {
            user: Account::user_of(&name(account)),
            directory_id: None,
            name: account.to_owned(),
            email: Some("forged@example.com".to_owned()),
            groups: BTreeSet::from(["forged".to_owned()]),
            provider_session: None,
            acr: None,
            amr: BTreeSet::from(["pwd".to_owned(), "otp".to_owned()]),
            authenticated_at: self.wall,
            mfa_at: Some(self.wall),
        };
        self.system(Command::People(PeopleCommand::StartSession {
            node,
            login,
            length: LENGTH,
        }))
    }

    fn generation(&self, account: &str) -> u64 {
        self.controller.account(&name(account)).unwrap().generation
    }

    fn reaches_ledger(&self, node: NodeId) -> bool {
        self.netmap(node).segments.contains_key(&name("ledger"))
    }
}

fn add(account: &str, email: Option<&str>, groups: &[&str]) -> Command {
    Command::Accounts(AccountCommand::Add {
        name: name(account),
        email: email.map(ToOwned::to_owned),
        groups: groups_of(groups),
        session: LENGTH,
    })
}

fn regroup(account: &str, groups: &[&str]) -> Command {
    Command::Accounts(AccountCommand::Regroup {
        name: name(account),
        groups: groups_of(groups),
    })
}

fn reset(account: &str) -> Command {
    Command::Accounts(AccountCommand::Reset { name: name(account) })
}

fn remove(account: &str) -> Command {
    Command::Accounts(AccountCommand::Remove { name: name(account) })
}

fn set_up(account: &str, generation: u64, node: NodeId) -> Command {
    Command::Accounts(AccountCommand::SetUp {
        name: name(account),
        generation,
        node,
    })
}

fn groups_of(groups: &[&str]) -> BTreeSet<String> {
    groups.iter().map(|group| (*group).to_owned()).collect()
}

#[test]
fn who_logs_in_is_what_the_account_says_and_not_what_the_login_says() {
    let (mut world, laptop) = World::with_ada();
    let session = world.controller.session_at(laptop).unwrap();

    assert_eq!(session.login.groups, groups_of(&["dba"]));
    assert_eq!(
        (session.login.name.as_str(), &session.login.email),
        ("ada", &None)
    );
    assert!(world.reaches_ledger(laptop));

    world.admin(add("eve", Some("eve@example.com"), &[])).unwrap();
    world.enter(laptop, "eve").unwrap();
    let session = world.controller.session_at(laptop).unwrap();
    assert_eq!(session.login.name, "eve@example.com");
    assert!(world.reaches_ledger(laptop), "by her address");
    assert!(matches!(world.enter(laptop, "nobody"), Err(Refusal::NoUser(_))));
}

#[test]
fn groups_that_change_are_those_of_who_is_logged_in_at_once() {
    let (mut world, laptop) = World::with_ada();

    world.admin(regroup("ada", &["ops"])).unwrap();
    assert!(!world.reaches_ledger(laptop));
    assert_eq!(
        world.controller.sessions().count(),
        1,
        "nobody is logged out by it"
    );
    assert_eq!(world.admin(regroup("ada", &["ops"])), Err(Refusal::Unchanged));
    world.admin(regroup("ada", &["dba", "ops"])).unwrap();
    assert!(world.reaches_ledger(laptop));
}

#[test]
fn who_is_reset_or_removed_is_out_at_once_and_what_they_knew_counts_no_more() {
    let (mut world, laptop) = World::with_ada();
    let first = world.generation("ada");
    world.system(set_up("ada", first, laptop)).unwrap();
    let set_up_at = world.controller.account(&name("ada")).unwrap().set_up_at;
    assert_eq!(set_up_at, Some(world.wall));

    let change = world.admin(reset("ada")).unwrap();
    assert_eq!(causes(&change), [SessionEnd::Ended]);
    assert!(!world.reaches_ledger(laptop));
    assert_ne!(world.generation("ada"), first);
    assert_eq!(
        world.system(set_up("ada", first, laptop)),
        Err(AccountRefusal::Superseded.into())
    );
    let again = world.generation("ada");
    world.system(set_up("ada", again, laptop)).unwrap();

    world.enter(laptop, "ada").unwrap();
    let change = world.admin(remove("ada")).unwrap();
    assert_eq!(causes(&change), [SessionEnd::Deactivated]);
    assert!(!world.reaches_ledger(laptop));
    assert!(world.enter(laptop, "ada").is_err());
    assert!(world.controller.user_views().iter().all(|user| !user.active));
    let unknown = Err(AccountRefusal::Unknown(name("ada")).into());
    assert_eq!(world.admin(remove("ada")), unknown);
    world.admin(add("ada", None, &[])).unwrap();
    assert_ne!(world.generation("ada"), again, "another person, perhaps");
}

#[test]
fn a_token_that_stands_for_whose_account_is_removed_counts_no_more() {
    let (mut world, laptop) = World::with_ada();
    world.admin(add("eve", Some("eve@example.com"), &[])).unwrap();
    world.enter(laptop, "eve").unwrap();
    let create = ApiTokenCommand::Create {
        name: name("eves"),
        role: Role::Admin,
        stands_for: Some("eve@example.com".to_owned()),
        ttl: LENGTH,
        secret_hash: TokenHash::of_secret(b"eves"),
    };
    world.admin(Command::ApiTokens(create)).unwrap();
    let counts = |world: &World| world.controller.api_token_views(world.wall)[0].counts;
    assert!(counts(&world));

    world.admin(remove("eve")).unwrap();
    assert!(!counts(&world));
}

#[test]
fn administrators_alone_add_and_remove_and_only_the_controller_says_who_set_one_up() {
    let (mut world, laptop) = World::with_ada();
    let generation = world.generation("ada");
    let by_others = [
        add("eve", None, &[]),
        regroup("ada", &[]),
        reset("ada"),
        remove("ada"),
    ];
    for command in by_others {
        for actor in [Actor::node(laptop, "r"), Actor::system("clock", "r")] {
            let refused = world.ask(&actor, command.clone()).unwrap_err();
            assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
        }
    }
    for actor in [Actor::node(laptop, "r"), Actor::admin("ada", "r")] {
        let refused = world.ask(&actor, set_up("ada", generation, laptop));
        assert!(matches!(refused, Err(Refusal::NotPermitted { .. })));
    }
}

#[test]
fn what_nobody_can_be_called_is_refused() {
    let mut world = World::new();
    let long = "x".repeat(256);
    for bad in ["", "a\nb", &long] {
        let refused = world.admin(add("ada", None, &[bad]));
        assert_eq!(refused, Err(AccountRefusal::Group.into()));
    }
    let refused = world.admin(add("ada", Some("ada"), &[]));
    assert_eq!(refused, Err(AccountRefusal::Address("ada".to_owned()).into()));
    let short = AccountCommand::Add {
        name: name("ada"),
        email: None,
        groups: BTreeSet::new(),
        session: Duration::from_secs(59),
    };
    assert_eq!(world.admin(Command::Accounts(short)), Err(Refusal::SessionLength));
    world.admin(add("ada", None, &[])).unwrap();
    let taken = world.admin(add("ada", None, &[])).unwrap_err();
    assert_eq!(taken, AccountRefusal::Taken(name("ada")).into());
}

#[test]
fn no_provider_is_called_as_those_who_have_none() {
    let mut world = World::new();
    let local = crate::Provider {
        name: name(Account::PROVIDER),
        ..provider()
    };
    let refused = world.admin(Command::Provider(ProviderCommand::Add { provider: local }));

    assert!(matches!(refused, Err(Refusal::Provider(_))));
}

#[test]
fn accounts_come_back_from_the_log_and_from_a_snapshot_and_are_told_in_words() {
    let (mut world, laptop) = World::with_ada();
    world
        .system(set_up("ada", world.generation("ada"), laptop))
        .unwrap();
    world.admin(regroup("ada", &["ops"])).unwrap();
    world
        .admin(add("eve", Some("eve@example.com"), &["dba"]))
        .unwrap();
    world.admin(reset("eve")).unwrap();
    world.admin(add("zoe", None, &[])).unwrap();
    world.admin(remove("zoe")).unwrap();

    let read: Vec<Change> = world
        .log
        .iter()
        .map(|change| serde_json::from_str(&serde_json::to_string(change).unwrap()).unwrap())
        .collect();
    assert_eq!(read, world.log);
    let replayed = Controller::load(None, &read).unwrap();
    let snapshot: Snapshot =
        serde_json::from_str(&serde_json::to_string(&world.controller.snapshot()).unwrap()).unwrap();
    let restored = Controller::load(Some(snapshot), &[]).unwrap();
    for other in [&replayed, &restored] {
        assert_eq!(other.state(), world.controller.state());
        assert_eq!(other.account_views(), world.controller.account_views());
    }
    let told: Vec<&str> = read
        .iter()
        .flat_map(|change| &change.events)
        .filter(|event| matches!(event, Event::Accounts(_)))
        .map(Event::kind)
        .collect();
    let all = [
        "account-added",
        "account-set-up",
        "account-regrouped",
        "account-added",
        "account-reset",
        "account-added",
        "account-removed",
    ];
    assert_eq!(told, all);
    let added = AccountEvent::AccountAdded {
        account: world.controller.account(&name("ada")).unwrap().clone(),
    };
    assert_eq!(added.sentence(), "added local account ada in [ops]");
}
