//! `ringfence receipt`: who enforces a revision, since when, and when those that are away have closed.

use std::fmt::Write as _;
use std::time::Duration;

use ringfence_control::api::{FlowChangeKind, FlowChangeView, RevisionReceipt};
use ringfence_model::Revision;

use crate::args::ReceiptArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(args: &ReceiptArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    if args.revision != "latest" && args.revision.parse::<Revision>().is_err() {
        return Err(Failure::new(
            Exit::Usage,
            format_args!(
                "{:?} is no revision: use `latest`, or TERM.NUMBER as a change printed it",
                args.revision
            ),
        ));
    }
    let receipt = ask(client, &args.revision, args.wait.unwrap_or_default())?;
    output.answer(&receipt, text);
    if receipt.complete || args.wait.is_none() {
        Ok(())
    } else {
        Err(Failure::told(Exit::Timeout))
    }
}

fn ask(client: &Client, revision: &str, wait: Duration) -> Result<RevisionReceipt, Failure> {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let route = format!("/revisions/{revision}/receipt?wait_ms={wait_ms}");
    client.get_within(&route, wait.saturating_add(ANSWER_SLACK))
}

/// After a change that took something away: waits shortly, and tells how far it has got.
pub(super) fn note_closing(
    revision: Revision,
    changes: &[FlowChangeView],
    client: &Client,
    output: &mut Output,
) {
    let closes = |change: &FlowChangeView| matches!(change.change, FlowChangeKind::Closes);
    if changes.iter().any(closes) {
        note(revision, client, output);
    }
}

/// Waits shortly, and tells how far a revision has got. The change is made: that nobody answers now is no failure.
pub(super) fn note(revision: Revision, client: &Client, output: &mut Output) {
    match ask(client, &revision.to_string(), NOTE_WAIT) {
        Ok(receipt) => output.note(&summary(&receipt)),
        Err(failure) => output.note(&format!(
            "no receipt so far ({}): `ringfence receipt {revision} --wait` asks for it",
            failure.message
        )),
    }
}

fn summary(receipt: &RevisionReceipt) -> String {
    let enforced = receipt.enforced.len() as u64 + receipt.more_enforced;
    let mut text = format!(
        "revision {}: enforced by {enforced} of {} nodes that it was for",
        receipt.revision, receipt.told
    );
    if let (Some(p50), Some(p99), Some(max)) = (receipt.p50_ms, receipt.p99_ms, receipt.max_ms) {
        let _ = write!(text, ", after p50 {p50} ms, p99 {p99} ms, max {max} ms");
    }
    if !receipt.pending.is_empty() {
        let _ = write!(text, "\nstill waiting for {}", list(&receipt.pending));
    }
    for offline in &receipt.offline {
        let end = match offline.closed_by_ms {
            Some(end) => format!("closed by itself by {}", when::at(end)),
            None => "not heard of since the controller began".to_owned(),
        };
        let _ = write!(text, "\nnot connected: {}, {end}", offline.node);
    }
    text
}

fn text(receipt: &RevisionReceipt) -> String {
    let mut text = summary(receipt);
    if let Some(made) = receipt.made_ms {
        let _ = write!(text, "\nmade {}", when::at(made));
    }
    if receipt.enforced.is_empty() {
        return text;
    }
    let rows = receipt.enforced.iter().map(|ack| {
        let note = if ack.was_away { "was away" } else { "" };
        [
            ack.node.to_string(),
            format!("{} ms", ack.after_ms),
            format!("{} us", ack.took_us),
            note.to_owned(),
        ]
    });
    let _ = write!(text, "\n{}", table(["NODE", "AFTER", "OF IT ITS OWN", ""], rows));
    if receipt.more_enforced > 0 {
        let _ = write!(text, "\n… and {} more", receipt.more_enforced);
    }
    text
}

const NOTE_WAIT: Duration = Duration::from_secs(2);
const ANSWER_SLACK: Duration = Duration::from_secs(5);
