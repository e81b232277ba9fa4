//! `ringfence api-token …`: who else may ask the controller, and for what.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ringfence_control::api::{ApiTokenList, ChangeReport, CreateApiTokenRequest, CreatedApiToken, Role};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::{ApiTokenCommand, ApiTokenCreateArgs, RoleArg};
use crate::client::{Client, path_segment};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(command: ApiTokenCommand, context: Context, output: &mut Output) -> Result<(), Failure> {
    match command {
        ApiTokenCommand::Create(args) => create(args, context, output),
        ApiTokenCommand::Ls => {
            let answer: ApiTokenList = Client::new(context)?.get("/api-tokens")?;
            output.answer(&answer, list_text);
            Ok(())
        }
        ApiTokenCommand::Revoke { which } => {
            let route = format!("/api-tokens/{}", path_segment(&which)?);
            let report: ChangeReport = Client::new(context)?.delete(&route)?;
            output.answer(&report, |report| {
                format!("API token {which} revoked; revision {}", report.revision)
            });
            Ok(())
        }
    }
}

fn create(args: ApiTokenCreateArgs, context: Context, output: &mut Output) -> Result<(), Failure> {
    let request = CreateApiTokenRequest {
        name: args.name,
        role: match args.role {
            RoleArg::Admin => Role::Admin,
            RoleArg::Auditor => Role::Auditor,
            RoleArg::Owner => Role::Owner,
        },
        perimeters: args.perimeters,
        stands_for: args.stands_for,
        ttl_seconds: args.expires.as_secs(),
    };
    let until = match &args.out {
        None => {
            let created: CreatedApiToken = Client::new(context)?.post("/api-tokens", &request)?;
            output.answer(&created, |created| created.token.clone());
            created.expires_ms
        }
        Some(path) => {
            let kept = context.clone();
            let ask = || Client::new(context)?.post("/api-tokens", &request);
            let created = write_context(path, kept, ask)?;
            let (shown, id) = (path.display().to_string(), created.id);
            let told = json!({ "id": id, "file": shown, "expires_ms": created.expires_ms });
            output.answer(&told, |_| String::new());
            output.note(&format!("its context is in {shown}"));
            created.expires_ms
        }
    };
    output.note(&format!(
        "API token {} counts until {}",
        request.name,
        when::at(until)
    ));
    Ok(())
}

/// The file is made first: a token that cannot be kept is not made.
fn write_context(
    path: &Path,
    mut context: Context,
    ask: impl FnOnce() -> Result<CreatedApiToken, Failure>,
) -> Result<CreatedApiToken, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| Failure::failed(format_args!("{shown}: {error}"));
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            failed(error).help("choose another file with --out: one that is there is left as it is")
        })?;
    let created = ask().inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })?;
    context.token = Zeroizing::new(created.token.clone());
    let text = context.to_text().map_err(Failure::failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(error).help(format_args!(
            "the token is lost: `ringfence api-token revoke {}`",
            created.id
        ))
    })?;
    Ok(created)
}

fn list_text(answer: &ApiTokenList) -> String {
    if answer.api_tokens.is_empty() {
        return "there are none: whoever holds the context that `init` wrote is the only administrator"
            .to_owned();
    }
    table(
        [
            "NAME",
            "ID",
            "ROLE",
            "PERIMETERS",
            "FOR",
            "COUNTS",
            "EXPIRES",
            "BY",
        ],
        answer.api_tokens.iter().map(|token| {
            [
                token.name.to_string(),
                token.id.to_string(),
                format!("{:?}", token.role).to_lowercase(),
                list(&token.perimeters),
                token.stands_for.clone().unwrap_or_else(|| "-".to_owned()),
                if token.counts { "yes" } else { "no" }.to_owned(),
                when::at(token.expires_ms),
                token.created_by.clone(),
            ]
        }),
    )
}
