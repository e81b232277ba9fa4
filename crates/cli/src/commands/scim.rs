//! `ringfence scim …`: what identity providers say themselves of who their people are.

use ringfence_control::api::{ChangeReport, CreatedScimToken, ProviderList, ProviderView};

use crate::args::ScimCommand;
use crate::client::{Client, path_segment};
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::when;

pub(super) fn run(command: ScimCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        ScimCommand::Token { provider } => {
            let route = format!("/providers/{}/scim-token", path_segment(provider.as_str())?);
            let created: CreatedScimToken = client.post(&route, &serde_json::json!({}))?;
            output.answer(&created, |created| created.token.clone());
            output.note(&format!(
                "enter it at the provider as the bearer token of SCIM, with the base URL https://CONTROLLER{}; the token \
                 that {provider} had before counts no more, and who is not in its directory logs in no more",
                created.path
            ));
        }
        ScimCommand::Ls => {
            let answer: ProviderList = client.get("/providers")?;
            output.answer(&answer.providers, |providers| providers_text(providers));
        }
        ScimCommand::Revoke { provider } => {
            let route = format!("/providers/{}/scim-token", path_segment(provider.as_str())?);
            let report: ChangeReport = client.delete(&route)?;
            output.answer(&report, |report| {
                format!("SCIM token of {provider} revoked; revision {}", report.revision)
            });
        }
    }
    Ok(())
}

fn providers_text(providers: &[ProviderView]) -> String {
    table(
        ["PROVIDER", "TOKEN SINCE", "PEOPLE", "GROUPS"],
        providers.iter().map(|provider| {
            let scim = provider.scim.as_ref();
            let count =
                |count: Option<usize>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
            [
                provider.name.to_string(),
                when::at_or_never(scim.and_then(|scim| scim.token_created_ms)),
                count(scim.map(|scim| scim.people)),
                count(scim.map(|scim| scim.groups)),
            ]
        }),
    )
}
