//! `ringfence workload …`: whose tokens let machines in without a join token.

use std::io::Read as _;
use std::path::Path;

use ringfence_control::api::{
    ChangeReport, PolicyFile, SetWorkloadIssuerRequest, TestWorkloadRequest, WorkloadIssuerDetail,
    WorkloadIssuerList, WorkloadTest,
};
use ringfence_model::Name;
use ringfence_policy::WorkloadIssuer;
use ringfence_transport::PlatformToken;
use zeroize::Zeroizing;

use crate::args::WorkloadCommand;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::output::{Output, table};
use crate::when;

pub(super) fn run(
    command: WorkloadCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        WorkloadCommand::Set { file } => set(&file, connect, output)?,
        WorkloadCommand::Ls => {
            let list: WorkloadIssuerList = connect()?.get("/workload-issuers")?;
            output.answer(&list, list_text);
        }
        WorkloadCommand::Show { name } => {
            let detail: WorkloadIssuerDetail = connect()?.get(&route(&name))?;
            output.answer(&detail, show_text);
        }
        WorkloadCommand::Locator { name } => {
            let detail: WorkloadIssuerDetail = connect()?.get(&route(&name))?;
            output.answer(&detail.locator, Clone::clone);
        }
        WorkloadCommand::Test { name, jwt_file } => test(&name, &jwt_file, connect, output)?,
        WorkloadCommand::Remove { name } => {
            let report: ChangeReport = connect()?.delete(&route(&name))?;
            output.answer(&report, |report| {
                format!("workload issuer {name} removed; revision {}", report.revision)
            });
        }
    }
    Ok(())
}

fn set(
    path: &Path,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    let files = files::read(&[path.to_owned()])?;
    let (file, issuer) = parse(&files)?;
    let request = SetWorkloadIssuerRequest { file };
    let report: ChangeReport = connect()?
        .put("/workload-issuers", &request)
        .map_err(|failure| files::with_texts(failure, &files))?;
    output.answer(&report, |report| {
        format!(
            "tokens of workload issuer {} let machines in; revision {}",
            issuer.name, report.revision
        )
    });
    Ok(())
}

/// Reads the file here, so that a misspelt key is found on a train.
fn parse(files: &[PolicyFile]) -> Result<(PolicyFile, WorkloadIssuer), Failure> {
    let [file] = files else {
        return Err(Failure::new(
            Exit::Usage,
            "each workload issuer has a file of its own: name one",
        ));
    };
    match WorkloadIssuer::parse(&file.name, &file.text) {
        Ok(issuer) => Ok((file.clone(), issuer)),
        Err(errors) => {
            let mut failure = Failure::failed("the file has mistakes: nothing was changed");
            let findings = errors
                .0
                .iter()
                .map(|error| (error.into(), Some(file.text.clone())));
            failure.findings = findings.collect();
            Err(failure)
        }
    }
}

fn test(
    name: &Name,
    jwt_file: &Path,
    connect: impl FnOnce() -> Result<Client, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    let text = read_jwt(jwt_file)?;
    let jwt = PlatformToken::parse(&text)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("{}: {error}", jwt_file.display())))?;
    let request = TestWorkloadRequest {
        jwt: jwt.expose().to_owned(),
    };
    let test: WorkloadTest = connect()?.post(&format!("{}/test", route(name)), &request)?;
    output.answer(&test, test_text);
    if test.admitted {
        return Ok(());
    }
    Err(Failure::failed("this token would let nobody in"))
}

fn read_jwt(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(READ_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(READ_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Failure::failed(format_args!("{}: {error}", path.display()))
            .help("name the file that the platform writes its token to, or - for standard input")
    })?;
    Ok(text)
}

/// A name needs no escaping in a path.
fn route(name: &Name) -> String {
    format!("/workload-issuers/{name}")
}

fn list_text(list: &WorkloadIssuerList) -> String {
    if list.issuers.is_empty() {
        return "no platform lets machines in: `ringfence workload set -f workload.toml`".to_owned();
    }
    table(
        ["NAME", "URL", "AUDIENCE", "KEYS", "RULES", "NODES", "LOCKED"],
        list.issuers.iter().map(|issuer| {
            [
                issuer.name.to_string(),
                issuer.url.clone(),
                issuer.audience.clone(),
                issuer.keys.clone(),
                issuer.rules.to_string(),
                issuer.nodes.to_string(),
                if issuer.locked { "yes" } else { "no" }.to_owned(),
            ]
        }),
    )
}

fn show_text(detail: &WorkloadIssuerDetail) -> String {
    let issuer = &detail.issuer;
    format!(
        "issuer       {}\nurl          {}\naudience     {}\nkeys         {}\nmax life     {}\nnodes        {}\nlocked       {}\nlocator      {}\n\n{}",
        issuer.name,
        issuer.url,
        issuer.audience,
        issuer.keys,
        when::seconds(issuer.max_life_seconds),
        issuer.nodes,
        if issuer.locked { "yes" } else { "no" },
        detail.locator,
        detail.file.text,
    )
}

fn test_text(test: &WorkloadTest) -> String {
    let mut text = String::new();
    if let Some(subject) = &test.subject {
        text += &format!("subject      {subject}\n");
    }
    if let Some(rule) = test.rule {
        text += &format!("rule         {rule}\n");
    }
    if let Some(labels) = &test.labels {
        text += &format!("labels       {labels}\n");
    }
    if let Some(name) = &test.name {
        text += &format!("name         {name}\n");
    }
    for why in &test.why {
        text += &format!("refused      {why}\n");
    }
    text += if test.admitted {
        "it would be let in"
    } else {
        "it would not be let in"
    };
    text
}

/// More than a token, less than what a wrong file could hold.
const READ_BYTES_MAX: u64 = 64 * 1024;
