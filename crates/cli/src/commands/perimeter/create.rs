//! `ringfence perimeter create`: a first policy file, in force, and a way in for each side.
//!
//! **Invariant:** whole or not at all: a failure leaves neither a file, nor a token, nor a perimeter behind, and says so
//! where that cannot be known.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ringfence_control::api::{
    ApplyReport, ApplyRequest, ChangeReport, CreateTokenRequest, CreatedToken, PerimeterList, PolicyFile,
};
use ringfence_model::{Labels, Name, Selector};
use ringfence_policy::{Starter, starter};
use serde::Serialize;

use crate::args::CreateArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::output::Output;
use crate::when;

/// What `perimeter create --json` prints.
#[derive(Serialize)]
struct Created {
    perimeter: Name,
    file: PathBuf,
    revision: String,
    join: Vec<Join>,
}

/// One side's way in.
#[derive(Serialize)]
struct Join {
    side: &'static str,
    #[serde(skip)]
    id: ringfence_model::TokenId,
    labels: Labels,
    uses: u32,
    expires_ms: u64,
    token: String,
    command: String,
}

pub(super) fn run(args: &CreateArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.toml", args.name)));
    let existing: PerimeterList = client.get("/perimeters")?;
    if existing
        .perimeters
        .iter()
        .any(|perimeter| perimeter.name == args.name)
    {
        return Err(Failure::failed(format_args!("perimeter {} exists already", args.name)).help(format_args!(
            "change it with `ringfence perimeter show {0} --policy > {0}.toml`, an editor, and `ringfence perimeter apply -f {0}.toml`",
            args.name
        )));
    }
    let file = PolicyFile {
        name: path.display().to_string(),
        text: first_policy(args),
    };
    files::check(std::slice::from_ref(&file))?;
    let mut request = ApplyRequest {
        files: vec![file],
        dry_run: true,
        prune: false,
        base: None,
    };
    // What the controller would refuse is refused before anything is made, here or there.
    let tried: ApplyReport = client.post("/perimeters", &request)?;
    (request.dry_run, request.base) = (false, Some(tried.revision));
    write_new(&path, &request.files[0].text)?;
    let mut join = Vec::new();
    let report = match establish(args, client, &request, &mut join) {
        Ok(report) => report,
        Err(failure) => return Err(take_back(&path, client, &join, args, failure)),
    };
    for warning in &report.warnings {
        // Its groups match nothing yet: that is what the join commands are for.
        if !warning.message.contains("matches no") {
            output.warning(warning);
        }
    }
    let created = Created {
        perimeter: args.name.clone(),
        file: path,
        revision: report.revision.to_string(),
        join,
    };
    output.answer(&created, created_text);
    Ok(())
}

/// Makes the tokens and then the perimeter: tokens without a perimeter can be withdrawn and have opened nothing.
fn establish(
    args: &CreateArgs,
    client: &Client,
    request: &ApplyRequest,
    join: &mut Vec<Join>,
) -> Result<ApplyReport, Failure> {
    join.push(join_command("asset", &args.asset, args, client)?);
    join.push(join_command("client", &args.client, args, client)?);
    client.post("/perimeters", request)
}

/// Nothing half-applied: tokens are withdrawn, and a policy file that is not in force goes, or it would be believed.
fn take_back(path: &Path, client: &Client, join: &[Join], args: &CreateArgs, failure: Failure) -> Failure {
    for made in join {
        // One that cannot be withdrawn ends by itself, and nobody was shown it.
        let _: Result<ChangeReport, Failure> = client.delete(&format!("/tokens/{}", made.id));
    }
    match failure.exit {
        Exit::Timeout | Exit::Unreachable => failure.help(format_args!(
            "whether {0} is in force is not known; `ringfence perimeter ls` tells. {1} was kept: apply it with \
             `ringfence perimeter apply -f {1}`, and make join tokens with `ringfence token create`",
            args.name,
            path.display()
        )),
        Exit::Failed | Exit::Usage | Exit::NotEnrolled | Exit::Denied => {
            let _ = std::fs::remove_file(path);
            failure
        }
    }
}

fn join_command(
    side: &'static str,
    selector: &Selector,
    args: &CreateArgs,
    client: &Client,
) -> Result<Join, Failure> {
    let request = CreateTokenRequest {
        labels: selector.pairs().clone(),
        ttl_seconds: args.ttl.as_secs(),
        uses: args.uses,
    };
    let token: CreatedToken = client.post("/tokens", &request)?;
    Ok(Join {
        side,
        id: token.id,
        labels: request.labels,
        uses: args.uses,
        expires_ms: token.expires_ms.0,
        // On standard input, so that the token stands in no process list.
        command: format!("echo {} | ringfence-node up --token-file -", token.token),
        token: token.token,
    })
}

fn created_text(created: &Created) -> String {
    let mut text = format!(
        "perimeter {} is in force (revision {}); its policy is {}\n",
        created.perimeter,
        created.revision,
        created.file.display()
    );
    for join in &created.join {
        let machines = if join.uses == 1 {
            "one machine".to_owned()
        } else {
            format!("up to {} machines", join.uses)
        };
        text += &format!(
            "\nOn the {} ({}), for {machines}, until {}, as root:\n\n  {}\n",
            join.side,
            join.labels,
            when::at(ringfence_model::UnixMillis(join.expires_ms)),
            join.command
        );
    }
    text += &format!("\nThen check it: ringfence verify {}\n", created.perimeter);
    text
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::new(
                Exit::Failed,
                format_args!("{shown} exists already and was left as it is"),
            )
            .help("choose another name with --file, or apply it with `ringfence perimeter apply -f`"),
            _ => Failure::failed(format_args!("{shown}: {error}")),
        })?;
    file.write_all(text.as_bytes()).map_err(|error| {
        // Half a policy would be believed.
        let _ = std::fs::remove_file(path);
        Failure::failed(format_args!("{shown}: {error}"))
    })
}

fn first_policy(args: &CreateArgs) -> String {
    starter(&Starter {
        name: args.name.clone(),
        asset: args.asset.clone(),
        client: args.client.clone(),
        services: args.ports.clone(),
        owners: args.owners.clone(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ringfence_policy::Policy;

    use super::*;
    use crate::args::{Cli, Command, PerimeterCommand};

    fn create_args(words: &[&str]) -> CreateArgs {
        let command = ["ringfence", "perimeter", "create"];
        let cli = Cli::try_parse_from(command.iter().chain(words)).unwrap();
        match cli.command {
            Command::Perimeter(PerimeterCommand::Create(args)) => args,
            _ => panic!("that is another command"),
        }
    }

    #[test]
    fn the_first_policy_says_what_was_asked_for() {
        let words = [
            "payments-db",
            "--asset",
            "role=db,env=prod",
            "--client",
            "role=api",
            "--port",
            "tcp/5432,icmp",
        ];
        let args = create_args(&[&words[..], &["--owner", "alice@example.com"]].concat());

        let checked = Policy::parse("payments-db.toml", &first_policy(&args)).unwrap();

        assert_eq!(checked.policy.name, args.name);
        assert_eq!(checked.policy.owners, args.owners);
        assert_eq!(checked.policy.rules[0].services, args.ports);
    }
}
