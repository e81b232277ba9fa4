//! `ringfence access …`: asked for, approved or denied, ended, reviewed. People ask by way of the node of their machine;
//! administrators, who also answer, ask the controller.

use std::fmt::Write as _;
use std::time::Duration;

use ringfence_control::api::{
    AccessList, AccessReport, AccessState, AccessView, AnswerAccessRequest, AskAccessRequest,
};
use ringfence_control::local::{LocalRequest, LocalResponse};
use ringfence_control::{AccessErrand, AccessWish};
use serde::Serialize;

use super::status::unexpected;
use crate::args::{
    AccessAnswerArgs, AccessCommand, AccessEndArgs, AccessLsArgs, AccessRequestArgs, SocketArg,
};
use crate::client::Client;
use crate::commands::perimeter::flow_line;
use crate::commands::receipt;
use crate::failure::Failure;
use crate::local;
use crate::output::{Output, list, table};
use crate::when;

/// How the controller is reached, if this is an administrator's place.
pub(super) struct Desk<C> {
    /// Reaches it.
    pub connect: C,
    /// Whether there is a context to reach it with.
    pub is_administrators: bool,
}

/// What was asked for by way of the node.
#[derive(Serialize)]
struct Asked {
    access: AccessView,
}

pub(super) fn run(
    command: AccessCommand,
    desk: Desk<impl FnOnce() -> Result<Client, Failure>>,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        AccessCommand::Request(args) if args.node.is_none() && args.user.is_none() => ask_here(*args, output),
        AccessCommand::Request(args) => ask_for(*args, &(desk.connect)()?, output),
        AccessCommand::Ls(args) if args.mine || !desk.is_administrators => ls_here(&args, output),
        AccessCommand::Ls(args) => ls(&args, &(desk.connect)()?, output),
        AccessCommand::End(args) if args.mine || !desk.is_administrators => end_here(&args, output),
        AccessCommand::End(args) => end(&args, &(desk.connect)()?, output),
        AccessCommand::Approve(args) => answer(args, "approve", &(desk.connect)()?, output),
        AccessCommand::Deny(args) => answer(args, "deny", &(desk.connect)()?, output),
        AccessCommand::Review(args) => answer(args, "review", &(desk.connect)()?, output),
    }
}

fn ask_here(args: AccessRequestArgs, output: &mut Output) -> Result<(), Failure> {
    let wish = AccessWish {
        perimeter: args.perimeter,
        to: args.to,
        ports: args.ports,
        for_s: args.length.as_secs(),
        reason: args.reason,
        break_glass: args.break_glass,
    };
    let mut access = by_node(&args.socket, AccessErrand::Request(wish))?;
    let Some(access) = access.pop() else {
        return Err(Failure::failed(
            "the controller does not say what it was asked for",
        ));
    };
    output.answer(&Asked { access }, |asked| sentence(&asked.access));
    Ok(())
}

fn ls_here(args: &AccessLsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut access = by_node(&args.socket, AccessErrand::List)?;
    access.retain(|access| {
        args.perimeter
            .as_ref()
            .is_none_or(|perimeter| *perimeter == access.perimeter)
            && args
                .standing
                .as_ref()
                .is_none_or(|word| word == access.standing.as_str())
    });
    output.answer(&AccessList { access }, list_text);
    Ok(())
}

fn end_here(args: &AccessEndArgs, output: &mut Output) -> Result<(), Failure> {
    let access = by_node(&args.socket, AccessErrand::End(args.id))?;
    output.answer(&AccessList { access }, |_| format!("access {} is ended", args.id));
    Ok(())
}

fn by_node(socket: &SocketArg, errand: AccessErrand) -> Result<Vec<AccessView>, Failure> {
    match local::ask(&socket.socket, &LocalRequest::Access { errand }, ANSWER_WAIT)? {
        LocalResponse::Access { access } => Ok(access),
        other => Err(unexpected(&other)),
    }
}

fn ask_for(args: AccessRequestArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let request = AskAccessRequest {
        node: args.node,
        user: args.user,
        perimeter: args.perimeter,
        to: args.to,
        ports: args.ports,
        for_seconds: args.length.as_secs(),
        reason: args.reason,
        break_glass: args.break_glass,
    };
    let report: AccessReport = client.post("/access", &request)?;
    output.answer(&report, |report| report_text(report, "asked for"));
    Ok(())
}

fn ls(args: &AccessLsArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let mut route = "/access".to_owned();
    let filters = [
        ("perimeter", args.perimeter.as_ref().map(ToString::to_string)),
        ("standing", args.standing.clone()),
    ];
    for (key, value) in filters {
        if let Some(value) = value {
            let sign = if route.contains('?') { '&' } else { '?' };
            let _ = write!(route, "{sign}{key}={value}");
        }
    }
    let answer: AccessList = client.get(&route)?;
    output.answer(&answer, list_text);
    Ok(())
}

fn answer(
    args: AccessAnswerArgs,
    word: &'static str,
    client: &Client,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = AnswerAccessRequest { reason: args.reason };
    let report: AccessReport = client.post(&format!("/access/{}/{word}", args.id), &request)?;
    let done = match word {
        "approve" => "approved",
        "deny" => "denied",
        _ => "reviewed",
    };
    output.answer(&report, |report| {
        report_text(report, &format!("access {} {done}", args.id))
    });
    Ok(())
}

fn end(args: &AccessEndArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let report: AccessReport = client.post(&format!("/access/{}/end", args.id), &())?;
    output.answer(&report, |report| {
        report_text(report, &format!("access {} ended", args.id))
    });
    receipt::note_closing(report.revision, &report.changes, client, output);
    Ok(())
}

/// Which flows it opened or closed, what was done, and how it stands now.
fn report_text(report: &AccessReport, done: &str) -> String {
    let mut text: String = report.changes.iter().map(flow_line).collect();
    if report.more_changes > 0 {
        let _ = writeln!(text, "… and {} more", report.more_changes);
    }
    let _ = write!(text, "{done}; revision {}", report.revision);
    if let Some(access) = &report.access {
        let _ = write!(text, "\n{}", sentence(access));
    }
    text
}

fn sentence(access: &AccessView) -> String {
    let (id, node, to, perimeter) = (access.id, &access.node, &access.to, &access.perimeter);
    let person = access
        .name
        .as_ref()
        .map(|name| format!("{name} at "))
        .unwrap_or_default();
    let ports = list(&access.ports);
    format!(
        "access {id} of {person}{node} to {to} of {perimeter} on {ports}: {}",
        standing_words(access)
    )
}

fn standing_words(access: &AccessView) -> String {
    let review = match access.review_by_ms {
        Some(by) => format!("somebody else is to review it by {}", when::at(by)),
        None => String::new(),
    };
    match access.standing {
        AccessState::Waiting => {
            let given = access.approvals.len();
            format!(
                "waits for approval by somebody else, {given} of {}, until {}; then it is open for {}",
                access.approvals_needed,
                when::at_or_never(access.answer_by_ms),
                when::seconds(access.for_seconds)
            )
        }
        AccessState::Open if review.is_empty() => {
            format!("open until {}", when::at_or_never(access.until_ms))
        }
        AccessState::Open => format!("open until {}; {review}", when::at_or_never(access.until_ms)),
        AccessState::Closed => format!("has ended; {review}"),
    }
}

fn list_text(answer: &AccessList) -> String {
    if answer.access.is_empty() {
        return "nothing is asked for, granted or to be reviewed".to_owned();
    }
    table(
        [
            "ID",
            "STANDING",
            "UNTIL",
            "WHO",
            "NODE",
            "PERIMETER",
            "TO",
            "PORTS",
            "REASON",
        ],
        answer.access.iter().map(|access| {
            let (word, until) = match access.standing {
                AccessState::Waiting => {
                    let given = access.approvals.len();
                    (
                        format!("waiting {given}/{}", access.approvals_needed),
                        access.answer_by_ms,
                    )
                }
                AccessState::Open if access.review_by_ms.is_some() => {
                    ("open, to review".to_owned(), access.until_ms)
                }
                AccessState::Open => ("open".to_owned(), access.until_ms),
                AccessState::Closed => ("to review".to_owned(), access.review_by_ms),
            };
            [
                access.id.to_string(),
                word,
                when::at_or_never(until),
                access.name.clone().unwrap_or_else(|| "-".to_owned()),
                access.node.to_string(),
                access.perimeter.to_string(),
                access.to.to_string(),
                list(&access.ports),
                access.reason.clone(),
            ]
        }),
    )
}

/// The node asks the controller first.
const ANSWER_WAIT: Duration = Duration::from_secs(45);
