//! People and workloads: the controller as a relying party of identity providers (OpenID Connect) and of platforms, and
//! local accounts for people who have no provider.
//!
//! Logins begin at a node and end in a [`VerifiedLogin`]; what that means for access is the core's to say.
//!
//! **Invariant:** a login is verified by what its provider signed, for this client and this attempt, or it is none.

mod address;
mod cache;
mod discovery;
mod fetch;
mod jws;
mod local;
mod login;
mod logout;
mod pending;
mod secrets;
mod token;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openidconnect::ClientId;
use ringfence_control::{LoginCode, LoginMethod, LoginStart};
use ringfence_controlplane::{LoginGoal, LoginRefusal, Provider, VerifiedLogin};
use ringfence_model::{Name, NodeId, UnixMillis};
use zeroize::Zeroizing;

use self::discovery::Discovery;
use self::jws::JwsError;
use self::pending::Pending;
use self::token::Expected;
use crate::core::{CoreGone, CoreHandle, wall_now};

pub use self::local::{LocalAccounts, LocalRefusal};
pub use self::login::DeviceLogin;
pub use self::logout::EndedAtProvider;
pub use self::secrets::ClientSecrets;
pub use self::workload::{WorkloadError, Workloads};

/// The logins of a mesh. Cheap to clone.
#[derive(Clone)]
pub struct Logins(Arc<Shared>);

struct Shared {
    core: CoreHandle,
    secrets: ClientSecrets,
    discoveries: Mutex<BTreeMap<Name, Arc<Discovery>>>,
    pending: Pending,
    taken: logout::Taken,
}

/// Where a person goes.
pub struct Begun {
    /// Where to: an https URL.
    pub url: String,
    /// What to enter there.
    pub user_code: Option<String>,
    /// What the browser must bring back.
    pub state: Option<String>,
    /// How long it may take.
    pub expires_in: Duration,
}

/// How a login goes on.
pub enum Course {
    /// The browser comes back to the person's machine: see [`Logins::finish`].
    Browser(Begun),
    /// The provider is asked until it has an answer: see [`DeviceLogin::finish`].
    Device(Begun, Box<DeviceLogin>),
}

/// What a browser brought back.
struct Returned {
    code: Zeroizing<String>,
    state: String,
    issuer: Option<String>,
}

/// What a login is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// At which provider; the only one if absent.
    pub provider: Option<Name>,
    /// How the person gets there.
    pub method: LoginMethod,
    /// What it is for.
    pub goal: LoginGoal,
}

/// Why there is no login. In words for the person.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// None is configured.
    #[error(
        "this mesh has no identity provider: an administrator adds one with `ringfence provider add`; with a local account, log in by `ringfence login --account NAME`"
    )]
    NoProvider,
    /// It is not configured.
    #[error("this mesh has no identity provider {0}")]
    UnknownProvider(Name),
    /// Several are, and none was named.
    #[error("this mesh has several identity providers: choose one with --provider ({0})")]
    WhichProvider(String),
    /// It does not say what we need to know.
    #[error("the identity provider cannot be used: {0}")]
    Provider(String),
    /// Its secret is not here.
    #[error("the controller has no client secret for this provider: its log says why")]
    Secret,
    /// It has no device flow.
    #[error("the identity provider has no device authorization: log in without --device")]
    NoDeviceFlow,
    /// It is not on its way, or no longer.
    #[error("this login is not on its way: it was used, given up, or took too long; begin again")]
    NotPending,
    /// The answer belongs to another attempt.
    #[error("the browser's answer belongs to another login: begin again")]
    State,
    /// The answer is another provider's.
    #[error("the browser's answer comes from another identity provider than it was sent to")]
    Issuer,
    /// The provider said no.
    #[error("the identity provider refuses: {0}")]
    Exchange(String),
    /// It gave no ID token.
    #[error("the identity provider gave no ID token")]
    NoIdToken,
    /// Signed with a key that it does not publish.
    #[error("the token is signed with a key that the identity provider does not publish")]
    UnknownKey,
    /// A token that proves nothing.
    #[error("the token is not valid: {0}")]
    Token(String),
    /// A valid token that is no login.
    #[error(transparent)]
    Refused(#[from] LoginRefusal),
    /// The core is gone.
    #[error(transparent)]
    Core(#[from] CoreGone),
}

impl From<JwsError> for LoginError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::UnknownKey => Self::UnknownKey,
            JwsError::Token(why) => Self::Token(why),
        }
    }
}

impl LoginError {
    /// Whether it belongs in the audit trail: somebody showed what proves nothing.
    pub fn is_auditable(&self) -> bool {
        match self {
            Self::State
            | Self::Issuer
            | Self::NoIdToken
            | Self::UnknownKey
            | Self::Token(_)
            | Self::Refused(_) => true,
            Self::NoProvider
            | Self::UnknownProvider(_)
            | Self::WhichProvider(_)
            | Self::Provider(_)
            | Self::Secret
            | Self::NoDeviceFlow
            | Self::NotPending
            | Self::Exchange(_)
            | Self::Core(_) => false,
        }
    }
}

impl Logins {
    /// None on their way.
    pub fn new(core: CoreHandle, secrets: ClientSecrets) -> Self {
        Self(Arc::new(Shared {
            core,
            secrets,
            discoveries: Mutex::default(),
            pending: Pending::default(),
            taken: logout::Taken::default(),
        }))
    }

    /// The client secrets.
    pub fn secrets(&self) -> &ClientSecrets {
        &self.0.secrets
    }

    /// Begins a login of `node`, which calls it `id`.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn begin(&self, node: NodeId, id: u64, wish: Wish) -> Result<Course, LoginError> {
        let provider = self.provider(wish.provider).await?;
        let discovery = self.discovery(&provider)?;
        match wish.method {
            LoginMethod::Loopback { port } => {
                let begun =
                    login::begin_in_browser(&self.0.pending, discovery, (node, id), port, wish.goal).await;
                begun.map(Course::Browser)
            }
            LoginMethod::Device => {
                let secret = self.secret(&provider)?;
                let (begun, login) = login::begin_by_device(discovery, secret, wish.goal).await?;
                Ok(Course::Device(begun, Box::new(login)))
            }
        }
    }

    /// Takes what a browser brought back to `node`.
    ///
    /// # Errors
    /// [`LoginError`]; the attempt is used up in any case.
    pub async fn finish(&self, node: NodeId, code: LoginCode) -> Result<VerifiedLogin, LoginError> {
        let waiting = self.0.pending.take(node, code.id).ok_or(LoginError::NotPending)?;
        // What is removed meanwhile vouches for nobody.
        let provider = self
            .provider(Some(waiting.discovery.provider.name.clone()))
            .await?;
        if provider != waiting.discovery.provider {
            return Err(LoginError::NotPending);
        }
        let secret = self.secret(&provider)?;
        let returned = Returned {
            code: code.code.0,
            state: code.state,
            issuer: code.issuer,
        };
        login::finish_in_browser(waiting, secret, returned, wall_now()).await
    }

    /// Gives a login up.
    pub fn give_up(&self, node: NodeId, id: u64) {
        drop(self.0.pending.take(node, id));
    }

    /// Takes a provider's word that a session of its ended.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn ended_at_provider(&self, name: &Name, token: &str) -> Result<EndedAtProvider, LoginError> {
        let provider = self.provider(Some(name.clone())).await?;
        let discovery = self.discovery(&provider)?;
        let known = discovery.known().await?;
        let client_id = ClientId::new(provider.client_id.clone());
        let wall = wall_now();
        let expected = |known: &Arc<discovery::Known>| {
            let expected = Expected {
                issuer: known.metadata.issuer(),
                client_id: &client_id,
                keys: &known.keys,
                wall,
            };
            logout::verify(token, &expected)
        };
        let (ended, jti) = match expected(&known) {
            Err(LoginError::UnknownKey) => expected(&discovery.with_newer_keys(&known).await?)?,
            verified => verified?,
        };
        self.0.taken.take(name, jti, wall)?;
        Ok(ended)
    }

    /// The provider of this name; the only one if none is given.
    async fn provider(&self, name: Option<Name>) -> Result<Provider, LoginError> {
        let found = self.0.core.with(move |core| {
            let controller = core.controller();
            if let Some(name) = name {
                let named = controller.provider(&name).cloned();
                return named.ok_or(LoginError::UnknownProvider(name));
            }
            let mut all = controller.providers();
            match (all.next(), all.next()) {
                (None, _) => Err(LoginError::NoProvider),
                (Some(only), None) => Ok(only.clone()),
                (Some(_), Some(_)) => {
                    let names: Vec<_> = controller
                        .providers()
                        .map(|provider| provider.name.as_str())
                        .collect();
                    Err(LoginError::WhichProvider(names.join(", ")))
                }
            }
        });
        found.await?
    }

    /// What is known about a provider. What was known about one that is configured otherwise now is forgotten.
    fn discovery(&self, provider: &Provider) -> Result<Arc<Discovery>, LoginError> {
        let mut discoveries = self.0.discoveries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(discovery) = discoveries.get(&provider.name)
            && discovery.provider == *provider
        {
            return Ok(Arc::clone(discovery));
        }
        let discovery = Arc::new(Discovery::new(provider.clone())?);
        discoveries.insert(provider.name.clone(), Arc::clone(&discovery));
        Ok(discovery)
    }

    fn secret(&self, provider: &Provider) -> Result<Option<Zeroizing<String>>, LoginError> {
        if !provider.confidential {
            return Ok(None);
        }
        match self.0.secrets.load(&provider.name) {
            Ok(secret) => Ok(Some(secret)),
            Err(error) => {
                tracing::error!(provider = %provider.name, %error, "the client secret cannot be read: remove the provider and add it again");
                Err(LoginError::Secret)
            }
        }
    }
}

/// What a login that a node begins now is for.
pub fn goal_of(start: &LoginStart, wall: UnixMillis) -> LoginGoal {
    if start.step_up {
        LoginGoal::SecondFactor { since: wall }
    } else {
        LoginGoal::Session
    }
}

#[cfg(test)]
mod tests;
