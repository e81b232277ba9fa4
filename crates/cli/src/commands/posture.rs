//! `ringfence posture …`: what is asked of machines, and how each stands to it.

use ringfence_control::api::{
    ApplyPostureReport, ApplyPostureRequest, ChangeReport, CheckResult, FactView, FlowChangeView,
    GiveFactRequest, NodeList, NodePosture, PolicyFile, PostureDetail,
};
use ringfence_model::{Revision, UnixMillis};
use ringfence_policy::{FactValue, PostureFile};
use serde::Serialize;

use crate::args::{FactArgs, PostureCommand, PostureTestArgs};
use crate::client::{Client, path_segment};
use crate::commands::perimeter::flow_line;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::output::{Output, table};
use crate::when;

/// What a file would come to on one node.
#[derive(Serialize)]
struct NodeTest {
    node: String,
    checks: Vec<CheckTest>,
}

#[derive(Serialize)]
struct CheckTest {
    name: String,
    mode: &'static str,
    passes: bool,
    holds: bool,
    findings: Vec<String>,
}

pub(super) fn run(
    command: PostureCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        PostureCommand::Apply { file, force } => {
            let files = files::read(&[file])?;
            let (file, _) = parse(&files)?;
            let request = ApplyPostureRequest { file, force };
            let report: ApplyPostureReport = connect()?.put("/posture", &request)?;
            for warning in &report.warnings {
                output.warning(warning);
            }
            output.answer(&report, |report| {
                let what = "the posture file is in force";
                changed(what, &report.changes, report.revision)
            });
        }
        PostureCommand::Ls => {
            let detail: PostureDetail = connect()?.get("/posture")?;
            output.answer(&detail, list_text);
        }
        PostureCommand::Show { node } => {
            let posture: NodePosture = connect()?.get(&route(&node, "posture")?)?;
            output.answer(&posture, show_text);
        }
        PostureCommand::Facts { node } => {
            let posture: NodePosture = connect()?.get(&route(&node, "posture")?)?;
            output.answer(&posture.facts, |facts| facts_text(facts, posture.now_ms));
        }
        PostureCommand::Test(args) => test(args, connect, output)?,
        PostureCommand::Give(args) => give(&args, &connect()?, output)?,
    }
    Ok(())
}

/// Judges what is known of nodes by a file that is not in force.
fn test(
    args: PostureTestArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    let files = files::read(&[args.file])?;
    let (_, posture) = parse(&files)?;
    let client = connect()?;
    let nodes = if args.nodes.is_empty() {
        let all: NodeList = client.get("/nodes")?;
        all.nodes.into_iter().map(|node| node.name.to_string()).collect()
    } else {
        args.nodes
    };
    let mut tests = Vec::new();
    for node in nodes {
        let known: NodePosture = client.get(&route(&node, "posture")?)?;
        tests.push(test_node(&posture, &known));
    }
    let failing = tests
        .iter()
        .filter(|test| test.checks.iter().any(|check| !check.passes));
    let failing = failing.count();
    output.answer(&tests, |tests| tests.iter().map(test_text).collect());
    if failing == 0 {
        return Ok(());
    }
    let (of, all) = (tests.len(), if failing == 1 { "fails" } else { "fail" });
    Err(Failure::failed(format_args!("{failing} of {of} nodes {all} a check"))
        .help("a fact that no check in force asks for is not looked up: `ringfence posture apply` with mode = \"report\" first"))
}

fn test_node(posture: &PostureFile, known: &NodePosture) -> NodeTest {
    let facts = FactView::known(&known.facts);
    let checks = posture.checks.iter().map(|check| {
        let judgement = check.judge(&facts, known.now_ms);
        CheckTest {
            name: check.name.to_string(),
            mode: check.mode.as_str(),
            passes: judgement.passes,
            holds: judgement.holds,
            findings: judgement.findings.iter().map(ToString::to_string).collect(),
        }
    });
    NodeTest {
        node: known.node.to_string(),
        checks: checks.collect(),
    }
}

fn give(args: &FactArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let request = GiveFactRequest {
        value: FactValue::from_word(&args.value).into(),
        ttl_seconds: args.ttl.as_secs(),
    };
    let report: ChangeReport = client.put(&route(&args.node, &format!("facts/{}", args.name))?, &request)?;
    let what = format!("custom.{} of {} is {}", args.name, args.node, args.value);
    output.answer(&report, |report| changed(&what, &report.changes, report.revision));
    Ok(())
}

/// Reads the file here, so that a misspelt key is found on a train.
fn parse(files: &[PolicyFile]) -> Result<(PolicyFile, PostureFile), Failure> {
    let [file] = files else {
        return Err(Failure::new(Exit::Usage, "a mesh has one posture file"));
    };
    match PostureFile::parse(&file.name, &file.text) {
        Ok(posture) => Ok((file.clone(), posture)),
        Err(errors) => {
            let mut failure = Failure::failed("the posture file has mistakes: nothing was changed");
            let findings = errors
                .0
                .iter()
                .map(|error| (error.into(), Some(file.text.clone())));
            failure.findings = findings.collect();
            Err(failure)
        }
    }
}

fn route(node: &str, below: &str) -> Result<String, Failure> {
    let name = node.strip_prefix("node:").unwrap_or(node);
    Ok(format!("/nodes/{}/{below}", path_segment(name)?))
}

fn changed(what: &str, flows: &[FlowChangeView], revision: Revision) -> String {
    let flows: String = flows.iter().map(flow_line).collect();
    format!("{flows}{what}; revision {revision}\n")
}

fn list_text(detail: &PostureDetail) -> String {
    if detail.checks.is_empty() {
        return "nothing is asked of machines yet: `ringfence posture apply -f posture.toml`".to_owned();
    }
    table(
        ["CHECK", "MODE", "MAX AGE", "MET BY", "WHY"],
        detail.checks.iter().map(|check| {
            [
                check.name.to_string(),
                check.mode.clone(),
                when::seconds(check.max_age_ms / 1000),
                format!("{} of {} nodes", check.met_by, check.nodes),
                check.description.clone(),
            ]
        }),
    )
}

fn show_text(posture: &NodePosture) -> String {
    let mut text = format!("node {}", posture.node);
    if !posture.connected {
        text += ", not connected";
    }
    text += "\n";
    for check in &posture.checks {
        text += &check_text(check, posture.now_ms);
    }
    if posture.checks.is_empty() {
        text += "no check asks anything of it\n";
    }
    if !posture.facts.is_empty() {
        text += &format!("\n{}\n", facts_text(&posture.facts, posture.now_ms));
    }
    text
}

fn check_text(check: &CheckResult, now: UnixMillis) -> String {
    let until = check.until_ms.map_or_else(String::new, |until| {
        let left = until.saturating_since(now).as_secs();
        format!(", for {} if nothing new comes", when::seconds(left))
    });
    let mut text = format!("\n{} {}{until}\n", verdict(check.passes, check.holds), check.name);
    for finding in &check.findings {
        let mark = if finding.holds { ' ' } else { '!' };
        text += &format!("  {mark} {}\n", finding.says);
    }
    text
}

fn test_text(test: &NodeTest) -> String {
    let mut text = format!("node {}\n", test.node);
    for check in &test.checks {
        text += &format!("  {} {}\n", verdict(check.passes, check.holds), check.name);
        for finding in &check.findings {
            text += &format!("      {finding}\n");
        }
    }
    text
}

fn verdict(passes: bool, holds: bool) -> &'static str {
    match (passes, holds) {
        (_, true) => "\x1b[32mpasses\x1b[0m",
        (true, false) => "\x1b[31mwould fail\x1b[0m (reported only)",
        (false, false) => "\x1b[31mfails\x1b[0m",
    }
}

fn facts_text(facts: &[FactView], now: UnixMillis) -> String {
    if facts.is_empty() {
        return "nothing is known: no check asks for anything, or the node has not reported".to_owned();
    }
    table(
        ["FACT", "VALUE", "SOURCE", "AGE", "EXPIRES"],
        facts.iter().map(|fact| {
            let value = match (&fact.value, &fact.missing) {
                (Some(value), _) => FactValue::from(value.clone()).to_string(),
                (None, Some(why)) => format!("not known: {why}"),
                (None, None) => "not known".to_owned(),
            };
            let expires = fact.expires_ms.map_or_else(|| "-".to_owned(), when::at);
            [
                fact.name.clone(),
                value,
                fact.source.clone(),
                when::seconds(now.saturating_since(fact.measured_ms).as_secs()),
                expires,
            ]
        }),
    )
}
