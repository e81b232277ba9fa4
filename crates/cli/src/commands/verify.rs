//! `ringfence verify`: what policy says against what the network does.

use ringfence_control::api::{Verdict, VerifyReport, VerifyRequest};

use crate::args::VerifyArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};

pub(super) fn run(args: &VerifyArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let request = VerifyRequest {
        perimeter: args.perimeter.clone(),
        wait_ms: u64::try_from(args.wait.as_millis()).unwrap_or(u64::MAX),
    };
    output.note(&format!(
        "asking the nodes of {} to try every pair and port…",
        args.perimeter
    ));
    let report: VerifyReport = client.post("/verify", &request)?;
    output.answer(&report, text);
    if report.ok {
        Ok(())
    } else {
        Err(Failure::told(Exit::Failed))
    }
}

fn text(report: &VerifyReport) -> String {
    let mut text = table(
        ["FROM", "TO", "SERVICE", "EXPECTED", "MEASURED", "", "HOW"],
        report.rows.iter().map(|row| {
            [
                if row.outsider {
                    format!("{} (outsider)", row.from)
                } else {
                    row.from.to_string()
                },
                row.to.to_string(),
                row.service.clone(),
                word(row.expected).to_owned(),
                row.measured.map_or("not measured", word).to_owned(),
                if row.is_ok() { "ok" } else { "DIFFERS" }.to_owned(),
                row.detail.clone(),
            ]
        }),
    );
    for why in &report.unmeasured {
        text += &format!("\nnot measured: {why}");
    }
    let wrong = report.rows.iter().filter(|row| !row.is_ok()).count();
    let verdict = match (report.ok, wrong) {
        (true, _) => "as policy says",
        (false, 0) => "as policy says where it was measured, and not all was",
        (false, _) => "NOT as policy says",
    };
    text += &format!(
        "\n\n{} of {} as expected at revision {}: perimeter {} is {verdict}",
        report.rows.len() - wrong,
        report.rows.len(),
        report.revision,
        report.perimeter
    );
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}
