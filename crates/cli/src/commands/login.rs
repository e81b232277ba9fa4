//! `ringfence login`, `logout` and `whoami`: the person at this machine, by way of its node.

use std::process::{Command, Stdio};
use std::time::Duration;

use ringfence_control::local::{LocalRequest, LocalResponse};
use ringfence_control::{AuthorizationCode, LoginMethod, SessionFacts};
use ringfence_model::Name;

use super::local_login;
use super::person;
use super::status::unexpected;
use crate::args::{LocalLoginArgs, LoginArgs, SocketArg};
use crate::callback::Callback;
use crate::failure::{Exit, Failure};
use crate::local;
use crate::output::Output;
use crate::when;

/// A login that has begun.
struct Begun {
    login: u64,
    url: String,
    user_code: Option<String>,
    state: Option<String>,
    patience: Duration,
}

pub(super) fn login(args: &LoginArgs, output: &mut Output) -> Result<(), Failure> {
    let names_another = args.provider.as_ref().is_some_and(|name| !is_local(name));
    let says_so = args.local.account.is_some() || args.local.set_up || args.local.password_file.is_some();
    // Who proves a second factor again does so where they proved the first.
    let here = (args.mfa && args.provider.is_none() && !says_so).then(|| local_login::provider_here(args));
    let provider = args.provider.clone().or(here.flatten());
    if says_so || provider.as_ref().is_some_and(is_local) {
        if names_another {
            return Err(Failure::new(
                Exit::Usage,
                "a local account is of no identity provider: leave --provider out",
            ));
        }
        return local_login::login(args, output);
    }
    let args = &LoginArgs {
        provider,
        ..args.clone()
    };
    let session = if args.device {
        by_device(args, output)?
    } else {
        in_browser(args, output)?
    };
    output.answer(&session, |session| person::text(session, when::now()));
    Ok(())
}

pub(super) fn logout(args: &SocketArg, output: &mut Output) -> Result<(), Failure> {
    match local::ask(&args.socket, &LocalRequest::Logout, ANSWER_WAIT)? {
        LocalResponse::Session { session } => {
            output.answer(&session, |session| match session {
                Some(session) => format!("{} is logged out", session.name),
                None => "nobody was logged in at this node".to_owned(),
            });
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) fn whoami(args: &SocketArg, output: &mut Output) -> Result<(), Failure> {
    match local::ask(&args.socket, &LocalRequest::WhoAmI, ANSWER_WAIT)? {
        LocalResponse::Session {
            session: Some(session),
        } => {
            output.answer(&session, |session| person::text(session, when::now()));
            Ok(())
        }
        LocalResponse::Session { session: None } => {
            Err(Failure::failed("nobody is logged in at this node").help("log in with `ringfence login`"))
        }
        other => Err(unexpected(&other)),
    }
}

fn in_browser(args: &LoginArgs, output: &mut Output) -> Result<SessionFacts, Failure> {
    let callback = Callback::listen(args.port)?;
    let port = callback.port();
    let begun = begin(args, LoginMethod::Loopback { port })?;
    let state = begun.state.as_deref().unwrap_or("");
    if state.is_empty() {
        return Err(Failure::failed("the controller began a login without a state"));
    }
    output.note(&format!("Log in with your browser: {}", begun.url));
    if !args.no_browser && !open_browser(&begun.url) {
        output.note("No browser could be opened: open the address above yourself, on this machine.");
    }
    let mut returned = callback
        .wait(state, begun.patience)
        .inspect_err(|_| give_up(args, begun.login))?;
    let code = match returned.answer.code {
        Ok(code) => code,
        Err(why) => {
            returned
                .window
                .say("200 OK", "The login was refused. You may close this window.");
            give_up(args, begun.login);
            return Err(Failure::new(
                Exit::Denied,
                format_args!("the identity provider refuses: {why}"),
            ));
        }
    };
    let request = LocalRequest::LoginCode {
        login: begun.login,
        code: AuthorizationCode(code),
        state: state.to_owned(),
        issuer: returned.answer.issuer,
    };
    let session = end_of(args, &request, EXCHANGE_WAIT);
    let sentence = match &session {
        Ok(_) => "You are logged in. You may close this window.",
        Err(_) => "The login was refused: the terminal says why. You may close this window.",
    };
    returned.window.say("200 OK", sentence);
    session
}

/// Has the person at this machine prove a second factor on any device. What they are to do is told to `told` as well.
pub(super) fn step_up(socket: &SocketArg, told: impl Fn(&str), output: &mut Output) -> Result<(), Failure> {
    let mut args = LoginArgs {
        provider: None,
        device: true,
        no_browser: true,
        mfa: true,
        local: LocalLoginArgs::default(),
        port: 0,
        socket: socket.clone(),
    };
    args.provider = local_login::provider_here(&args);
    if args.provider.as_ref().is_some_and(is_local) {
        // Its code is typed, and whoever watches may have no keyboard.
        let text = format!("Prove your second factor again: {}", person::STEP_UP);
        output.note(&text);
        told(&text);
        return Ok(());
    }
    device_login(&args, told, output).map(drop)
}

fn is_local(provider: &Name) -> bool {
    provider.as_str() == local_login::LOCAL
}

fn by_device(args: &LoginArgs, output: &mut Output) -> Result<SessionFacts, Failure> {
    device_login(args, |_| {}, output)
}

fn device_login(args: &LoginArgs, told: impl Fn(&str), output: &mut Output) -> Result<SessionFacts, Failure> {
    let begun = begin(args, LoginMethod::Device)?;
    let code = begun.user_code.as_deref().unwrap_or("");
    let text = format!("On any device, open {} and enter the code {code}", begun.url);
    output.note(&text);
    told(&text);
    let request = LocalRequest::LoginWait { login: begun.login };
    end_of(args, &request, begun.patience + ANSWER_WAIT)
}

fn begin(args: &LoginArgs, method: LoginMethod) -> Result<Begun, Failure> {
    let request = LocalRequest::Login {
        provider: args.provider.clone(),
        method,
        step_up: args.mfa,
    };
    match local::ask(&args.socket.socket, &request, ANSWER_WAIT)? {
        LocalResponse::LoginStarted {
            login,
            url,
            user_code,
            state,
            expires_in_s,
        } => {
            if !url.starts_with("https://") {
                return Err(Failure::failed(
                    "the controller sends you to a page that is no https page",
                ));
            }
            Ok(Begun {
                login,
                url,
                user_code,
                state,
                patience: Duration::from_secs(expires_in_s).min(PATIENCE_MAX),
            })
        }
        other => Err(unexpected(&other)),
    }
}

fn end_of(args: &LoginArgs, request: &LocalRequest, wait: Duration) -> Result<SessionFacts, Failure> {
    match local::ask(&args.socket.socket, request, wait)? {
        LocalResponse::Session {
            session: Some(session),
        } => Ok(session),
        LocalResponse::Session { session: None } => Err(Failure::failed("the login gave no session")),
        other => Err(unexpected(&other)),
    }
}

/// The controller forgets it by itself, too.
fn give_up(args: &LoginArgs, login: u64) {
    let _ = local::ask(
        &args.socket.socket,
        &LocalRequest::LoginEnd { login },
        ANSWER_WAIT,
    );
}

/// Whether a program took the address. It starts with `https://`, so it is no option of that program.
fn open_browser(url: &str) -> bool {
    let mut command = Command::new("xdg-open");
    command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().is_ok()
}

/// The controller may have to ask a provider first.
const ANSWER_WAIT: Duration = Duration::from_secs(45);
const EXCHANGE_WAIT: Duration = Duration::from_secs(70);
const PATIENCE_MAX: Duration = Duration::from_mins(10);
