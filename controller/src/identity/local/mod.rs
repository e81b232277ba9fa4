//! Local accounts: a password (argon2id, RFC 9106) and a second factor (TOTP, RFC 6238), both chosen by the person at
//! their node, by a secret that an administrator gave them.
//!
//! **Invariant:** a name that nobody has costs the same work as one with a wrong password, and is told the same. A code
//! counts once. What is proved is proved for the generation of credentials that the log names when the session starts.

mod claim;
mod factor;
mod judge;
mod password;
mod refusal;
mod throttle;
mod vault;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringfence_control::{LocalGain, LocalLogin, LocalSecret, SessionFacts};
use ringfence_controlplane::limit::SESSION_LENGTH_MIN;
use ringfence_controlplane::{
    Account, AccountCommand, Actor, Command, Controller, PeopleCommand, VerifiedLogin,
};
use ringfence_model::{Name, NodeId, UnixMillis};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::claim::Claim;
use self::judge::{Method, Proved};
pub use self::refusal::LocalRefusal;
use self::throttle::{Place, Throttle, TooMany};
use self::vault::{Credentials, Vault};
use crate::core::{Core, CoreGone, CoreHandle, wall_now};

/// The secrets of local accounts, and how often they may be tried. Cheap to clone.
#[derive(Clone)]
pub struct LocalAccounts(Arc<Shared>);

struct Shared {
    core: CoreHandle,
    mesh: Name,
    vault: Mutex<Vault>,
    throttle: Mutex<Throttle>,
    /// Hashes at once: each takes memory, and a core for some tens of milliseconds.
    hashing: Semaphore,
    /// What the password of a name that nobody has is held against.
    nobody: Zeroizing<String>,
}

impl LocalAccounts {
    /// Those whose secrets are in `file`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be opened, or others may read it.
    pub fn open(core: CoreHandle, mesh: Name, file: &Path) -> anyhow::Result<Self> {
        Self::with(core, mesh, Vault::open(file)?)
    }

    /// The same without a disk: what is written is gone at the end.
    ///
    /// # Errors
    /// If there is no memory or no randomness.
    pub fn in_memory(core: CoreHandle, mesh: Name) -> anyhow::Result<Self> {
        Self::with(core, mesh, Vault::in_memory()?)
    }

    fn with(core: CoreHandle, mesh: Name, vault: Vault) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Shared {
            core,
            mesh,
            vault: Mutex::new(vault),
            throttle: Mutex::new(Throttle::new()),
            hashing: Semaphore::new(HASHES_AT_ONCE),
            nobody: password::hash_of_nothing()?,
        })))
    }

    /// Has an account be set up by the secret that this gives, once. What was there before counts no more.
    ///
    /// # Errors
    /// [`LocalRefusal::Broken`].
    pub async fn invite(&self, account: Account, until: UnixMillis) -> Result<LocalSecret, LocalRefusal> {
        let random = Zeroizing::new(random::<32>()?);
        let random = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
        let secret = LocalSecret::new(format!("rfs_{}", *random));
        let credentials = Credentials {
            name: account.name,
            generation: account.generation,
        };
        let hash = Sha256::digest(secret.expose().as_bytes()).into();
        self.keep(move |vault| vault.invite(&credentials, &hash, until))
            .await?;
        Ok(secret)
    }

    /// Forgets the secrets of an account.
    ///
    /// # Errors
    /// [`LocalRefusal::Broken`].
    pub async fn forget(&self, name: &Name) -> Result<(), LocalRefusal> {
        let name = name.clone();
        self.keep(move |vault| vault.forget(&name)).await
    }

    /// Takes what a person says at `node`, and starts the session that it gives.
    ///
    /// # Errors
    /// [`LocalRefusal`].
    pub async fn hear(&self, node: NodeId, said: LocalLogin) -> Result<LocalGain, LocalRefusal> {
        let claim = Claim::of(said.proof)?;
        let name = self.name_of(node, said.name, &claim).await?;
        let place = self.admit(node, &name, &claim).await?;
        let proved = self.judge(node, &name, claim).await?;
        if let Some(place) = place {
            self.0.throttle().forgive((&name, node), place);
        }
        match proved {
            Proved::Factor(factor) => Ok(LocalGain {
                factor: Some(factor),
                ..LocalGain::default()
            }),
            Proved::Person { credentials, method } => {
                let session = self.start(node, credentials, method).await?;
                Ok(LocalGain {
                    session: Some(session),
                    ..LocalGain::default()
                })
            }
            Proved::SetUp {
                credentials,
                chosen,
                recovery,
            } => {
                let noted = Command::Accounts(AccountCommand::SetUp {
                    name: credentials.name.clone(),
                    generation: credentials.generation,
                    node,
                });
                // Noted first: what is in force is in the log (red line 10).
                self.0
                    .core
                    .commit(Actor::system("identity", "set-up"), noted)
                    .await??;
                let whose = credentials.clone();
                let is_kept = self.keep(move |vault| {
                    let is_kept = vault.set_up(&whose, &chosen)?;
                    vault.note_node(&whose.name, node, wall_now())?;
                    Ok(is_kept)
                });
                if !is_kept.await? {
                    return Err(LocalRefusal::WrongSecret);
                }
                // Whoever has set it up has these codes, whatever becomes of the session.
                let session = self.start(node, credentials, Method::Code).await;
                Ok(LocalGain {
                    session: session.ok(),
                    recovery,
                    ..LocalGain::default()
                })
            }
        }
    }

    /// In whose name something is said: whoever is logged in at the node has no need to say it for a code alone.
    async fn name_of(&self, node: NodeId, said: Option<Name>, claim: &Claim) -> Result<Name, LocalRefusal> {
        match said {
            Some(name) => Ok(name),
            None if claim.is_step_up() => {
                let here = self.0.core.with(move |core| {
                    let session = core.controller().session_at(node)?;
                    let user = &session.login.user;
                    let name = Name::parse(&user.subject).ok()?;
                    (Account::user_of(&name) == *user).then_some(name)
                });
                here.await?.ok_or(LocalRefusal::NoSession)
            }
            None => Err(LocalRefusal::Malformed),
        }
    }

    /// Lets a try through, or says that it is one too many. Where it counts if it fails; nowhere, for a secret that nobody
    /// can guess.
    async fn admit(&self, node: NodeId, name: &Name, claim: &Claim) -> Result<Option<Place>, LocalRefusal> {
        let now = Instant::now();
        let refused = |too_many: TooMany| LocalRefusal::TooMany { wait: too_many.wait };
        self.0.throttle().admit_node(node, now).map_err(refused)?;
        if !claim.can_be_guessed() {
            return Ok(None);
        }
        let asked = name.clone();
        let is_familiar = self.keep(move |vault| vault.is_familiar(&asked, node)).await?;
        let place = if is_familiar {
            Place::Familiar
        } else {
            Place::Strange
        };
        let admitted = self.0.throttle().admit((name, node), place, now);
        if let Err(too_many) = admitted {
            if too_many.is_news {
                self.note_attack(node, name.clone()).await;
            }
            return Err(refused(too_many));
        }
        Ok(Some(place))
    }

    /// Writes down that somebody guesses, and not each guess. What is no account's name may be somebody's password.
    async fn note_attack(&self, node: NodeId, name: Name) {
        let asked = name.clone();
        let is_there = self
            .0
            .core
            .with(move |core| core.controller().account(&asked).is_some());
        let whose = match is_there.await {
            Ok(true) => format!("local account {name}"),
            Ok(false) | Err(_) => "a local account that is not there".to_owned(),
        };
        tracing::warn!(%node, %whose, "too many failed logins");
        let command = Command::RecordRefusal {
            method: "session.start".to_owned(),
            subject: node.to_string(),
            reason: format!("too many failed logins by {whose}"),
        };
        // Past the hourly bound, or on a full disk, the log line above is what there is.
        let _ = self.0.core.commit(Actor::node(node, "login"), command).await;
    }

    async fn judge(&self, node: NodeId, name: &Name, claim: Claim) -> Result<Proved, LocalRefusal> {
        let asked = name.clone();
        let user = Account::user_of(name);
        let known = self.0.core.with(move |core| {
            let controller = core.controller();
            let session = controller.session_at(node);
            let is_here = session.is_some_and(|session| session.login.user == user);
            (
                controller.account(&asked).map(|account| account.generation),
                is_here,
            )
        });
        let (generation, is_here) = known.await?;
        if claim.is_step_up() && !is_here {
            return Err(LocalRefusal::NoSession);
        }
        let credentials = generation.map(|generation| Credentials {
            name: name.clone(),
            generation,
        });
        let _turn = self.0.hashing.acquire().await.map_err(|_| CoreGone)?;
        let name = name.clone();
        self.blocking(move |shared| {
            let wall = wall_now();
            let proved = judge::judge(shared, (&name, credentials.as_ref()), &claim, wall)?;
            if let Proved::Person { .. } = proved {
                shared.vault().note_node(&name, node, wall)?;
            }
            Ok(proved)
        })
        .await
    }

    /// Does something with the vault, where waiting for the disk holds up nobody else.
    async fn keep<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vault) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, LocalRefusal> {
        self.blocking(move |shared| Ok(work(&mut shared.vault())?)).await
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<R, LocalRefusal> + Send + 'static,
    ) -> Result<R, LocalRefusal> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|_| LocalRefusal::Broken("what was under way was given up".to_owned()))?
    }

    async fn start(
        &self,
        node: NodeId,
        credentials: Credentials,
        method: Method,
    ) -> Result<SessionFacts, LocalRefusal> {
        let started = move |core: &mut Core| {
            let command = start_of(core.controller(), node, &credentials, method)?;
            let actor = Actor::system("identity", "login");
            core.commit(&actor, &Command::People(command))?;
            let facts = core.controller().session_facts(node);
            facts.ok_or_else(|| LocalRefusal::Refused("the session has ended already".to_owned()))
        };
        self.0.core.with(started).await?
    }
}

/// The session that was proved, as things stand now.
fn start_of(
    controller: &Controller,
    node: NodeId,
    credentials: &Credentials,
    method: Method,
) -> Result<PeopleCommand, LocalRefusal> {
    let wall = wall_now();
    let account = controller.account(&credentials.name);
    let account = account.filter(|account| account.generation == credentials.generation);
    // Reset or removed while it was judged.
    let account = account.ok_or(LocalRefusal::Wrong)?;
    let mut login = VerifiedLogin {
        user: account.user(),
        directory_id: None,
        // These three are the account's, and the core sees to it.
        name: account.called().to_owned(),
        email: None,
        groups: BTreeSet::new(),
        provider_session: None,
        acr: None,
        // RFC 8176, but for recovery codes, which it does not know.
        amr: BTreeSet::from(["pwd", method.word(), "mfa"].map(ToOwned::to_owned)),
        authenticated_at: wall,
        mfa_at: Some(wall),
    };
    let mut length = account.session();
    if method == Method::CodeAlone {
        // It lasts no longer for it: whoever has the authenticator alone does not stay for ever.
        let session = controller.session_at(node);
        let session = session.filter(|session| session.login.user == login.user);
        let session = session.ok_or(LocalRefusal::NoSession)?;
        length = session.expires.saturating_since(wall);
        login.authenticated_at = session.login.authenticated_at;
        if length < SESSION_LENGTH_MIN {
            return Err(LocalRefusal::NoSession);
        }
    }
    Ok(PeopleCommand::StartSession { node, login, length })
}

impl Shared {
    fn vault(&self) -> MutexGuard<'_, Vault> {
        // Every change of it is a transaction.
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        // A panic while holding it leaves a count that is one off.
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random<const N: usize>() -> Result<[u8; N], LocalRefusal> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| LocalRefusal::Broken(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// How many of these are at work at once; others wait for their turn.
const HASHES_AT_ONCE: usize = 2;

#[cfg(test)]
mod tests;
