//! Takes an identity in a mesh with a join token.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use zeroize::Zeroizing;

use ringfence_model::Name;
use ringfence_transport::{EnrollError, EnrollRefusalCode, IdentityKey, JoinToken, TransportError};

use crate::arguments::JoinArguments;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::state::{FORMAT, NodeFile, StateDir};

/// Enrols this machine. What is in `state` counts only once all of it is written.
///
/// # Errors
/// If there is no token, the controller refuses it, or the identity cannot be kept.
pub(crate) async fn enroll(state: &StateDir, join: &JoinArguments) -> Result<NodeFile, Failure> {
    state.check_vacant()?;
    let token = token(join)?;
    let name = join.name.clone().or_else(host_name);
    let key = IdentityKey::generate().context("making an identity key")?;
    // On disk before the token is spent: a full disk must not cost it.
    let path = state.identity_path()?;
    key.write(&path).context("saving the identity key")?;
    let enrolled = ringfence_transport::enroll(&token, &key, name)
        .await
        .map_err(failure)?;
    let response = enrolled.response;
    let identity = Identity::new(Arc::new(key), response.certificate_chain_pem, response.ca_pem)?;
    state.save_ca(&identity.ca_pem)?;
    identity.save(state)?;
    let node = NodeFile {
        format: FORMAT,
        mesh: response.mesh,
        node: response.node,
        name: response.name,
        controllers: response.controllers,
    };
    state.save_node(&node)?;
    tracing::info!(node = %node.name, id = %node.node, mesh = %node.mesh, "enrolled");
    Ok(node)
}

fn token(join: &JoinArguments) -> Result<JoinToken, Failure> {
    let text = match (&join.token_file, &join.token) {
        (Some(path), _) => read_token(path)?,
        (None, Some(token)) => Zeroizing::new(token.expose().to_owned()),
        (None, None) => {
            return Err(Failure::Usage(
                "a join token is needed: --token-file FILE, RINGFENCE_TOKEN or --token TOKEN".to_owned(),
            ));
        }
    };
    text.trim()
        .parse()
        .map_err(|error: ringfence_transport::TokenError| Failure::Usage(error.to_string()))
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("reading the join token from {}", path.display()))?;
    Ok(text)
}

/// The host's name as a node's name, as far as it can be one.
fn host_name() -> Option<Name> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    as_name(text.trim())
}

fn as_name(host: &str) -> Option<Name> {
    let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let allowed = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let text: String = first
        .chars()
        .map(allowed)
        .take(ringfence_model::NAME_BYTES_MAX)
        .collect();
    Name::parse(text.trim_matches('-')).ok()
}

fn failure(error: EnrollError) -> Failure {
    match error {
        EnrollError::Refused(refusal) => match refusal.code {
            EnrollRefusalCode::TokenUnknown
            | EnrollRefusalCode::TokenUsed
            | EnrollRefusalCode::TokenExpired
            | EnrollRefusalCode::TokenRevoked
            | EnrollRefusalCode::NameTaken
            | EnrollRefusalCode::Other => Failure::Denied(refusal.message),
            EnrollRefusalCode::BadRequest | EnrollRefusalCode::Internal => Failure::Failed(refusal.into()),
        },
        EnrollError::Transport(error) => match error {
            TransportError::Unreachable { .. } | TransportError::Busy { .. } => {
                Failure::Unreachable(error.to_string())
            }
            TransportError::Denied { .. } | TransportError::Disowned { .. } => {
                Failure::Denied(error.to_string())
            }
            TransportError::Timeout { .. } => Failure::Timeout(error.to_string()),
            TransportError::CertificateRefused { .. }
            | TransportError::Closed { .. }
            | TransportError::Protocol { .. }
            | TransportError::Setup(_) => Failure::Failed(error.into()),
        },
        EnrollError::Identity(error) => Failure::Failed(error.into()),
    }
}

/// Far more than any token, far less than what a wrong file could hold.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_node_names() {
        for (host, name) in [("db-1", "db-1"), ("DB_1.example.com", "db-1"), ("-odd-", "odd")] {
            assert_eq!(as_name(host).map(|name| name.to_string()).as_deref(), Some(name));
        }
        assert_eq!(as_name("..."), None);
        assert_eq!(
            as_name(&"x".repeat(200)).map(|name| name.as_str().len()),
            Some(63)
        );
    }

    #[test]
    fn what_is_no_token_is_a_usage_error() {
        let join = |text: &str| JoinArguments {
            token_file: None,
            token: Some(text.to_owned().into()),
            name: None,
        };

        for odd in ["", "hello", "rft_", "rft_AAAA", "rft_ä"] {
            assert!(matches!(token(&join(odd)), Err(Failure::Usage(_))), "{odd:?}");
        }
    }

    #[test]
    fn without_a_token_the_ways_to_give_one_are_named() {
        let join = JoinArguments {
            token_file: None,
            token: None,
            name: None,
        };

        let told = token(&join).err().unwrap().to_string();

        assert!(
            told.contains("--token-file") && told.contains("RINGFENCE_TOKEN"),
            "{told}"
        );
    }
}
