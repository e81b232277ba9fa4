//! `ringfence watch`: tells the person at this machine what ends, before it does and when it has, here and on the desktop.

mod desktop;
mod news;

use std::thread::sleep;
use std::time::Duration;

use ringfence_control::SessionFacts;
use ringfence_control::local::{LocalRequest, LocalResponse};

use self::news::{Notice, NoticeKind, Watcher};
use super::login;
use super::status::unexpected;
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::local;
use crate::output::Output;
use crate::when;

/// Looks until it is stopped.
pub(super) fn run(args: &WatchArgs, output: &mut Output) -> Result<(), Failure> {
    let mut watcher = Watcher::new(args.before);
    // That there is nobody to ask is an error at first; later it is waited for.
    let mut session = ask(args)?;
    let mut trouble = String::new();
    loop {
        let notices = watcher.look(session.as_ref(), when::now());
        for notice in &notices {
            tell(notice, args, output);
        }
        let is_over = |notice: &Notice| notice.kind == NoticeKind::FactorEnded;
        if args.step_up && notices.iter().any(is_over) {
            step_up(args, output);
        }
        sleep(watcher.next(when::now()).min(args.every).max(LOOK_MIN));
        session = match ask(args) {
            Ok(session) => {
                trouble.clear();
                session
            }
            Err(failure) => {
                if trouble != failure.message {
                    output.note(&failure.message);
                    trouble = failure.message;
                }
                continue;
            }
        };
    }
}

fn ask(args: &WatchArgs) -> Result<Option<SessionFacts>, Failure> {
    match local::ask(&args.socket.socket, &LocalRequest::WhoAmI, ANSWER_WAIT)? {
        LocalResponse::Session { session } => Ok(session),
        other => Err(unexpected(&other)),
    }
}

fn tell(notice: &Notice, args: &WatchArgs, output: &mut Output) {
    output.line(notice, |notice| {
        format!("{}: {}", when::at(notice.at_ms), notice.text)
    });
    if !args.no_desktop {
        desktop::show(&notice.text);
    }
}

/// Waits for the person to prove it, or for the login to run out; then goes on watching.
fn step_up(args: &WatchArgs, output: &mut Output) {
    let begun = |text: &str| {
        if !args.no_desktop {
            desktop::show(text);
        }
    };
    if let Err(failure) = login::step_up(&args.socket, begun, output) {
        output.note(&failure.message);
    }
}

/// A clock that stands still, or goes back, must not make this spin.
const LOOK_MIN: Duration = Duration::from_millis(200);
const ANSWER_WAIT: Duration = Duration::from_secs(45);
