//! `ringfence session …` and `ringfence user …`: who is logged in where, and who may.

use std::fmt::Write as _;

use ringfence_control::api::{ChangeReport, PatchUserRequest, SessionList, SessionView, UserList, UserView};

use crate::args::{SessionCommand, UserCommand};
use crate::client::Client;
use crate::commands::perimeter::flow_line;
use crate::commands::receipt;
use crate::failure::Failure;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn session(command: SessionCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        SessionCommand::Ls => {
            let answer: SessionList = client.get("/sessions")?;
            output.answer(&answer, sessions_text);
            Ok(())
        }
        SessionCommand::End { which } => end(&which, client, output),
    }
}

fn end(which: &str, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let known: SessionList = client.get("/sessions")?;
    let meant: Vec<SessionView> = known
        .sessions
        .into_iter()
        .filter(|session| is_meant(which, session))
        .collect();
    if meant.is_empty() {
        let failure = Failure::failed(format_args!("there is no session {which}"));
        return Err(failure.help("`ringfence session ls` lists them"));
    }
    let mut reports: Vec<ChangeReport> = Vec::new();
    for session in &meant {
        reports.push(client.delete(&format!("/sessions/{}", session.id))?);
    }
    output.answer(&reports, |reports| ended_text(&meant, reports));
    for report in &reports {
        receipt::note_closing(report.revision, &report.changes, client, output);
    }
    Ok(())
}

fn is_meant(which: &str, session: &SessionView) -> bool {
    if let Some(user) = which.strip_prefix("user:") {
        let alike = |text: &str| text.eq_ignore_ascii_case(user);
        return user == session.user || alike(&session.name) || session.email.as_deref().is_some_and(alike);
    }
    match which.strip_prefix("node:") {
        Some(node) => node == session.node.as_str(),
        None => which == session.id.to_string(),
    }
}

fn ended_text(sessions: &[SessionView], reports: &[ChangeReport]) -> String {
    let mut text = String::new();
    for (session, report) in sessions.iter().zip(reports) {
        text.extend(report.changes.iter().map(flow_line));
        let (name, node, revision) = (&session.name, &session.node, report.revision);
        let _ = writeln!(
            text,
            "the session of {name} at {node} is ended; revision {revision}"
        );
    }
    text
}

pub(super) fn user(command: UserCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (user, active) = match command {
        UserCommand::Ls => {
            let answer: UserList = client.get("/users")?;
            output.answer(&answer, users_text);
            return Ok(());
        }
        UserCommand::Deactivate { user } => (user, false),
        UserCommand::Reactivate { user } => (user, true),
    };
    let request = PatchUserRequest { user, active };
    let report: ChangeReport = client.patch("/users", &request)?;
    let word = if active { "reactivated" } else { "deactivated" };
    output.answer(&report, |report| {
        let flows: String = report.changes.iter().map(flow_line).collect();
        format!("{flows}{} {word}; revision {}", request.user, report.revision)
    });
    receipt::note_closing(report.revision, &report.changes, client, output);
    Ok(())
}

fn sessions_text(answer: &SessionList) -> String {
    if answer.sessions.is_empty() {
        return "nobody is logged in".to_owned();
    }
    table(
        [
            "ID",
            "PERSON",
            "NODE",
            "GROUPS",
            "SECOND FACTOR",
            "SINCE",
            "UNTIL",
        ],
        answer.sessions.iter().map(|session| {
            let groups: Vec<&String> = session.groups.iter().collect();
            [
                session.id.to_string(),
                session.name.clone(),
                session.node.to_string(),
                list(&groups),
                when::at_or_never(session.mfa_ms),
                when::at(session.started_ms),
                when::at(session.expires_ms),
            ]
        }),
    )
}

fn users_text(answer: &UserList) -> String {
    if answer.users.is_empty() {
        return "nobody has logged in so far".to_owned();
    }
    table(
        ["PERSON", "ID", "MAY LOG IN", "GROUPS", "AT", "LAST LOGIN"],
        answer.users.iter().map(|user| {
            let groups: Vec<&String> = user.groups.iter().collect();
            [
                user.name.clone(),
                user.id.clone(),
                may(user).to_owned(),
                list(&groups),
                list(&user.nodes),
                when::at(user.seen_ms),
            ]
        }),
    )
}

fn may(user: &UserView) -> &'static str {
    match (user.active, user.locked) {
        (false, _) => "no, deactivated",
        (true, true) => "no, locked",
        (true, false) => "yes",
    }
}
