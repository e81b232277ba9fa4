//! `ringfence why`: what this machine, and the person at it, lack to reach something; and whom to ask.

use std::time::Duration;

use ringfence_control::api::Verdict;
use ringfence_control::local::{LocalRequest, LocalResponse};
use ringfence_control::{WhyQuestion, WhyReport};

use super::status::unexpected;
use crate::args::WhyArgs;
use crate::failure::{Exit, Failure};
use crate::local;
use crate::output::{Output, list};
use crate::when;

pub(super) fn run(args: WhyArgs, output: &mut Output) -> Result<(), Failure> {
    let (to, service) = (args.target.to, args.target.service);
    let question = WhyQuestion { to, service };
    let request = LocalRequest::Why { question };
    match local::ask(&args.socket.socket, &request, ANSWER_WAIT)? {
        LocalResponse::Why { report } => {
            output.answer(report.as_ref(), text);
            match report.explained.verdict {
                Verdict::Allow => Ok(()),
                Verdict::Deny => Err(Failure::told(Exit::Denied)),
            }
        }
        other => Err(unexpected(&other)),
    }
}

fn text(report: &WhyReport) -> String {
    let explained = &report.explained;
    let verdict = match explained.verdict {
        Verdict::Allow => "\x1b[32mopen\x1b[0m",
        Verdict::Deny => "\x1b[31mclosed\x1b[0m",
    };
    let mut text = format!(
        "{verdict}: {} > {} {}\n\n",
        explained.from, explained.to, explained.service
    );
    text += &person(report);
    for check in &report.posture {
        let standing = if check.passes { "passes" } else { "does not pass" };
        text += &format!("posture      {} {standing}\n", check.name);
        for finding in check.findings.iter().filter(|finding| !finding.holds) {
            text += &format!("             {}\n", finding.says);
        }
    }
    for explained in &report.explained.perimeters {
        text += &format!("perimeter    {}: {}\n", explained.perimeter, explained.reason);
        let mut missing = explained.missing.iter();
        if let Some(nearest) = missing.next() {
            text += &format!("to open it   {nearest}\n");
        }
        for other in missing {
            text += &format!("or           {other}\n");
        }
    }
    if report.explained.verdict == Verdict::Deny {
        for owners in &report.owners {
            text += &format!("ask          {} ({})\n", list(&owners.owners), owners.perimeter);
        }
    }
    text
}

fn person(report: &WhyReport) -> String {
    let Some(person) = &report.person else {
        return "person       nobody is logged in here: `ringfence login`\n".to_owned();
    };
    let factor = person.mfa_at_ms.map_or_else(
        || "no second factor".to_owned(),
        |at| format!("second factor at {}", when::at(at)),
    );
    format!(
        "person       {}, {factor}, until {}\ngroups       {}\n",
        person.name,
        when::at(person.expires_ms),
        list(&person.groups)
    )
}

/// The controller is asked on the way.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
