//! `ringfence wait`: until the change is in force everywhere.

use std::time::Duration;

use ringfence_control::api::Receipt;
use ringfence_model::Revision;

use crate::args::WaitArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, list};

pub(super) fn run(args: &WaitArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    if args.revision != "latest" && args.revision.parse::<Revision>().is_err() {
        return Err(Failure::new(
            Exit::Usage,
            format_args!(
                "{:?} is no revision: use `latest`, or TERM.NUMBER as apply printed it",
                args.revision
            ),
        ));
    }
    let timeout = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let route = format!("/revisions/{}/wait?timeout_ms={timeout}", args.revision);
    let receipt: Receipt = client.get_within(&route, args.timeout + ANSWER_SLACK)?;
    output.answer(&receipt, text);
    if receipt.complete {
        Ok(())
    } else {
        Err(Failure::told(Exit::Timeout))
    }
}

fn text(receipt: &Receipt) -> String {
    let mut text = format!(
        "revision {}: {} of {} connected nodes enforce it",
        receipt.revision, receipt.enforced, receipt.connected
    );
    if let Some(took) = receipt.took_ms {
        text += &format!(", {took} ms after the change");
    }
    if let Some(slowest) = &receipt.slowest {
        text += &format!("; slowest {} with {} ms", slowest.node, slowest.after_ms);
    }
    if !receipt.pending.is_empty() {
        text += &format!("\nstill waiting for {}", list(&receipt.pending));
    }
    if !receipt.absent.is_empty() {
        text += &format!(
            "\nnot connected, closing as their leases end: {}",
            list(&receipt.absent)
        );
    }
    text
}

const ANSWER_SLACK: Duration = Duration::from_secs(5);
