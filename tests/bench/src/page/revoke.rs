//! How long revoked access lives on, on the page.

use std::fmt::Write as _;

use crate::revoke::{Revocation, summaries};

pub(super) fn push(text: &mut String, readings: &[Revocation]) {
    if readings.is_empty() {
        return;
    }
    text.push_str(
        "## Access taken away\n\nFrom before the administrator's HTTPS request is sent until both ends of a TCP connection \
         that uses the access have been told of its end (a reset); beside it, the receipt: until the controller knew \
         of the last node that it enforces the change. Connections are opened anew each time, at another node.\n\n\
         | what happens | times | nodes connected | told | cut, ms: p50 | p99 | max | all enforce it, ms: p50 | p99 | max |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for summary in summaries(readings) {
        let [cut_p50, cut_p99, cut_max] = summary.cut_ms;
        let [all_p50, all_p99, all_max] = summary.enforced_ms;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {cut_p50:.0} | {cut_p99:.0} | {cut_max:.0} | {all_p50:.0} | {all_p99:.0} | {all_max:.0} |",
            summary.way, summary.count, summary.connected, summary.told
        );
    }
    text.push('\n');
}
