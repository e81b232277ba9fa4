//! From what a provider's verified ID token says to what counts here.
//!
//! **Invariant:** what the token does not say, it does not prove: without `auth_time` there is no second factor, without
//! `email_verified` no address.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::UnixMillis;

use crate::limit::{GROUPS_PER_PERSON_MAX, METHODS_PER_LOGIN_MAX};
use crate::{Provider, UserId, VerifiedLogin};

/// Claims of an ID token whose signature, issuer, audience, nonce and times the shell has verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginClaims {
    /// `sub`.
    pub subject: String,
    /// The claim that says who they are in the provider's directory.
    pub directory_id: Option<String>,
    /// `preferred_username`.
    pub username: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `email`.
    pub email: Option<String>,
    /// `email_verified`.
    pub email_verified: bool,
    /// The claim that lists groups.
    pub groups: Vec<String>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Vec<String>,
    /// `auth_time`.
    pub auth_time: Option<UnixMillis>,
    /// `sid`.
    pub provider_session: Option<String>,
}

/// What a login has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginGoal {
    /// One within the length of a session.
    Session,
    /// A second factor proved after this moment: a step-up.
    SecondFactor {
        /// When it was asked for.
        since: UnixMillis,
    },
}

/// Why a verified token is no login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// A claim that no provider should make.
    #[error("the provider's claim {0} is empty, too long, or holds control characters")]
    Malformed(&'static str),
    /// More groups than are kept.
    #[error("the provider lists {0} groups, more than {GROUPS_PER_PERSON_MAX}: have it send fewer")]
    TooManyGroups(usize),
    /// Proved too long ago.
    #[error(
        "the provider says that the last proof of identity is older than a session may be: log in there again"
    )]
    Old,
    /// Proved in the future.
    #[error("the provider's clock is ahead of this controller's by more than a minute")]
    Future,
    /// A step-up without a second factor.
    #[error(
        "the provider did not ask for a second factor: enrol one there, or have its administrator ask for it"
    )]
    NoSecondFactor,
    /// A step-up without word of when.
    #[error("the provider does not say when the second factor was proved (auth_time)")]
    NoAuthTime,
}

impl LoginClaims {
    /// What of these claims counts for a login at `provider` that should reach `goal`.
    ///
    /// # Errors
    /// [`LoginRefusal`].
    pub fn judge(
        self,
        provider: &Provider,
        goal: LoginGoal,
        wall: UnixMillis,
    ) -> Result<VerifiedLogin, LoginRefusal> {
        self.check_texts()?;
        if self.groups.len() > GROUPS_PER_PERSON_MAX {
            return Err(LoginRefusal::TooManyGroups(self.groups.len()));
        }
        if self
            .auth_time
            .is_some_and(|at| at > wall.saturating_add(CLOCK_SKEW_MAX))
        {
            return Err(LoginRefusal::Future);
        }
        // A clock that is a little ahead must not lend a factor more time than one that is right.
        let authenticated_at = self.auth_time.map(|at| at.min(wall));
        if authenticated_at.is_some_and(|at| wall.saturating_since(at) > provider.session() + CLOCK_SKEW_MAX)
        {
            return Err(LoginRefusal::Old);
        }
        let amr = BTreeSet::from_iter(self.amr);
        let proved = provider.second_factor.is_proved_by(self.acr.as_deref(), &amr);
        if let LoginGoal::SecondFactor { since } = goal {
            if !proved {
                return Err(LoginRefusal::NoSecondFactor);
            }
            let at = self.auth_time.ok_or(LoginRefusal::NoAuthTime)?;
            if at.saturating_add(CLOCK_SKEW_MAX) < since {
                return Err(LoginRefusal::Old);
            }
        }
        let email = self.email.filter(|_| self.email_verified);
        let name = email.clone().or(self.username).or(self.name);
        Ok(VerifiedLogin {
            name: name.unwrap_or_else(|| self.subject.clone()),
            user: UserId {
                provider: provider.name.clone(),
                subject: self.subject,
            },
            directory_id: self.directory_id.map(String::into_boxed_str),
            email,
            groups: self.groups.into_iter().collect(),
            acr: self.acr,
            amr,
            // A provider that does not say when vouches for now, and for no second factor.
            authenticated_at: authenticated_at.unwrap_or(wall),
            mfa_at: authenticated_at.filter(|_| proved),
            provider_session: self.provider_session,
        })
    }

    fn check_texts(&self) -> Result<(), LoginRefusal> {
        let optional = [
            ("preferred_username", &self.username),
            ("name", &self.name),
            ("email", &self.email),
            ("acr", &self.acr),
            ("sid", &self.provider_session),
            ("of the directory", &self.directory_id),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(claim, text)| Some((claim, text.as_ref()?)));
        let groups = self.groups.iter().map(|group| ("of groups", group));
        let amr = self.amr.iter().map(|method| ("amr", method));
        let mut texts = optional.chain(groups).chain(amr).chain([("sub", &self.subject)]);
        match texts.find(|(_, text)| !is_sound(text)) {
            Some((claim, _)) => Err(LoginRefusal::Malformed(claim)),
            None if self.amr.len() > METHODS_PER_LOGIN_MAX => Err(LoginRefusal::Malformed("amr")),
            None => Ok(()),
        }
    }
}

fn is_sound(text: &str) -> bool {
    (1..=CLAIM_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// How far a provider's clock may be off.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);
/// Bytes of one claim: `sub` has at most 255 (OpenID Connect Core 1.0, section 2).
const CLAIM_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::provider;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn claims() -> LoginClaims {
        LoginClaims {
            subject: "248289761001".to_owned(),
            directory_id: None,
            username: Some("ada".to_owned()),
            name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.com".to_owned()),
            email_verified: true,
            groups: vec!["dba".to_owned(), "dba".to_owned(), "staff".to_owned()],
            acr: None,
            amr: vec!["pwd".to_owned()],
            auth_time: Some(before(10)),
            provider_session: Some("s1".to_owned()),
        }
    }

    fn before(seconds: u64) -> UnixMillis {
        UnixMillis(NOW.0 - seconds * 1000)
    }

    fn judge(claims: LoginClaims, goal: LoginGoal) -> Result<VerifiedLogin, LoginRefusal> {
        claims.judge(&provider(), goal, NOW)
    }

    #[test]
    fn a_password_is_a_login_and_no_second_factor() {
        let login = judge(claims(), LoginGoal::Session).unwrap();

        assert_eq!(login.name, "ada@example.com");
        assert_eq!(
            login.groups,
            BTreeSet::from(["dba".to_owned(), "staff".to_owned()])
        );
        assert_eq!(login.authenticated_at, before(10));
        assert_eq!(login.mfa_at, None);
    }

    #[test]
    fn a_second_factor_counts_from_when_it_was_proved() {
        let mut with_otp = claims();
        with_otp.amr.push("otp".to_owned());

        let login = judge(with_otp.clone(), LoginGoal::Session).unwrap();

        assert_eq!(login.mfa_at, Some(before(10)));
        with_otp.auth_time = None;
        assert_eq!(judge(with_otp, LoginGoal::Session).unwrap().mfa_at, None);
    }

    #[test]
    fn a_step_up_takes_a_second_factor_proved_since() {
        let goal = LoginGoal::SecondFactor { since: before(120) };
        let mut fresh = claims();
        assert_eq!(judge(fresh.clone(), goal), Err(LoginRefusal::NoSecondFactor));
        fresh.acr = Some("urn:example:mfa".to_owned());
        assert_eq!(judge(fresh.clone(), goal).unwrap().mfa_at, Some(before(10)));

        let old = LoginClaims {
            auth_time: Some(before(1_000)),
            ..fresh.clone()
        };
        assert_eq!(judge(old, goal), Err(LoginRefusal::Old));
        let silent = LoginClaims {
            auth_time: None,
            ..fresh
        };
        assert_eq!(judge(silent, goal), Err(LoginRefusal::NoAuthTime));
    }

    #[test]
    fn an_address_counts_once_it_is_verified() {
        let unverified = LoginClaims {
            email_verified: false,
            ..claims()
        };

        let login = judge(unverified, LoginGoal::Session).unwrap();

        assert_eq!((login.email, login.name.as_str()), (None, "ada"));
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        let at = |auth_time| LoginClaims {
            auth_time: Some(auth_time),
            ..claims()
        };
        let ahead = UnixMillis(NOW.0 + 30_000);

        assert_eq!(
            judge(at(before(13 * 3600)), LoginGoal::Session),
            Err(LoginRefusal::Old)
        );
        assert_eq!(
            judge(at(UnixMillis(NOW.0 + 61_000)), LoginGoal::Session),
            Err(LoginRefusal::Future)
        );
        assert_eq!(
            judge(at(ahead), LoginGoal::Session).unwrap().authenticated_at,
            NOW
        );
    }

    #[test]
    fn claims_that_cannot_be_are_refused() {
        let odd = [
            LoginClaims {
                subject: String::new(),
                ..claims()
            },
            LoginClaims {
                subject: "x".repeat(256),
                ..claims()
            },
            LoginClaims {
                email: Some("a\u{1b}[2J@example.com".to_owned()),
                ..claims()
            },
            LoginClaims {
                groups: vec![String::new()],
                ..claims()
            },
            LoginClaims {
                groups: (0..=GROUPS_PER_PERSON_MAX).map(|n| n.to_string()).collect(),
                ..claims()
            },
            LoginClaims {
                amr: vec!["pwd".to_owned(); 99],
                ..claims()
            },
        ];

        for claims in odd {
            assert!(judge(claims.clone(), LoginGoal::Session).is_err(), "{claims:?}");
        }
    }
}
