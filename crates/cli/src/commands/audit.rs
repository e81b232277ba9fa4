//! `ringfence audit`: who changed what and when, and the proof that nobody rewrote it.

use ringfence_control::api::{AuditList, AuditVerification};
use ringfence_model::UnixMillis;

use crate::args::AuditArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};
use crate::when;

pub(super) fn run(args: &AuditArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    if args.command.is_some() {
        return verify(client, output);
    }
    let back = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let since = UnixMillis(when::now().0.saturating_sub(back));
    let answer: AuditList = client.get(&format!("/audit?since_ms={}&limit={}", since.0, args.limit))?;
    output.answer(&answer, |answer| {
        table(
            ["TIME", "REVISION", "ACTOR", "METHOD", "WHAT"],
            answer.entries.iter().map(|entry| {
                [
                    when::at(entry.at_ms),
                    entry.revision.to_string(),
                    format!("{}:{}", entry.actor.kind, entry.actor.name),
                    entry.method.clone(),
                    entry.summary.clone(),
                ]
            }),
        )
    });
    if answer.truncated {
        output.note("note: there are older entries; raise --limit to see them");
    }
    Ok(())
}

fn verify(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let answer: AuditVerification = client.get("/audit/verify")?;
    output.answer(&answer, |answer| match &answer.broken {
        None => format!(
            "the log is whole: {} entries up to revision {}, head {}",
            answer.entries,
            answer.revision,
            answer.head.as_deref().unwrap_or("-")
        ),
        Some(broken) => format!(
            "the log was tampered with at revision {}: {}",
            broken.revision, broken.why
        ),
    });
    if answer.ok {
        Ok(())
    } else {
        Err(Failure::told(Exit::Failed))
    }
}
