//! `ringfence provider …`: whose word about people counts.

use std::path::Path;

use ringfence_control::api::{AddProviderRequest, ChangeReport, ProviderList};
use zeroize::Zeroizing;

use crate::args::{ProviderAddArgs, ProviderCommand};
use crate::client::{Client, path_segment};
use crate::failure::Failure;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(command: ProviderCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        ProviderCommand::Add(args) => {
            let request = request_of(*args)?;
            let report: ChangeReport = client.post("/providers", &request)?;
            output.answer(&report, |report| {
                format!(
                    "identity provider {} added; revision {}",
                    request.name, report.revision
                )
            });
            output.note(&format!(
                "register at the provider: redirect URI http://127.0.0.1/callback (any port), back-channel logout URI \
                 https://CONTROLLER/oidc/backchannel-logout/{}",
                request.name
            ));
        }
        ProviderCommand::Ls => {
            let answer: ProviderList = client.get("/providers")?;
            output.answer(&answer, |answer| {
                table(
                    [
                        "NAME",
                        "ISSUER",
                        "CLIENT",
                        "SECRET",
                        "GROUPS",
                        "SESSION",
                        "SECOND FACTOR BY",
                    ],
                    answer.providers.iter().map(|provider| {
                        let factors = provider.mfa_acr.iter().chain(&provider.mfa_amr);
                        [
                            provider.name.to_string(),
                            provider.issuer.clone(),
                            provider.client_id.clone(),
                            if provider.confidential { "yes" } else { "no" }.to_owned(),
                            provider.groups_claim.clone().unwrap_or_else(|| "-".to_owned()),
                            when::seconds(provider.session_seconds),
                            list(&factors.collect::<Vec<_>>()),
                        ]
                    }),
                )
            });
        }
        ProviderCommand::Rm { name } => {
            let route = format!("/providers/{}", path_segment(name.as_str())?);
            let report: ChangeReport = client.delete(&route)?;
            output.answer(&report, |report| {
                format!("identity provider {name} removed; revision {}", report.revision)
            });
        }
    }
    Ok(())
}

fn request_of(args: ProviderAddArgs) -> Result<AddProviderRequest, Failure> {
    let secret = args.client_secret_file.as_deref().map(read).transpose()?;
    let ca = args.ca_file.as_deref().map(read).transpose()?;
    Ok(AddProviderRequest {
        name: args.name,
        issuer: args.issuer,
        client_id: args.client_id,
        client_secret: secret.map(|secret| Zeroizing::new(secret.trim().to_owned())),
        scopes: args.scopes,
        groups_claim: args.groups_claim,
        directory_claim: args.directory_claim,
        session_seconds: args.session.as_secs(),
        mfa_acr: args.mfa_acr,
        mfa_amr: args.mfa_amr,
        allow_private_address: args.allow_private_address,
        ca_pem: ca.map(|pem| pem.to_string()),
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => Err(Failure::failed(format_args!("{}: {error}", path.display()))),
    }
}
