//! Who logs in by a local account, and who does not.

use std::time::Duration;

use ringfence_control::LocalProof;
use ringfence_controlplane::{Event, Identity, TokenHash};
use ringfence_model::Labels;
use totp_rs::{Algorithm, Secret, TOTP};

use super::judge::RECOVERY_CODES;
use super::throttle::{FREE_FAILURES, NODE_TRIES_BURST};
use super::*;
use crate::core::{Core, entropy, entry_of, parse_entry};
use crate::store::{Log as _, SqliteLog};

/// A controller with two machines, and one person who is to have an account.
struct World {
    core: CoreHandle,
    accounts: LocalAccounts,
    laptop: NodeId,
    other: NodeId,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SqliteLog::create(&dir.path().join("store.sqlite")).unwrap();
        let mesh = name("acme");
        let (controller, founded) =
            Controller::found(mesh.clone(), &Actor::system("init", "init"), wall_now(), [1; 32]);
        log.append(ringfence_model::Revision::ZERO, &entry_of(&founded).unwrap())
            .unwrap();
        let core = Core::spawn(controller, Box::new(log)).unwrap();
        let accounts = LocalAccounts::open(core.clone(), mesh, &dir.path().join(FILE)).unwrap();
        let (laptop, other) = (enroll(&core, "laptop").await, enroll(&core, "other").await);
        let world = Self {
            core,
            accounts,
            laptop,
            other,
            dir,
        };
        let add = AccountCommand::Add {
            name: ada(),
            email: None,
            groups: BTreeSet::from(["dba".to_owned()]),
            session: Duration::from_hours(8),
        };
        world.admin(add).await;
        world
    }

    /// Ada has set her account up at the laptop: her authenticator, and her recovery codes.
    async fn with_ada() -> (Self, TOTP, Vec<LocalSecret>) {
        let world = Self::new().await;
        let secret = world.invite(HOUR).await;
        let authenticator = world.begin(&secret).await.unwrap();
        let gain = world.set_up(&secret, PASSWORD, &authenticator).await.unwrap();
        assert_eq!(gain.session.unwrap().groups, ["dba"]);
        world.unspend();
        (world, authenticator, gain.recovery)
    }

    async fn admin(&self, command: AccountCommand) {
        let committed = self
            .core
            .commit(Actor::admin("root", "r"), Command::Accounts(command));
        committed.await.unwrap().unwrap();
    }

    async fn invite(&self, life: Duration) -> LocalSecret {
        let account = self.core.with(|core| core.controller().account(&ada()).cloned());
        let account = account.await.unwrap().unwrap();
        let until = wall_now().saturating_add(life);
        self.accounts.invite(account, until).await.unwrap()
    }

    async fn say(&self, node: NodeId, proof: LocalProof) -> Result<LocalGain, LocalRefusal> {
        self.say_as(node, ada(), proof).await
    }

    async fn say_as(&self, node: NodeId, name: Name, proof: LocalProof) -> Result<LocalGain, LocalRefusal> {
        let name = Some(name);
        self.accounts.hear(node, LocalLogin { id: 0, name, proof }).await
    }

    async fn begin(&self, secret: &LocalSecret) -> Result<TOTP, LocalRefusal> {
        let proof = LocalProof {
            set_up: Some(secret.clone()),
            ..LocalProof::default()
        };
        let url = self.say(self.laptop, proof).await?.factor.unwrap();
        Ok(authenticator(url.expose()))
    }

    async fn set_up(
        &self,
        secret: &LocalSecret,
        password: &str,
        authenticator: &TOTP,
    ) -> Result<LocalGain, LocalRefusal> {
        let proof = LocalProof {
            set_up: Some(secret.clone()),
            ..proof(password, &code(authenticator))
        };
        self.say(self.laptop, proof).await
    }

    /// Whether somebody gets in.
    async fn lets_in(&self, node: NodeId, password: &str, code: &str) -> bool {
        match self.say(node, proof(password, code)).await {
            Ok(gain) => {
                assert_eq!(gain.session.unwrap().provider.as_str(), Account::PROVIDER);
                true
            }
            Err(LocalRefusal::Wrong) => false,
            Err(other) => panic!("{other}"),
        }
    }

    /// As if the codes of this minute had not been used: a test does not wait for the next.
    fn unspend(&self) {
        let raw = rusqlite::Connection::open(self.dir.path().join(FILE)).unwrap();
        raw.execute("UPDATE account SET step = 0", []).unwrap();
        *self.accounts.0.throttle() = Throttle::new();
    }

    async fn told(&self, kind: &'static str) -> usize {
        let told = self.core.with(move |core| {
            let entries = core.log().load().unwrap().entries;
            let changes = entries.iter().map(|entry| parse_entry(entry).unwrap());
            let events = changes.flat_map(|change| change.events);
            events.filter(|event| event.kind() == kind).count()
        });
        told.await.unwrap()
    }
}

async fn enroll(core: &CoreHandle, called: &'static str) -> NodeId {
    let enrolled = core.with(move |core| {
        let create = Command::CreateToken {
            labels: Labels::default(),
            ttl: HOUR,
            uses: 1,
            secret_hash: TokenHash::of_secret(b"t"),
        };
        let created = core.commit(&Actor::admin("root", "r"), &create).unwrap();
        let token = created.events.iter().find_map(|event| match event {
            Event::TokenCreated { token } => Some(token.id),
            _ => None,
        });
        let token = token.unwrap();
        let enroll = Command::Enroll {
            token,
            secret_hash: TokenHash::of_secret(b"t"),
            name: name(called),
            identity: Identity::from_spki(&entropy().unwrap()).unwrap(),
        };
        let enrolled = core.commit(&Actor::token(token, "r"), &enroll).unwrap();
        let node = enrolled.events.iter().find_map(|event| match event {
            Event::NodeEnrolled { node, .. } => Some(node.id),
            _ => None,
        });
        node.unwrap()
    });
    enrolled.await.unwrap()
}

fn authenticator(url: &str) -> TOTP {
    let (_, query) = url.split_once("secret=").unwrap();
    let (secret, _) = query.split_once('&').unwrap();
    let secret = Secret::Encoded(secret.to_owned()).to_bytes().unwrap();
    TOTP::new(Algorithm::SHA1, 6, 0, 30, secret).unwrap()
}

fn code(authenticator: &TOTP) -> String {
    authenticator.generate(wall_now().0 / 1000)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ada() -> Name {
    name("ada")
}

fn proof(password: &str, code: &str) -> LocalProof {
    LocalProof {
        set_up: None,
        password: Some(LocalSecret::new(password)),
        code: Some(LocalSecret::new(code)),
    }
}

fn code_alone(code: &str) -> LocalProof {
    LocalProof {
        code: Some(LocalSecret::new(code)),
        ..LocalProof::default()
    }
}

#[tokio::test]
async fn a_password_and_a_code_together_log_in_and_each_code_once() {
    let (world, authenticator, _) = World::with_ada().await;
    let code = code(&authenticator);

    assert!(!world.lets_in(world.laptop, "not the password", &code).await);
    assert!(!world.lets_in(world.laptop, PASSWORD, "000000").await);
    assert!(world.lets_in(world.laptop, PASSWORD, &code).await);
    assert!(
        !world.lets_in(world.laptop, PASSWORD, &code).await,
        "no code twice"
    );
    assert!(!world.lets_in(world.other, PASSWORD, &code).await, "and nowhere");
}

#[tokio::test]
async fn the_session_says_what_was_proved_and_when() {
    let (world, authenticator, recovery) = World::with_ada().await;
    let before = wall_now();
    assert!(world.lets_in(world.laptop, PASSWORD, &code(&authenticator)).await);
    let laptop = world.laptop;
    let session_of = move |core: &mut Core| core.controller().session_at(laptop).cloned().unwrap();
    let session = world.core.with(session_of).await.unwrap();
    let words = |login: &VerifiedLogin| login.amr.iter().cloned().collect::<Vec<_>>();

    assert_eq!(words(&session.login), ["mfa", "otp", "pwd"]);
    assert!(session.login.mfa_at.unwrap() >= before);
    assert!(session.login.authenticated_at >= before);
    let length = session.expires.saturating_since(before);
    let eight = Duration::from_hours(8);
    assert!(length.abs_diff(eight) < Duration::from_mins(1), "{length:?}");

    assert!(world.lets_in(world.laptop, PASSWORD, recovery[0].expose()).await);
    let session = world.core.with(session_of).await.unwrap();
    assert_eq!(words(&session.login), ["mfa", "pwd", "recovery"]);
}

#[tokio::test]
async fn a_code_alone_renews_the_second_factor_where_its_person_is_logged_in_and_no_more() {
    let (world, authenticator, _) = World::with_ada().await;
    let elsewhere = world.say(world.other, code_alone(&code(&authenticator))).await;
    assert!(matches!(elsewhere, Err(LocalRefusal::NoSession)));
    let laptop = world.laptop;
    let session_of = move |core: &mut Core| core.controller().session_at(laptop).cloned().unwrap();
    let before = world.core.with(session_of).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;

    let wrong = world.say(world.laptop, code_alone("000000")).await;
    assert!(matches!(wrong, Err(LocalRefusal::Wrong)));
    // Who is meant is clear.
    let said = LocalLogin {
        id: 0,
        name: None,
        proof: code_alone(&code(&authenticator)),
    };
    world.accounts.hear(world.laptop, said).await.unwrap();
    let after = world.core.with(session_of).await.unwrap();

    assert!(after.login.mfa_at > before.login.mfa_at);
    assert_eq!(after.login.authenticated_at, before.login.authenticated_at);
    assert!(after.expires <= before.expires, "it lasts no longer for it");
    let again = world.say(world.laptop, code_alone(&code(&authenticator))).await;
    assert!(matches!(again, Err(LocalRefusal::Wrong)), "no code twice");
}

#[tokio::test]
async fn a_recovery_code_stands_for_a_code_once() {
    let (world, _, codes) = World::with_ada().await;
    assert_eq!(codes.len(), RECOVERY_CODES);
    let typed = codes[3].expose().to_ascii_uppercase();

    assert!(!world.lets_in(world.laptop, "not the password", &typed).await);
    assert!(world.lets_in(world.laptop, PASSWORD, &typed).await);
    assert!(!world.lets_in(world.laptop, PASSWORD, &typed).await);
    assert!(world.lets_in(world.laptop, PASSWORD, codes[4].expose()).await);
}

#[tokio::test]
async fn a_set_up_secret_counts_once_for_its_time() {
    let world = World::new().await;
    let lost = world.invite(HOUR).await;
    let secret = world.invite(HOUR).await;
    assert!(matches!(world.begin(&lost).await, Err(LocalRefusal::WrongSecret)));
    let unused = world.begin(&secret).await.unwrap();
    let authenticator = world.begin(&secret).await.unwrap();

    let old = world.set_up(&secret, PASSWORD, &unused).await;
    assert!(
        matches!(old, Err(LocalRefusal::WrongSecret)),
        "the newer factor counts"
    );
    let short = world.set_up(&secret, "short", &authenticator).await;
    assert!(matches!(short, Err(LocalRefusal::Password)));
    assert_eq!(world.told("account-set-up").await, 0);
    world.set_up(&secret, PASSWORD, &authenticator).await.unwrap();
    assert_eq!(world.told("account-set-up").await, 1);
    let again = world.set_up(&secret, PASSWORD, &authenticator).await;
    assert!(matches!(again, Err(LocalRefusal::WrongSecret)));
    assert!(matches!(
        world.begin(&secret).await,
        Err(LocalRefusal::WrongSecret)
    ));

    let expired = world.invite(Duration::ZERO).await;
    assert!(matches!(
        world.begin(&expired).await,
        Err(LocalRefusal::WrongSecret)
    ));
}

#[tokio::test]
async fn what_was_known_before_a_reset_counts_no_more_even_if_it_is_still_on_the_disk() {
    let (world, authenticator, codes) = World::with_ada().await;
    world.admin(AccountCommand::Reset { name: ada() }).await;

    // Nobody was invited yet: the controller stopped in between.
    assert!(!world.lets_in(world.laptop, PASSWORD, &code(&authenticator)).await);
    assert!(!world.lets_in(world.laptop, PASSWORD, codes[0].expose()).await);
    let secret = world.invite(HOUR).await;
    let newer = world.begin(&secret).await.unwrap();
    world.set_up(&secret, "another password", &newer).await.unwrap();
    world.unspend();
    assert!(!world.lets_in(world.laptop, PASSWORD, &code(&newer)).await);
    assert!(
        world
            .lets_in(world.laptop, "another password", &code(&newer))
            .await
    );

    world.admin(AccountCommand::Remove { name: ada() }).await;
    world.unspend();
    assert!(
        !world
            .lets_in(world.laptop, "another password", &code(&newer))
            .await
    );
}

#[tokio::test]
async fn guessing_is_slowed_down_whether_the_name_is_there_or_not_and_noted_once() {
    let (world, authenticator, _) = World::with_ada().await;
    let guess =
        |name: &'static str, node| world.say_as(node, self::name(name), proof("a guess at it", "123456"));
    for name in ["ada", "nobody"] {
        for _ in 0..FREE_FAILURES {
            let refused = guess(name, world.other).await.unwrap_err();
            assert!(matches!(refused, LocalRefusal::Wrong));
        }
        for _ in 0..3 {
            let refused = guess(name, world.other).await.unwrap_err();
            assert!(matches!(refused, LocalRefusal::TooMany { .. }), "{refused}");
        }
    }

    assert_eq!(world.told("refused").await, 2, "one for each name");
    assert!(
        world.lets_in(world.laptop, PASSWORD, &code(&authenticator)).await,
        "her own machine"
    );
}

#[tokio::test]
async fn a_node_guesses_at_so_many_names() {
    let world = World::new().await;
    let mut tried = 0;
    loop {
        let said = world.say_as(
            world.other,
            name(&format!("n{tried}")),
            proof("a guess at it", "123456"),
        );
        match said.await.unwrap_err() {
            LocalRefusal::Wrong => tried += 1,
            LocalRefusal::TooMany { wait } => break assert!(wait <= Duration::from_secs(5)),
            other => panic!("{other}"),
        }
    }

    assert!(
        (NODE_TRIES_BURST..NODE_TRIES_BURST + 3).contains(&tried),
        "{tried}"
    );
    let secret = LocalProof {
        set_up: Some(LocalSecret::new("rfs_guess")),
        ..LocalProof::default()
    };
    let refused = world.say(world.other, secret).await;
    assert!(matches!(refused, Err(LocalRefusal::TooMany { .. })));
}

#[tokio::test]
async fn what_no_person_says_is_refused() {
    let world = World::new().await;
    let some = |text: &str| Some(LocalSecret::new(text));
    let malformed = [
        LocalProof::default(),
        LocalProof {
            password: some(PASSWORD),
            ..LocalProof::default()
        },
        LocalProof {
            code: some(""),
            ..LocalProof::default()
        },
        LocalProof {
            set_up: some("rfs_x"),
            code: some("123456"),
            ..LocalProof::default()
        },
        code_alone(&"1".repeat(129)),
    ];
    for proof in malformed {
        let refused = world.say(world.laptop, proof).await;
        assert!(matches!(refused, Err(LocalRefusal::Malformed)));
    }
    let long = world.say(world.laptop, proof(&"x".repeat(2000), "123456")).await;
    assert!(matches!(long, Err(LocalRefusal::Password)));
}

#[tokio::test]
async fn what_is_on_disk_is_the_owners_alone_and_no_secret_in_clear() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let (world, _, codes) = World::with_ada().await;
    let file = world.dir.path().join(FILE);
    let holds = |file: &str, text: &str| {
        let bytes = std::fs::read(world.dir.path().join(file)).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };

    assert!(!holds(FILE, PASSWORD) && !holds(FILE, codes[0].expose()));
    assert!(holds(FILE, "$argon2id$v=19$m=32768,t=3,p=1$"));
    assert!(
        !holds("store.sqlite", "argon2id"),
        "the log is what auditors read"
    );
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(Vault::open(&file).is_err());
}

const PASSWORD: &str = "correct horse battery";
const HOUR: Duration = Duration::from_hours(1);
const FILE: &str = "accounts.sqlite";
