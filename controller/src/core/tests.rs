//! The core's thread: what it stores, when it says no, and how it ends.

use std::time::Duration;

use ringfence_controlplane::{Event, Identity, PolicyFile, PushKind, TokenHash};
use ringfence_model::{Labels, Name, Revision};

use super::*;
use crate::store::{Loaded, SqliteLog};

/// A log on a disk that is full but for `pieces` of reserve.
struct FullDisk {
    pieces: u32,
    appended: u32,
}

impl Log for FullDisk {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn append(&mut self, _: Revision, _: &Entry) -> Result<(), StoreError> {
        // Each piece of the reserve holds one entry.
        if self.pieces == 0 {
            return Err(StoreError::Full);
        }
        self.pieces -= 1;
        self.appended += 1;
        Ok(())
    }

    fn save_snapshot(&mut self, _: &StoredSnapshot) -> Result<(), StoreError> {
        Err(StoreError::Full)
    }

    fn entries_since(&mut self, _: UnixMillis, _: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn visit_all(&mut self, _: &mut dyn FnMut(&Entry) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Log>, StoreError> {
        Err(StoreError::Full)
    }

    fn release_reserve(&mut self) -> bool {
        if self.appended > 0 {
            return false;
        }
        self.pieces += 1;
        true
    }

    fn admin_token_hash(&mut self) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(None)
    }

    fn set_admin_token_hash(&mut self, _: &[u8; 32]) -> Result<(), StoreError> {
        Ok(())
    }
}

fn admin() -> Actor {
    Actor::admin("admin", "test".to_owned())
}

fn token() -> Command {
    Command::CreateToken {
        labels: Labels::parse_pairs(["role=db"]).unwrap(),
        ttl: Duration::from_mins(1),
        uses: 1,
        secret_hash: TokenHash::of_secret(&[7; 32]),
    }
}

fn founded() -> (Controller, Change) {
    let mesh = Name::parse("acme").unwrap();
    Controller::found(mesh, &Actor::system("init", "init"), wall_now(), [3; 32])
}

/// Enrols a node with one label.
async fn enrolled(core: &CoreHandle, called: &str, label: &str) -> NodeId {
    let admitted = Command::CreateToken {
        labels: Labels::parse_pairs([label]).unwrap(),
        ttl: Duration::from_mins(1),
        uses: 1,
        secret_hash: TokenHash::of_secret(&[7; 32]),
    };
    let created = core.commit(admin(), admitted).await.unwrap().unwrap();
    let [Event::TokenCreated { token }] = created.events.as_slice() else {
        panic!("{created:?}")
    };
    let enroll = Command::Enroll {
        token: token.id,
        secret_hash: TokenHash::of_secret(&[7; 32]),
        name: Name::parse(called).unwrap(),
        identity: Identity::from_spki(called.as_bytes()).unwrap(),
    };
    let actor = Actor::token(token.id, "test".to_owned());
    let change = core.commit(actor, enroll).await.unwrap().unwrap();
    let node = change.events.iter().find_map(|event| match event {
        Event::NodeEnrolled { node } => Some(node.id),
        _ => None,
    });
    node.unwrap()
}

#[tokio::test]
async fn a_change_wakes_the_nodes_it_concerns_and_no_other() {
    let (controller, _) = founded();
    let log = FullDisk {
        pieces: 100,
        appended: 0,
    };
    let core = Core::spawn(controller, Box::new(log)).unwrap();
    let perimeter = Command::ApplyPerimeters {
        files: vec![PolicyFile {
            file: "ledger.toml".to_owned(),
            text: LEDGER.to_owned(),
        }],
        prune: false,
        base: None,
    };
    core.commit(admin(), perimeter).await.unwrap().unwrap();
    let mut sessions = Vec::new();
    for (called, label) in [
        ("db", "role=db"),
        ("app-1", "role=app"),
        ("app-2", "role=app"),
        ("elsewhere", "role=none"),
    ] {
        let node = enrolled(&core, called, label).await;
        sessions.push((called, node));
    }
    let ids: Vec<NodeId> = sessions.iter().map(|(_, node)| *node).collect();
    let listening = core.with(move |core| ids.into_iter().map(|node| core.listen(node, 1)).collect());
    let mut listening: Vec<Pushes> = listening.await.unwrap();

    let revoked = Command::RemoveNode { node: sessions[1].1 };
    core.commit(admin(), revoked).await.unwrap().unwrap();

    let mut woken = Vec::new();
    for ((called, _), pushes) in sessions.iter().zip(&mut listening) {
        // All are told before the change is answered: who is not woken now is not woken by it.
        let push = tokio::time::timeout(Duration::ZERO, pushes.next()).await;
        woken.extend(push.ok().map(|push| (*called, push)));
    }
    assert_eq!(
        woken,
        [("db", Some(PushKind::Netmap)), ("app-1", Some(PushKind::Removed))]
    );
}

const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = { nodes = "role=db" }
app = { nodes = "role=app" }
[[allow]]
from = "app"
to = "db"
ports = ["tcp/5432"]
"#;

#[tokio::test]
async fn on_a_full_disk_access_is_taken_away_and_none_is_given() {
    let (mut controller, _) = founded();
    let made = controller
        .propose(&admin(), token(), wall_now(), [5; 32])
        .unwrap();
    controller.apply(&made).unwrap();
    let id = controller.token_views(wall_now())[0].id;
    let log = FullDisk {
        pieces: 0,
        appended: 0,
    };
    let core = Core::spawn(controller, Box::new(log)).unwrap();

    let granted = core.commit(admin(), token()).await.unwrap();
    let revoked = core
        .commit(admin(), Command::RevokeToken { token: id })
        .await
        .unwrap();

    assert!(matches!(granted, Err(CommitError::Store(StoreError::Full))));
    assert!(revoked.is_ok(), "{revoked:?}");
}

#[tokio::test]
async fn a_core_that_panics_is_noticed_and_answers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (controller, _) = founded();
    let log = SqliteLog::create(&dir.path().join("store.sqlite")).unwrap();
    let core = Core::spawn(controller, Box::new(log)).unwrap();

    let job = core
        .with(|_| -> () { panic!("a fault of ours, in a test") })
        .await;

    assert!(job.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(5), core.ended()).await;
    assert!(ended.is_ok());
    assert!(core.revision().await.is_err());
}

#[tokio::test]
async fn a_core_that_was_stopped_leaves_its_log_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let (controller, first) = founded();
    let mut log = SqliteLog::create(&path).unwrap();
    log.append(Revision::ZERO, &entry_of(&first).unwrap()).unwrap();
    let core = Core::spawn(controller, Box::new(log)).unwrap();
    let other = core.clone();
    core.commit(admin(), token()).await.unwrap().unwrap();

    core.stop().await;

    assert!(!dir.path().join("store.sqlite-wal").exists());
    let loaded = SqliteLog::open(&path).unwrap().load().unwrap();
    assert_eq!(loaded.newest.map(|(revision, _)| revision.n), Some(2));
    assert!(other.revision().await.is_err(), "a stopped core answers nobody");
}

#[tokio::test]
async fn a_stored_change_that_does_not_apply_ends_the_core() {
    let (controller, first) = founded();
    let log = FullDisk {
        pieces: 1,
        appended: 0,
    };
    let core = Core::spawn(controller, Box::new(log)).unwrap();

    // The founding entry follows nothing that is there.
    let broken = core
        .with(move |core| core.store_and_apply(&first, Room::Free))
        .await;

    assert!(matches!(broken, Ok(Err(CommitError::Broken(_)))), "{broken:?}");
    let ended = tokio::time::timeout(Duration::from_secs(5), core.ended()).await;
    assert!(ended.is_ok());
}

#[test]
fn a_log_whose_end_was_cut_off_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let mut log = SqliteLog::create(&path).unwrap();
    let (mut controller, first) = founded();
    let second = controller
        .propose(&admin(), token(), wall_now(), [5; 32])
        .unwrap();
    controller.apply(&second).unwrap();
    log.append(Revision::ZERO, &entry_of(&first).unwrap()).unwrap();
    log.append(first.revision, &entry_of(&second).unwrap()).unwrap();
    let snapshot = StoredSnapshot {
        revision: controller.revision(),
        body: controller.snapshot().to_bytes(),
    };
    log.save_snapshot(&snapshot).unwrap();
    assert!(load(&mut log).is_ok());
    drop(log);

    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("DROP TRIGGER change_is_append_only_delete; DELETE FROM change WHERE n = 2")
        .unwrap();
    drop(raw);

    let refused = load(&mut SqliteLog::open(&path).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("cut off"), "{refused:#}");
}
