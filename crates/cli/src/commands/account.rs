//! `ringfence account …`: people who need no identity provider.

use ringfence_control::api::{
    AccountList, AddAccountRequest, ChangeReport, InvitedAccount, PatchAccountRequest,
};

use crate::args::AccountCommand;
use crate::client::{Client, path_segment};
use crate::commands::receipt;
use crate::failure::Failure;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(command: AccountCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        AccountCommand::Add(args) => {
            let request = AddAccountRequest {
                name: args.name,
                email: args.email,
                groups: args.groups,
                session_seconds: args.session.as_secs(),
            };
            invited(&client.post("/accounts", &request)?, output);
        }
        AccountCommand::Ls => {
            let answer: AccountList = client.get("/accounts")?;
            output.answer(&answer, list_text);
        }
        AccountCommand::Set(args) => {
            let request = PatchAccountRequest { groups: args.groups };
            let route = format!("/accounts/{}", path_segment(args.name.as_str())?);
            let report: ChangeReport = client.patch(&route, &request)?;
            output.answer(&report, |report| {
                format!(
                    "local account {} is in {}; revision {}",
                    args.name,
                    list(&request.groups),
                    report.revision
                )
            });
            receipt::note_closing(report.revision, &report.changes, client, output);
        }
        AccountCommand::Reset { name } => {
            let route = format!("/accounts/{}/reset", path_segment(name.as_str())?);
            let answer: InvitedAccount = client.post(&route, &serde_json::json!({}))?;
            invited(&answer, output);
            receipt::note(answer.revision, client, output);
        }
        AccountCommand::Rm { name } => {
            let route = format!("/accounts/{}", path_segment(name.as_str())?);
            let report: ChangeReport = client.delete(&route)?;
            output.answer(&report, |report| {
                format!("local account {name} removed; revision {}", report.revision)
            });
            receipt::note_closing(report.revision, &report.changes, client, output);
        }
    }
    Ok(())
}

fn list_text(answer: &AccountList) -> String {
    if answer.accounts.is_empty() {
        return "there are none: `ringfence account add` makes one".to_owned();
    }
    table(
        ["ACCOUNT", "ADDRESS", "GROUPS", "SESSION", "SINCE", "SET UP"],
        answer.accounts.iter().map(|account| {
            let groups: Vec<&String> = account.groups.iter().collect();
            [
                account.name.to_string(),
                account.email.clone().unwrap_or_else(|| "-".to_owned()),
                list(&groups),
                when::seconds(account.session_seconds),
                when::at(account.added_ms),
                account.set_up_ms.map_or_else(|| "not yet".to_owned(), when::at),
            ]
        }),
    )
}

fn invited(invited: &InvitedAccount, output: &mut Output) {
    output.answer(invited, |invited| invited.secret.clone());
    output.note(&format!(
        "hand this secret to its person: with it `ringfence login --account {} --set-up` chooses a password and a second \
         factor, once, until {}",
        invited.name,
        when::at(invited.expires_ms)
    ));
}
