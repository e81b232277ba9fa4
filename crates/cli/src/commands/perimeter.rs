//! `ringfence perimeter …`: policy from files to the controller and back.

mod create;

use ringfence_control::api::{
    ApplyReport, ApplyRequest, ChangeReport, FlowChangeKind, FlowChangeView, PerimeterDetail, PerimeterList,
    PolicyFile,
};
use ringfence_model::Name;

use crate::args::{ApplyArgs, PerimeterCommand};
use crate::client::Client;
use crate::commands::receipt;
use crate::failure::Failure;
use crate::files;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(
    command: PerimeterCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        PerimeterCommand::Create(args) => create::run(&args, &connect()?, output),
        // The files are checked before anything is asked of the network.
        PerimeterCommand::Apply(args) => apply(&args, connect, output),
        PerimeterCommand::Ls => ls(&connect()?, output),
        PerimeterCommand::Show { name, policy } => show(&name, policy, &connect()?, output),
        PerimeterCommand::Rm { name } => rm(&name, &connect()?, output),
    }
}

fn apply(
    args: &ApplyArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    let files = files::read(&args.files)?;
    files::check(&files)?;
    let client = connect()?;
    let report = submit(&client, &files, args)?;
    for warning in &report.warnings {
        output.warning(warning);
    }
    output.answer(&report, apply_text);
    if !report.dry_run {
        receipt::note_closing(report.revision, &report.changes, &client, output);
    }
    Ok(())
}

fn submit(client: &Client, files: &[PolicyFile], args: &ApplyArgs) -> Result<ApplyReport, Failure> {
    let request = ApplyRequest {
        files: files.to_vec(),
        dry_run: args.dry_run,
        prune: args.prune,
        base: args.base,
    };
    client
        .post("/perimeters", &request)
        .map_err(|failure| files::with_texts(failure, files))
}

fn apply_text(report: &ApplyReport) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text += &flow_line(change);
    }
    let (open, closed) = report
        .changes
        .iter()
        .fold((0, 0), |(open, closed), change| match change.change {
            FlowChangeKind::Opens => (open + 1, closed),
            FlowChangeKind::Closes => (open, closed + 1),
        });
    if report.more_changes > 0 {
        text += &format!("… and {} more flows, which are not listed\n", report.more_changes);
    }
    let verb = if report.dry_run {
        ("would be", "would open", "would close")
    } else {
        ("", "opened", "closed")
    };
    for name in &report.applied {
        text += &format!("perimeter {name} {}\n", join(verb.0, "applied"));
    }
    for name in &report.removed {
        text += &format!("perimeter {name} {}\n", join(verb.0, "removed"));
    }
    text += &format!(
        "{open} flows {}, {closed} {}; revision {}{}\n",
        verb.1,
        verb.2,
        report.revision,
        if report.dry_run {
            " (nothing was changed)"
        } else {
            ""
        }
    );
    text
}

fn join(first: &str, second: &str) -> String {
    if first.is_empty() {
        second.to_owned()
    } else {
        format!("{first} {second}")
    }
}

/// `+ payments-db: api-1 > db-1 tcp/5432 (rule #1)`.
pub(super) fn flow_line(change: &FlowChangeView) -> String {
    let sign = match change.change {
        FlowChangeKind::Opens => "\x1b[32m+\x1b[0m",
        FlowChangeKind::Closes => "\x1b[31m-\x1b[0m",
    };
    format!(
        "{sign} {}: {} > {} {} (rule {})\n",
        change.perimeter, change.from, change.to, change.service, change.rule
    )
}

fn ls(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let answer: PerimeterList = client.get("/perimeters")?;
    output.answer(&answer, |answer| {
        if answer.perimeters.is_empty() {
            return "no perimeters yet: `ringfence perimeter create` makes the first".to_owned();
        }
        table(
            [
                "NAME",
                "CRITICALITY",
                "OWNERS",
                "MEMBERS",
                "RULES",
                "LEASE",
                "CHANGED",
                "REVISION",
            ],
            answer.perimeters.iter().map(|perimeter| {
                [
                    perimeter.name.to_string(),
                    perimeter.criticality.clone(),
                    list(&perimeter.owners),
                    perimeter.members.to_string(),
                    perimeter.rules.to_string(),
                    when::seconds(perimeter.lease_seconds),
                    when::at(perimeter.changed_ms),
                    perimeter.revision.to_string(),
                ]
            }),
        )
    });
    Ok(())
}

fn show(name: &Name, policy: bool, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let detail: PerimeterDetail = client.get(&format!("/perimeters/{name}"))?;
    if policy {
        output.answer(&detail.file, |file| file.text.clone());
    } else {
        output.answer(&detail, detail_text);
    }
    Ok(())
}

fn detail_text(detail: &PerimeterDetail) -> String {
    let summary = &detail.summary;
    let review = summary.review_seconds.map_or_else(
        || "-".to_owned(),
        |seconds| format!("every {}", when::seconds(seconds)),
    );
    let mut text = format!(
        "perimeter    {}\ndescription  {}\nowners       {}\ncriticality  {}\nreview       {review}\nlease        {}\nchanged      {} (revision {})\n\n",
        summary.name,
        summary.description,
        list(&summary.owners),
        summary.criticality,
        when::seconds(summary.lease_seconds),
        when::at(summary.changed_ms),
        summary.revision,
    );
    text += &table(
        ["GROUP", "SELECTOR", "MEMBERS"],
        detail.groups.iter().map(|group| {
            [
                group.name.to_string(),
                group.selector.clone(),
                list(&group.members),
            ]
        }),
    );
    text += "\n\n";
    text += &table(
        ["MEMBER", "KIND", "ADDRESSES", "PEERS", "KEY"],
        detail.members.iter().map(|member| {
            [
                member.name.to_string(),
                format!("{:?}", member.kind).to_lowercase(),
                list(&member.addresses),
                member.peers.to_string(),
                member
                    .public_key
                    .map_or_else(|| "none yet".to_owned(), |key| key.to_string()),
            ]
        }),
    );
    text += "\n\n";
    text += &table(
        ["RULE", "LINE", "FROM", "TO", "PORTS", "STATE", "REASON"],
        detail.rules.iter().map(|rule| {
            [
                rule.id.to_string(),
                rule.line.to_string(),
                rule.from.to_string(),
                rule.to.to_string(),
                list(&rule.services),
                rule.inactive.clone().unwrap_or_else(|| "open".to_owned()),
                rule.reason.clone(),
            ]
        }),
    );
    text
}

fn rm(name: &Name, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let report: ChangeReport = client.delete(&format!("/perimeters/{name}"))?;
    output.answer(&report, |report| {
        format!(
            "perimeter {name} removed; {} flows closed; revision {}",
            report.changes.len(),
            report.revision
        )
    });
    receipt::note_closing(report.revision, &report.changes, client, output);
    Ok(())
}
