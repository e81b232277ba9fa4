//! What identity providers say by SCIM, and what becomes of who is logged in.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{DirectoryId, NodeId};

use super::sessions::{causes, login};
use super::world::*;
use crate::limit::{EMAILS_PER_PERSON_MAX, GROUPS_PER_PERSON_MAX};
use crate::provider::tests::provider;
use crate::{
    Actor, Change, Command, Controller, DirectoryCommand, DirectoryEmail, DirectoryEvent, DirectoryRefusal,
    Event, GroupProfile, PeopleCommand, PersonProfile, ProviderCommand, Refusal, SessionEnd, Snapshot,
    TokenHash, UserStanding, VerifiedLogin,
};

const TOKEN: &[u8] = b"rfs_secret";

/// Those of the group `dba` reach the database.
const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = { nodes = "role=db" }
dba = { users = "group=dba" }
[[allow]]
from = "dba"
to = "db"
ports = ["tcp/5432"]
"#;

impl World {
    /// The provider `corp` with a SCIM token, a database, and a laptop.
    fn with_directory() -> (Self, NodeId) {
        let mut world = Self::new();
        let add = ProviderCommand::Add { provider: provider() };
        world.admin(Command::Provider(add)).unwrap();
        world.admin(create_token()).unwrap();
        world.admin(apply(LEDGER)).unwrap();
        world.enroll("db", "role=db");
        let laptop = world.enroll("laptop", "os=linux");
        (world, laptop)
    }

    /// What the provider says.
    fn told(&mut self, command: DirectoryCommand) -> Result<Change, Refusal> {
        self.ask(&Actor::directory(&name("corp"), "r"), Command::Directory(command))
    }

    fn provision(&mut self, profile: PersonProfile) -> DirectoryId {
        let provider = name("corp");
        let change = self
            .told(DirectoryCommand::AddPerson { provider, profile })
            .unwrap();
        provisioned(&change)
    }

    fn group(&mut self, called: &str, members: &[DirectoryId]) -> DirectoryId {
        let change = self.told(add_group(called, members)).unwrap();
        provisioned(&change)
    }

    fn change(&mut self, id: DirectoryId, profile: PersonProfile) -> Result<Change, Refusal> {
        let provider = name("corp");
        self.told(DirectoryCommand::ChangePerson {
            provider,
            id,
            profile,
        })
    }

    fn vouch(&mut self, node: NodeId, login: VerifiedLogin) -> Result<Change, Refusal> {
        self.system(Command::People(PeopleCommand::StartSession {
            node,
            login,
            length: Duration::from_hours(12),
        }))
    }

    fn groups_at(&self, node: NodeId) -> Option<Vec<String>> {
        let session = self.controller.session_at(node)?;
        Some(session.login.groups.iter().cloned().collect())
    }

    fn is_in_ledger(&self, node: NodeId) -> bool {
        self.controller.state().nodes[&node]
            .perimeters
            .contains(&name("ledger"))
    }
}

fn create_token() -> Command {
    Command::Directory(DirectoryCommand::CreateToken {
        provider: name("corp"),
        secret_hash: TokenHash::of_secret(TOKEN),
    })
}

fn add_group(called: &str, members: &[DirectoryId]) -> DirectoryCommand {
    DirectoryCommand::AddGroup {
        provider: name("corp"),
        profile: group_profile(called),
        members: members.iter().copied().collect(),
    }
}

fn change_group(id: DirectoryId, called: &str, members: &[DirectoryId]) -> DirectoryCommand {
    DirectoryCommand::ChangeGroup {
        provider: name("corp"),
        id,
        profile: group_profile(called),
        members: members.iter().copied().collect(),
    }
}

fn group_profile(called: &str) -> GroupProfile {
    GroupProfile {
        name: called.to_owned(),
        external_id: None,
    }
}

/// As the directory describes the person whose subject is this.
fn profile(subject: &str) -> PersonProfile {
    PersonProfile {
        user_name: format!("{subject}@corp.example"),
        external_id: Some(subject.to_owned()),
        display_name: None,
        emails: Vec::new(),
        standing: UserStanding::Active,
    }
}

fn deactivated(subject: &str) -> PersonProfile {
    PersonProfile {
        standing: UserStanding::Deactivated,
        ..profile(subject)
    }
}

fn provisioned(change: &Change) -> DirectoryId {
    let ids = change.events.iter().find_map(|event| match event {
        Event::Directory(event) => match event.as_ref() {
            DirectoryEvent::PersonProvisioned { person, .. } => Some(person.id),
            DirectoryEvent::GroupProvisioned { group, .. } => Some(group.id),
            _ => None,
        },
        _ => None,
    });
    ids.unwrap()
}

#[test]
fn groups_come_from_the_directory_and_not_from_the_token() {
    let (mut world, laptop) = World::with_directory();
    let alice = world.provision(profile("alice"));
    let claims_more = VerifiedLogin {
        groups: BTreeSet::from(["dba".to_owned()]),
        ..login("alice", world.wall)
    };

    world.vouch(laptop, claims_more).unwrap();
    assert_eq!(world.groups_at(laptop), Some(Vec::new()));
    assert!(!world.is_in_ledger(laptop));

    let dba = world.group("dba", &[alice]);
    assert_eq!(world.groups_at(laptop), Some(vec!["dba".to_owned()]));
    assert!(world.is_in_ledger(laptop));

    world.told(change_group(dba, "dba", &[])).unwrap();
    assert_eq!(world.groups_at(laptop), Some(Vec::new()));
    assert!(!world.is_in_ledger(laptop));
}

#[test]
fn a_group_that_is_renamed_or_removed_means_nobody_by_its_old_name() {
    let (mut world, laptop) = World::with_directory();
    let alice = world.provision(profile("alice"));
    let dba = world.group("dba", &[alice]);
    world.vouch(laptop, login("alice", world.wall)).unwrap();
    assert!(world.is_in_ledger(laptop));

    world.told(change_group(dba, "former-dba", &[alice])).unwrap();
    assert!(!world.is_in_ledger(laptop));
    world.told(change_group(dba, "dba", &[alice])).unwrap();
    assert!(world.is_in_ledger(laptop));

    let provider = name("corp");
    world
        .told(DirectoryCommand::RemoveGroup { provider, id: dba })
        .unwrap();
    assert!(!world.is_in_ledger(laptop));
    assert_eq!(world.groups_at(laptop), Some(Vec::new()));
}

#[test]
fn who_is_deactivated_or_removed_by_the_directory_is_out_in_the_same_change() {
    let (mut world, laptop) = World::with_directory();
    let alice = world.provision(profile("alice"));
    world.group("dba", &[alice]);
    world.vouch(laptop, login("alice", world.wall)).unwrap();

    let change = world.change(alice, deactivated("alice")).unwrap();
    assert_eq!(causes(&change), [SessionEnd::Deactivated]);
    assert!(!world.is_in_ledger(laptop));
    let refused = world.vouch(laptop, login("alice", world.wall)).unwrap_err();
    assert!(matches!(refused, Refusal::UserDeactivated(_)), "{refused}");
    assert!(refused.is_auditable());
    assert!(!world.controller.user_views()[0].active);

    world.change(alice, profile("alice")).unwrap();
    world.vouch(laptop, login("alice", world.wall)).unwrap();
    assert!(world.is_in_ledger(laptop));
    assert!(world.controller.user_views()[0].active);

    let provider = name("corp");
    let change = world
        .told(DirectoryCommand::RemovePerson { provider, id: alice })
        .unwrap();
    assert_eq!(causes(&change), [SessionEnd::Deactivated]);
    let refused = world.vouch(laptop, login("alice", world.wall)).unwrap_err();
    assert!(
        matches!(refused, Refusal::Directory(DirectoryRefusal::NotProvisioned(_))),
        "{refused}"
    );
}

#[test]
fn an_administrators_deactivation_is_not_undone_by_the_directory() {
    let (mut world, laptop) = World::with_directory();
    let alice = world.provision(profile("alice"));
    world.vouch(laptop, login("alice", world.wall)).unwrap();
    let user = "corp/alice".parse().unwrap();
    world
        .admin(Command::People(PeopleCommand::DeactivateUser { user }))
        .unwrap();

    world.change(alice, deactivated("alice")).unwrap();
    world.change(alice, profile("alice")).unwrap();

    assert!(world.vouch(laptop, login("alice", world.wall)).is_err());
    assert!(!world.controller.user_views()[0].active);
}

#[test]
fn a_person_is_found_by_subject_or_verified_address_and_two_of_one_address_are_nobody() {
    let (mut world, laptop) = World::with_directory();
    let by_address = |user_name: &str, address: &str| PersonProfile {
        user_name: user_name.to_owned(),
        external_id: Some(format!("hr-{user_name}")),
        emails: vec![DirectoryEmail {
            value: address.to_owned(),
            kind: Some("work".to_owned()),
            primary: true,
        }],
        ..profile(user_name)
    };
    world.provision(by_address("alice", "Alice@Example.com"));
    world.vouch(laptop, login("alice", world.wall)).unwrap();

    let unverified = VerifiedLogin {
        email: None,
        name: "alice".to_owned(),
        ..login("stranger", world.wall)
    };
    let refused = world.vouch(laptop, unverified).unwrap_err();
    assert!(
        matches!(refused, Refusal::Directory(DirectoryRefusal::NotProvisioned(_))),
        "a name that a person gives themselves proves nothing"
    );

    let provider = name("corp");
    let twin = by_address("other-alice", "alice@example.com");
    let change = world
        .told(DirectoryCommand::AddPerson {
            provider,
            profile: twin,
        })
        .unwrap();
    assert_eq!(causes(&change), [SessionEnd::Deactivated]);
    assert!(world.vouch(laptop, login("alice", world.wall)).is_err());
}

#[test]
fn a_person_is_found_by_the_claim_that_stands_for_their_directory_id() {
    let (mut world, laptop) = World::with_directory();
    let entra = PersonProfile {
        external_id: Some("0a21f0f2".to_owned()),
        ..profile("alice")
    };
    let alice = world.provision(entra.clone());
    let pairwise = VerifiedLogin {
        email: None,
        directory_id: Some("0a21f0f2".into()),
        ..login("pairwise-subject", world.wall)
    };

    world.vouch(laptop, pairwise.clone()).unwrap();
    assert!(world.controller.user_views()[0].active);
    let deactivated = PersonProfile {
        standing: UserStanding::Deactivated,
        ..entra
    };
    let change = world.change(alice, deactivated).unwrap();

    assert_eq!(causes(&change), [SessionEnd::Deactivated]);
    assert!(!world.controller.user_views()[0].active);
    assert!(world.vouch(laptop, pairwise).is_err());
}

#[test]
fn a_session_from_before_the_directory_lasts_until_the_directory_speaks_of_its_person() {
    let (mut world, laptop) = World::with_directory();
    let again = [
        ProviderCommand::Remove { name: name("corp") },
        ProviderCommand::Add { provider: provider() },
    ];
    for command in again {
        world.admin(Command::Provider(command)).unwrap();
    }
    world.vouch(laptop, login("alice", world.wall)).unwrap();

    world.admin(create_token()).unwrap();
    assert_eq!(world.groups_at(laptop), Some(vec!["staff".to_owned()]));
    world.provision(profile("alice"));
    assert_eq!(world.groups_at(laptop), Some(Vec::new()));
}

#[test]
fn a_token_that_was_revoked_or_replaced_says_nothing_and_what_it_said_stays() {
    let (mut world, laptop) = World::with_directory();
    let alice = world.provision(profile("alice"));
    let hash = TokenHash::of_secret(TOKEN);
    assert_eq!(
        world.controller.provider_by_scim_token(&hash),
        Some(&name("corp"))
    );

    let replaced = Command::Directory(DirectoryCommand::CreateToken {
        provider: name("corp"),
        secret_hash: TokenHash::of_secret(b"another"),
    });
    world.admin(replaced).unwrap();
    assert_eq!(world.controller.provider_by_scim_token(&hash), None);

    let revoke = DirectoryCommand::RevokeToken {
        provider: name("corp"),
    };
    world.admin(Command::Directory(revoke.clone())).unwrap();
    assert_eq!(
        world
            .controller
            .provider_by_scim_token(&TokenHash::of_secret(b"another")),
        None
    );
    assert_eq!(
        world.admin(Command::Directory(revoke)),
        Err(DirectoryRefusal::NoToken(name("corp")).into())
    );
    assert!(matches!(
        world.change(alice, deactivated("alice")),
        Err(Refusal::Directory(DirectoryRefusal::NoToken(_)))
    ));
    world.vouch(laptop, login("alice", world.wall)).unwrap();
    assert!(world.vouch(laptop, login("bob", world.wall)).is_err());
}

#[test]
fn a_provider_speaks_for_its_own_people_alone_and_administrators_for_none() {
    let (mut world, laptop) = World::with_directory();
    let add = || {
        Command::Directory(DirectoryCommand::AddPerson {
            provider: name("corp"),
            profile: profile("mallory"),
        })
    };
    let denied = [
        (Actor::admin("ada", "r"), add()),
        (Actor::node(laptop, "r"), add()),
        (Actor::directory(&name("other"), "r"), add()),
        (Actor::directory(&name("corp"), "r"), create_token()),
        (
            Actor::directory(&name("corp"), "r"),
            Command::RemoveNode { node: laptop },
        ),
    ];
    for (actor, command) in denied {
        let refused = world.ask(&actor, command).unwrap_err();
        assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let (mut world, _) = World::with_directory();
    let alice = world.provision(profile("alice"));
    let dba = world.group("dba", &[alice]);
    let provider = name("corp");
    let add = |profile: PersonProfile| DirectoryCommand::AddPerson {
        provider: provider.clone(),
        profile,
    };
    let email = DirectoryEmail {
        value: "a@example.com".to_owned(),
        kind: None,
        primary: false,
    };
    let many = PersonProfile {
        emails: vec![email; EMAILS_PER_PERSON_MAX + 1],
        ..profile("bob")
    };
    let odd = PersonProfile {
        user_name: "a\u{1b}[2J".to_owned(),
        ..profile("bob")
    };
    let twin = PersonProfile {
        user_name: "ALICE@corp.example".to_owned(),
        ..profile("bob")
    };

    assert!(matches!(world.told(add(many)), Err(Refusal::Limit { .. })));
    assert!(matches!(
        world.told(add(odd)),
        Err(Refusal::Directory(DirectoryRefusal::Text { .. }))
    ));
    assert!(matches!(
        world.told(add(twin)),
        Err(Refusal::Directory(DirectoryRefusal::NameTaken(_)))
    ));
    assert!(matches!(
        world.told(add_group("DBA", &[])),
        Err(Refusal::Directory(DirectoryRefusal::NameTaken(_)))
    ));
    assert!(matches!(
        world.told(add_group("x", &[dba])),
        Err(Refusal::Directory(DirectoryRefusal::NoSuchMember(_)))
    ));
    assert!(matches!(
        world.change(dba, profile("bob")),
        Err(Refusal::Directory(DirectoryRefusal::NotThere(_)))
    ));
    assert_eq!(world.change(alice, profile("alice")), Err(Refusal::Unchanged));
    for n in 1..GROUPS_PER_PERSON_MAX {
        world.group(&format!("g{n}"), &[alice]);
    }
    assert!(matches!(
        world.told(add_group("one-more", &[alice])),
        Err(Refusal::Limit { .. })
    ));
}

#[test]
fn directories_come_back_from_the_log_and_from_a_snapshot() {
    let (mut world, laptop) = World::with_directory();
    let (alice, bob) = (world.provision(profile("alice")), world.provision(profile("bob")));
    let dba = world.group("dba", &[alice, bob]);
    world.vouch(laptop, login("alice", world.wall)).unwrap();
    world.told(change_group(dba, "dbas", &[alice])).unwrap();
    let provider = name("corp");
    world
        .told(DirectoryCommand::RemovePerson { provider, id: alice })
        .unwrap();

    let written: Vec<String> = world
        .log
        .iter()
        .map(|change| serde_json::to_string(change).unwrap())
        .collect();
    let read: Vec<Change> = written
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let replayed = Controller::load(None, &read).unwrap();
    let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    let loaded = Controller::load(Some(snapshot), []).unwrap();

    assert_eq!(read, world.log);
    assert_eq!(replayed.state(), world.controller.state());
    assert_eq!(loaded.state(), world.controller.state());
    let directory = world.controller.directory(&name("corp")).unwrap();
    assert_eq!(
        (
            directory.people().count(),
            directory.group(dba).unwrap().members.len()
        ),
        (1, 0)
    );
}
