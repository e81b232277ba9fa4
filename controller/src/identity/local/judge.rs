//! Whether what a person claims is so. Takes a core for some time, and waits for the disk.

use ringfence_control::LocalSecret;
use ringfence_model::{Name, UnixMillis};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::claim::Claim;
use super::vault::{Chosen, Credentials, Held};
use super::{LocalRefusal, Shared, factor, password, random};

/// What a person proved.
pub(super) enum Proved {
    /// That they were invited: the second factor that they are to show next.
    Factor(LocalSecret),
    /// That they were invited, and have a second factor: what is to be kept of it.
    SetUp {
        /// Whose it is.
        credentials: Credentials,
        /// What is kept.
        chosen: Chosen,
        /// What they are told, once.
        recovery: Vec<LocalSecret>,
    },
    /// Who they are.
    Person {
        /// By which credentials.
        credentials: Credentials,
        /// How.
        method: Method,
    },
}

/// By what somebody proved who they are, beside their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A code of the authenticator.
    Code,
    /// A code, and no password: they are logged in.
    CodeAlone,
    /// A recovery code.
    Recovery,
}

impl Method {
    /// As a method of a login (`amr`).
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Code | Self::CodeAlone => "otp",
            Self::Recovery => "recovery",
        }
    }
}

/// Whether what is claimed is so, for these credentials; `None` where nobody has the name.
pub(super) fn judge(
    shared: &Shared,
    (name, credentials): (&Name, Option<&Credentials>),
    claim: &Claim,
    wall: UnixMillis,
) -> Result<Proved, LocalRefusal> {
    let held = match credentials {
        Some(credentials) => shared.vault().held(credentials)?,
        None => None,
    };
    let known = credentials.zip(held);
    match claim {
        Claim::LogIn { password, code } => {
            let whole =
                known.and_then(|(credentials, held)| Some((credentials, held.password?, held.factor?)));
            // The same work for nobody as for somebody, and for a wrong password as for a wrong code.
            let hash = whole.as_ref().map_or(&shared.nobody, |(_, hash, _)| hash);
            let is_right = password::is_right(hash, password.expose());
            let nothing = Zeroizing::new(vec![0; factor::FACTOR_BYTES]);
            let secret = whole.as_ref().map_or(&nothing, |(_, _, secret)| secret);
            let step = factor::step_of(secret, code.expose(), wall);
            match whole {
                Some((credentials, ..)) if is_right => spend(shared, credentials, step, code),
                Some(_) | None => Err(LocalRefusal::Wrong),
            }
        }
        Claim::StepUp { code } => {
            let whole = known.and_then(|(credentials, held)| Some((credentials, held.factor?)));
            let (credentials, secret) = whole.ok_or(LocalRefusal::Wrong)?;
            let step = factor::step_of(&secret, code.expose(), wall).ok_or(LocalRefusal::Wrong)?;
            match spend(shared, credentials, Some(step), code)? {
                Proved::Person { credentials, .. } => Ok(Proved::Person {
                    credentials,
                    method: Method::CodeAlone,
                }),
                other => Ok(other),
            }
        }
        Claim::Begin { secret } => {
            let (credentials, _) = invited(known, secret, wall)?;
            let fresh = Zeroizing::new(random::<{ factor::FACTOR_BYTES }>()?);
            if !shared.vault().set_factor(credentials, fresh.as_slice())? {
                return Err(LocalRefusal::WrongSecret);
            }
            Ok(Proved::Factor(factor::url(fresh.as_slice(), &shared.mesh, name)))
        }
        Claim::SetUp {
            secret,
            password,
            code,
        } => {
            let (credentials, held) = invited(known, secret, wall)?;
            password::check(password.expose())?;
            let factor = held.factor.ok_or(LocalRefusal::WrongSecret)?;
            let step = factor::step_of(&factor, code.expose(), wall).ok_or(LocalRefusal::WrongSecret)?;
            set_up(credentials, password, step)
        }
    }
}

/// Uses a code up, if it was not.
fn spend(
    shared: &Shared,
    credentials: &Credentials,
    step: Option<u64>,
    code: &LocalSecret,
) -> Result<Proved, LocalRefusal> {
    let (is_spent, method) = if let Some(step) = step {
        (shared.vault().spend_step(credentials, step)?, Method::Code)
    } else {
        let hash = factor::recovery_hash(code.expose());
        let is_spent = shared.vault().spend_recovery(credentials, &hash)?;
        (is_spent, Method::Recovery)
    };
    if !is_spent {
        return Err(LocalRefusal::Wrong);
    }
    Ok(Proved::Person {
        credentials: credentials.clone(),
        method,
    })
}

fn set_up(credentials: &Credentials, password: &LocalSecret, step: u64) -> Result<Proved, LocalRefusal> {
    let (mut codes, mut hashes) = (Vec::new(), Vec::new());
    for _ in 0..RECOVERY_CODES {
        let code = factor::recovery_code(&random()?);
        hashes.push(factor::recovery_hash(code.expose()));
        codes.push(code);
    }
    Ok(Proved::SetUp {
        credentials: credentials.clone(),
        chosen: Chosen {
            password: password::hash(password.expose())?,
            step,
            recovery: hashes,
        },
        recovery: codes,
    })
}

/// What is kept of an account whose set-up secret this is.
fn invited<'a>(
    known: Option<(&'a Credentials, Held)>,
    secret: &LocalSecret,
    wall: UnixMillis,
) -> Result<(&'a Credentials, Held), LocalRefusal> {
    let shown: [u8; 32] = Sha256::digest(secret.expose().as_bytes()).into();
    let (credentials, held) = known.ok_or(LocalRefusal::WrongSecret)?;
    let counts = held.invitation.as_ref().is_some_and(|(hash, until)| {
        let is_right: bool = hash.ct_eq(shown.as_slice()).into();
        is_right && wall < *until
    });
    counts
        .then_some((credentials, held))
        .ok_or(LocalRefusal::WrongSecret)
}

pub(super) const RECOVERY_CODES: usize = 10;
