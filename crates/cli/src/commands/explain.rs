//! `ringfence explain`: the verdict and where it comes from.

use ringfence_control::api::{ExplainReport, ExplainRequest, Verdict};

use crate::args::{ExplainArgs, as_if};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(args: ExplainArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let request = ExplainRequest {
        from: args.from,
        to: args.to,
        service: args.port,
        perimeter: args.perimeter,
        at_ms: args.at,
        as_if: as_if(args.as_if).map_err(|error| Failure::new(Exit::Usage, format!("--as-if {error}")))?,
    };
    let report: ExplainReport = client.post("/explain", &request)?;
    output.answer(&report, text);
    Ok(())
}

fn text(report: &ExplainReport) -> String {
    let mut text = format!(
        "{}: {} > {} {}\n",
        coloured(report.verdict),
        report.from,
        report.to,
        report.service
    );
    if report.perimeters.is_empty() {
        text +=
            "  no perimeter has both as members: nothing connects them, and neither has the other's key\n";
    }
    for explained in &report.perimeters {
        text += &format!(
            "\nperimeter {}: {}\n  {}\n",
            explained.perimeter,
            coloured(explained.verdict),
            explained.reason
        );
        if let (Some(rule), Some(file), Some(line)) = (explained.rule, &explained.file, explained.line) {
            text += &format!("  rule {rule} at {file}:{line}\n");
        }
        for missing in &explained.missing {
            text += &format!("  missing: {missing}\n");
        }
    }
    text
}

fn coloured(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "\x1b[32mallow\x1b[0m",
        Verdict::Deny => "\x1b[31mdeny\x1b[0m",
    }
}
