//! `ringfence login --account NAME`: a password and a code, typed at this machine and judged by the controller.

use std::time::Duration;

use ringfence_control::local::{LocalRequest, LocalResponse};
use ringfence_control::{LocalGain, LocalProof, LocalSecret, SessionFacts};
use ringfence_model::Name;
use serde::Serialize;
use zeroize::Zeroizing;

use super::person;
use super::status::unexpected;
use crate::args::LoginArgs;
use crate::failure::{Exit, Failure};
use crate::local;
use crate::output::Output;
use crate::prompt::{ask, ask_unseen, secret};
use crate::when;

/// What is answered once an account is set up.
#[derive(Serialize)]
struct SetUp {
    session: Option<SessionFacts>,
    recovery_codes: Vec<LocalSecret>,
}

/// Who vouches for the person that is logged in here: [`LOCAL`] where it is a local account.
pub(super) fn provider_here(args: &LoginArgs) -> Option<Name> {
    match local::ask(&args.socket.socket, &LocalRequest::WhoAmI, ANSWER_WAIT) {
        Ok(LocalResponse::Session { session }) => session.map(|session| session.provider),
        Ok(_) | Err(_) => None,
    }
}

pub(super) fn login(args: &LoginArgs, output: &mut Output) -> Result<(), Failure> {
    let name = match &args.local.account {
        Some(name) => Some(name.clone()),
        // Whoever is logged in here.
        None if args.mfa => None,
        None => {
            let name = Name::parse(ask("Account: ")?.trim());
            Some(name.map_err(|error| Failure::new(Exit::Usage, error))?)
        }
    };
    if args.local.set_up {
        return set_up(args, name, output);
    }
    let password = if args.mfa {
        None
    } else {
        Some(secret(args.local.password_file.as_deref(), "Password: ")?)
    };
    let proof = LocalProof {
        set_up: None,
        password: password.map(LocalSecret),
        code: Some(code("Code, or a recovery code: ")?),
    };
    let gain = say(args, name, proof)?;
    let session = gain
        .session
        .ok_or_else(|| Failure::failed("the login gave no session"))?;
    output.answer(&session, |session| person::text(session, when::now()));
    Ok(())
}

fn set_up(args: &LoginArgs, name: Option<Name>, output: &mut Output) -> Result<(), Failure> {
    let invitation = LocalSecret(secret(args.local.secret_file.as_deref(), "Set-up secret: ")?);
    let asked = LocalProof {
        set_up: Some(invitation.clone()),
        ..LocalProof::default()
    };
    let factor = say(args, name.clone(), asked)?.factor;
    let factor = factor.ok_or_else(|| Failure::failed("the controller gave no second factor"))?;
    output.note("Add this to your authenticator (time-based, 6 digits, 30 seconds):");
    output.note(factor.expose());
    if let Some(key) = key_of(factor.expose()) {
        output.note(&format!("or type the key: {key}"));
    }
    let password = new_password(args)?;
    let proof = LocalProof {
        set_up: Some(invitation),
        password: Some(LocalSecret(password)),
        code: Some(code("Code that the authenticator shows: ")?),
    };
    let gain = say(args, name, proof)?;
    let answer = SetUp {
        session: gain.session,
        recovery_codes: gain.recovery,
    };
    output.answer(&answer, set_up_text);
    output.note(
        "Keep the recovery codes where nobody else finds them: each stands for a code of the authenticator once.",
    );
    match answer.session {
        Some(_) => Ok(()),
        None => Err(
            Failure::failed("the account is set up, and nobody is logged in yet")
                .help("`ringfence login` says why"),
        ),
    }
}

fn set_up_text(answer: &SetUp) -> String {
    let session = answer.session.as_ref();
    let mut text = session.map_or_else(String::new, |session| person::text(session, when::now()));
    text.push_str("\nrecovery codes:");
    for code in &answer.recovery_codes {
        text.push_str("\n  ");
        text.push_str(code.expose());
    }
    text
}

fn new_password(args: &LoginArgs) -> Result<Zeroizing<String>, Failure> {
    let password = secret(
        args.local.password_file.as_deref(),
        "New password, 12 characters or more: ",
    )?;
    if args.local.password_file.is_none() && password != ask_unseen("The same again: ")? {
        return Err(Failure::new(
            Exit::Usage,
            "these are two passwords: nothing is set up yet, begin again",
        ));
    }
    Ok(password)
}

/// A code is seen while it is typed: it counts once, and is good for nothing in a minute.
fn code(prompt: &str) -> Result<LocalSecret, Failure> {
    Ok(LocalSecret::new(ask(prompt)?.trim()))
}

/// The key in an `otpauth:` URL.
fn key_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("secret=")?;
    rest.split('&').next()
}

fn say(args: &LoginArgs, name: Option<Name>, proof: LocalProof) -> Result<LocalGain, Failure> {
    let request = LocalRequest::LocalLogin { name, proof };
    match local::ask(&args.socket.socket, &request, ANSWER_WAIT)? {
        LocalResponse::LocalLogin(gain) => Ok(gain),
        other => Err(unexpected(&other)),
    }
}

/// What stands for a provider where there is none.
pub(super) const LOCAL: &str = "local";
/// Others may wait for their turn at the controller.
const ANSWER_WAIT: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_what_an_authenticator_takes_by_hand() {
        assert_eq!(key_of("otpauth://totp/a:b?secret=GEZDG&issuer=a"), Some("GEZDG"));
        assert_eq!(key_of("otpauth://totp/a:b"), None);
    }
}
