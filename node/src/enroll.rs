//! Takes an identity in a mesh with a join token, or a token of this machine's platform.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use zeroize::Zeroizing;

use ringfence_model::Name;
use ringfence_transport::{
    EnrollError, EnrollRefusalCode, Enrolled, IdentityKey, JoinToken, PlatformToken, TransportError,
    WorkloadLocator,
};

use crate::arguments::JoinArguments;
use crate::failure::Failure;
use crate::identity::{Identity, sealed};
use crate::state::{FORMAT, NodeFile, StateDir};
use crate::tpm::TpmPlace;

/// What lets this machine in.
enum Ticket {
    Token(JoinToken),
    Workload(WorkloadLocator, PlatformToken),
}

/// Enrols this machine. What is in `state` counts only once all of it is written.
///
/// # Errors
/// If there is nothing to join with, the controller refuses it, or the identity cannot be kept.
pub(crate) async fn enroll(
    state: &StateDir,
    tpm: Option<&TpmPlace>,
    join: &JoinArguments,
) -> Result<NodeFile, Failure> {
    state.check_vacant()?;
    let ticket = ticket(join)?;
    let name = join.name.clone().or_else(host_name);
    let key = IdentityKey::generate().context("making an identity key")?;
    // On disk before the token is spent: a full disk must not cost it.
    sealed::keep(state, tpm, &key)?;
    let Enrolled { response, .. } = present(ticket, &key, name).await.map_err(failure)?;
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

async fn present(ticket: Ticket, key: &IdentityKey, name: Option<Name>) -> Result<Enrolled, EnrollError> {
    match ticket {
        Ticket::Token(token) => ringfence_transport::enroll(&token, key, name).await,
        Ticket::Workload(locator, jwt) => {
            ringfence_transport::enroll_workload(&locator, jwt, key, name).await
        }
    }
}

fn ticket(join: &JoinArguments) -> Result<Ticket, Failure> {
    let Some(locator) = &join.workload else {
        return token(join).map(Ticket::Token);
    };
    let locator = locator
        .parse()
        .map_err(|error: ringfence_transport::LocatorError| Failure::Usage(format!("--workload: {error}")))?;
    let (from, text) = match (&join.jwt_file, &join.jwt_env) {
        (Some(path), _) => (
            path.display().to_string(),
            read_secret(path, "the platform's token")?,
        ),
        (None, Some(variable)) => {
            let text = std::env::var(variable).map_err(|error| {
                Failure::Usage(format!("--jwt-env: the environment variable {variable}: {error}"))
            })?;
            (variable.clone(), Zeroizing::new(text))
        }
        (None, None) => {
            return Err(Failure::Usage(
                "the platform's token is needed beside --workload: --jwt-file FILE or --jwt-env VARIABLE"
                    .to_owned(),
            ));
        }
    };
    let jwt = PlatformToken::parse(&text).map_err(|error| Failure::Usage(format!("{from}: {error}")))?;
    Ok(Ticket::Workload(locator, jwt))
}

fn token(join: &JoinArguments) -> Result<JoinToken, Failure> {
    let text = match (&join.token_file, &join.token) {
        (Some(path), _) => read_secret(path, "the join token")?,
        (None, Some(token)) => Zeroizing::new(token.expose().to_owned()),
        (None, None) => {
            return Err(Failure::Usage(
                "a join token is needed: --token-file FILE, RINGFENCE_TOKEN or --token TOKEN; or --workload LOCATOR"
                    .to_owned(),
            ));
        }
    };
    text.trim()
        .parse()
        .map_err(|error: ringfence_transport::TokenError| Failure::Usage(error.to_string()))
}

fn read_secret(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(SECRET_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("reading {what} from {}", path.display()))?;
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
            | EnrollRefusalCode::WorkloadRefused
            | EnrollRefusalCode::Other => Failure::Denied(refusal.message),
            EnrollRefusalCode::BadRequest
            | EnrollRefusalCode::IssuerUnreachable
            | EnrollRefusalCode::Internal => Failure::Failed(refusal.into()),
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
const SECRET_BYTES_MAX: u64 = 64 * 1024;

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
            token: Some(text.to_owned().into()),
            ..JoinArguments::default()
        };

        for odd in ["", "hello", "rft_", "rft_AAAA", "rft_ä"] {
            assert!(matches!(token(&join(odd)), Err(Failure::Usage(_))), "{odd:?}");
        }
    }

    #[test]
    fn without_a_token_the_ways_to_give_one_are_named() {
        let told = ticket(&JoinArguments::default()).err().unwrap().to_string();

        assert!(
            told.contains("--token-file") && told.contains("RINGFENCE_TOKEN") && told.contains("--workload"),
            "{told}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_workloads_ticket_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let good = WorkloadLocator {
            controllers: vec!["192.0.2.1:7443".to_owned()],
            ca_fingerprint: [1; 32],
            mesh: Name::parse("acme").unwrap(),
            issuer: Name::parse("prod").unwrap(),
        };
        let join = |locator: &str, jwt_file, jwt_env: Option<&str>| JoinArguments {
            workload: Some(locator.to_owned()),
            jwt_file,
            jwt_env: jwt_env.map(ToOwned::to_owned),
            ..JoinArguments::default()
        };
        let told = |join: JoinArguments| ticket(&join).err().unwrap().to_string();
        let locator = good.to_text();

        assert!(told(join("rft_AAAA", file("a", "a.b.c"), None)).contains("no workload locator"));
        assert!(told(join(&locator, None, None)).contains("--jwt-file FILE or --jwt-env VARIABLE"));
        assert!(told(join(&locator, file("b", "rft_AAAA"), None)).contains("no signed JWT"));
        assert!(told(join(&locator, file("c", ""), None)).contains("empty"));
        assert!(told(join(&locator, file("d", &"x".repeat(20_000)), None)).contains("longer than 16 KiB"));
        assert!(told(join(&locator, None, Some("RINGFENCE_NOT_THERE"))).contains("RINGFENCE_NOT_THERE"));
        let Ok(Ticket::Workload(read, jwt)) = ticket(&join(&locator, file("e", "a.b.c\n"), None)) else {
            panic!("it is as it should be");
        };
        assert_eq!((read, jwt.expose()), (good, "a.b.c"));
    }
}
