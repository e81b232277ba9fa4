//! TLS as every connection of ours uses it.
//!
//! **Invariant:** TLS 1.3, no tickets, no session storage, no early data: nothing of an earlier connection counts in a
//! later one, so a certificate that stopped counting stops at the next handshake.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::TransportError;
use crate::identity::IdentityKey;
use crate::pin::ControllerVerifier;

/// What a client shows of itself.
pub(crate) struct ClientIdentity<'a> {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: &'a IdentityKey,
}

/// The algorithms: aws-lc-rs, hybrid X25519MLKEM768 first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn client_config(
    verifier: ControllerVerifier,
    identity: Option<ClientIdentity<'_>>,
    alpn: &[u8],
) -> Result<ClientConfig, TransportError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key.expose_for_tls())
            .map_err(|error| setup(&error))?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The control channel's server: asks for a client certificate, and takes a client without one for enrolment alone.
pub(crate) fn quic_server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authority: &CertificateDer<'static>,
) -> Result<ServerConfig, TransportError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| setup(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TransportError::Setup(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| setup(&error))?;
    config.alpn_protocols = vec![ALPN_CONTROL.to_vec(), ALPN_ENROLL.to_vec()];
    forget_sessions(&mut config);
    Ok(config)
}

/// The REST API's server.
///
/// # Errors
/// [`TransportError::Setup`] if chain and key do not belong together.
pub fn https_server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TransportError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| setup(&error))?;
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    forget_sessions(&mut config);
    Ok(config)
}

fn forget_sessions(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

fn setup(error: &rustls::Error) -> TransportError {
    TransportError::Setup(format!("TLS cannot be set up: {error}"))
}

/// The name every client asks for, whatever address it reached the controller at.
pub const SERVER_NAME: &str = "ringfence-controller";

pub(crate) const ALPN_CONTROL: &[u8] = b"ringfence-control/1";
pub(crate) const ALPN_ENROLL: &[u8] = b"ringfence-enroll/1";
pub(crate) const ALPN_HTTP: &[u8] = b"http/1.1";
