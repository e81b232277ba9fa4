//! What a person says, read: one of four things, or nothing.

use ringfence_control::{LocalProof, LocalSecret};

use super::{LocalRefusal, password};

/// What a person claims to know and to have.
pub(super) enum Claim {
    /// A password and a code.
    LogIn {
        /// The password.
        password: LocalSecret,
        /// Of the authenticator, or a recovery code.
        code: LocalSecret,
    },
    /// A code alone, where they are logged in: the second factor once more.
    StepUp {
        /// Of the authenticator.
        code: LocalSecret,
    },
    /// The secret to set an account up by: they ask for a second factor.
    Begin {
        /// It.
        secret: LocalSecret,
    },
    /// That, a password that they choose, and the code that proves that they have the second factor.
    SetUp {
        /// The secret.
        secret: LocalSecret,
        /// The password.
        password: LocalSecret,
        /// Of the authenticator.
        code: LocalSecret,
    },
}

impl Claim {
    /// What was said.
    pub(super) fn of(proof: LocalProof) -> Result<Self, LocalRefusal> {
        let LocalProof {
            set_up,
            password,
            code,
        } = proof;
        let has_bounds = |text: &Option<LocalSecret>, max: usize| {
            text.as_ref()
                .is_none_or(|text| (1..=max).contains(&text.expose().len()))
        };
        if !has_bounds(&set_up, CODE_BYTES_MAX) || !has_bounds(&code, CODE_BYTES_MAX) {
            return Err(LocalRefusal::Malformed);
        }
        if !has_bounds(&password, password::BYTES_MAX) {
            return Err(LocalRefusal::Password);
        }
        match (set_up, password, code) {
            (None, Some(password), Some(code)) => Ok(Self::LogIn { password, code }),
            (None, None, Some(code)) => Ok(Self::StepUp { code }),
            (Some(secret), None, None) => Ok(Self::Begin { secret }),
            (Some(secret), Some(password), Some(code)) => Ok(Self::SetUp {
                secret,
                password,
                code,
            }),
            (None, _, None) | (Some(_), Some(_), None) | (Some(_), None, Some(_)) => {
                Err(LocalRefusal::Malformed)
            }
        }
    }

    /// Whether somebody could get there by trying; a set-up secret has 256 bits.
    pub(super) fn can_be_guessed(&self) -> bool {
        match self {
            Self::LogIn { .. } | Self::StepUp { .. } => true,
            Self::Begin { .. } | Self::SetUp { .. } => false,
        }
    }

    /// Whether it counts only for who is logged in.
    pub(super) fn is_step_up(&self) -> bool {
        matches!(self, Self::StepUp { .. })
    }
}

/// Of a code, and of a set-up secret.
const CODE_BYTES_MAX: usize = 128;
