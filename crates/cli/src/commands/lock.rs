//! `ringfence quarantine`, `release`, `lock`, `unlock` and `locks`: what is shut, for a time or until it is opened again.

use std::fmt::Write as _;

use ringfence_control::api::{ChangeReport, LockList, LockReport, LockRequest, LockView};
use ringfence_model::{LockId, Name};

use crate::args::{LockArgs, LockHow, QuarantineArgs};
use crate::client::Client;
use crate::commands::perimeter::flow_line;
use crate::commands::receipt;
use crate::failure::{Exit, Failure};
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn quarantine(args: QuarantineArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let target = full_target(&args.target);
    if !target.starts_with("node:") && !target.starts_with("user:") {
        let failure = Failure::new(
            Exit::Usage,
            format_args!("{target} is neither a node nor a person"),
        );
        return Err(failure.help("`ringfence lock` locks perimeters, labels and join tokens"));
    }
    set(target, args.how, client, output)
}

pub(super) fn lock(args: LockArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    set(full_target(&args.target), args.how, client, output)
}

fn set(target: String, how: LockHow, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let request = LockRequest {
        target,
        keep: how.keep,
        reason: how.reason,
        ttl_seconds: how.ttl.map(|ttl| ttl.as_secs()),
    };
    let report: LockReport = client.post("/locks", &request)?;
    output.answer(&report, set_text);
    receipt::note(report.revision, client, output);
    Ok(())
}

/// Lifts every lock on a target, or the one with this id.
pub(super) fn unlock(which: &str, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let known: LockList = client.get("/locks")?;
    let id: Option<LockId> = which.parse().ok();
    let target = full_target(which);
    let meant = known
        .locks
        .into_iter()
        .filter(|lock| Some(lock.id) == id || lock.target == target);
    let meant: Vec<LockView> = meant.collect();
    if meant.is_empty() {
        let failure = Failure::failed(format_args!("there is no lock on {which}"));
        return Err(failure.help("`ringfence locks` lists what is locked"));
    }
    let mut reports: Vec<ChangeReport> = Vec::new();
    for lock in &meant {
        reports.push(client.delete(&format!("/locks/{}", lock.id))?);
    }
    output.answer(&reports, |reports| lifted_text(&meant, reports));
    Ok(())
}

pub(super) fn ls(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let answer: LockList = client.get("/locks")?;
    output.answer(&answer, list_text);
    Ok(())
}

/// A name alone is a node's.
fn full_target(text: &str) -> String {
    match Name::parse(text) {
        Ok(name) => format!("node:{name}"),
        Err(_) => text.to_owned(),
    }
}

fn lifted_text(locks: &[LockView], reports: &[ChangeReport]) -> String {
    let mut text = String::new();
    for (lock, report) in locks.iter().zip(reports) {
        text.extend(report.changes.iter().map(flow_line));
        let (id, target, revision) = (lock.id, &lock.target, report.revision);
        let _ = writeln!(text, "lock {id} on {target} is lifted; revision {revision}");
    }
    text
}

fn set_text(report: &LockReport) -> String {
    let mut text: String = report.changes.iter().map(flow_line).collect();
    if report.more_changes > 0 {
        let _ = writeln!(text, "… and {} more", report.more_changes);
    }
    let lock = &report.lock;
    let _ = write!(text, "{} is locked", lock.target);
    if !lock.keep.is_empty() {
        let _ = write!(text, " but for {}", list(&lock.keep));
    }
    if let Some(until) = lock.until_ms {
        let _ = write!(text, " until {}", when::at(until));
    }
    let _ = writeln!(text, " by lock {}; revision {}", lock.id, report.revision);
    text
}

fn list_text(answer: &LockList) -> String {
    if answer.locks.is_empty() {
        return "nothing is locked".to_owned();
    }
    table(
        ["ID", "TARGET", "KEEPS", "SINCE", "UNTIL", "BY", "REASON"],
        answer.locks.iter().map(|lock| {
            [
                lock.id.to_string(),
                lock.target.clone(),
                list(&lock.keep),
                when::at(lock.since_ms),
                lock.until_ms.map_or_else(|| "lifted".to_owned(), when::at),
                lock.by.clone(),
                lock.reason.clone(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_a_nodes() {
        assert_eq!(full_target("db-1"), "node:db-1");
        assert_eq!(full_target("user:alice@example.com"), "user:alice@example.com");
        assert_eq!(full_target("label:role=db"), "label:role=db");
    }
}
