//! `ringfence token …`: join tokens.

use ringfence_control::api::{ChangeReport, CreateTokenRequest, CreatedToken, TokenList};

use crate::args::{TokenCommand, labels};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::when;

pub(super) fn run(command: TokenCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        TokenCommand::Create {
            labels: pairs,
            ttl,
            uses,
        } => {
            let request = CreateTokenRequest {
                labels: labels(&pairs)?,
                ttl_seconds: ttl.as_secs(),
                uses,
            };
            let created: CreatedToken = client.post("/tokens", &request)?;
            output.answer(&created, |created| created.token.clone());
            output.note(&format!(
                "token {} gives [{}], counts until {}",
                created.id,
                request.labels,
                when::at(created.expires_ms)
            ));
        }
        TokenCommand::Ls => {
            let answer: TokenList = client.get("/tokens")?;
            output.answer(&answer, |answer| {
                table(
                    ["ID", "STATE", "LABELS", "LEFT", "CREATED", "EXPIRES"],
                    answer.tokens.iter().map(|token| {
                        [
                            token.id.to_string(),
                            format!("{:?}", token.state).to_lowercase(),
                            token.labels.to_string(),
                            format!("{}/{}", token.uses_left, token.uses),
                            when::at(token.created_ms),
                            when::at(token.expires_ms),
                        ]
                    }),
                )
            });
        }
        TokenCommand::Revoke { id } => {
            let report: ChangeReport = client.delete(&format!("/tokens/{id}"))?;
            output.answer(&report, |report| {
                format!("token {id} revoked; revision {}", report.revision)
            });
        }
    }
    Ok(())
}
