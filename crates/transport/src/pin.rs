//! Decides whether the other end is the controller: signed by our authority, and named as the controller of our mesh.
//!
//! **Invariant:** a node's certificate never passes for the controller's, though one authority signed both: extended
//! key usage, DNS name and identity each say otherwise, and all three are checked.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use subtle::ConstantTimeEq as _;

use crate::certificate::{PeerIdentity, fingerprint};
use crate::spiffe::SpiffeId;
use ringfence_model::Name;

/// What the controller's certificate has to fulfil.
#[derive(Debug)]
pub(crate) struct ControllerVerifier {
    trust: Trust,
    /// The mesh it has to be the controller of; any, where the authority alone says which.
    mesh: Option<Name>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    /// The authority is known.
    Authority(Arc<WebPkiServerVerifier>),
    /// Only its fingerprint is, from a join token: the controller shows it in its chain.
    Fingerprint([u8; 32]),
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl ControllerVerifier {
    pub(crate) fn with_authority(
        authority: &CertificateDer<'static>,
        mesh: Option<Name>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let verifier = webpki(authority, &provider)?;
        Ok(Self {
            trust: Trust::Authority(verifier),
            mesh,
            provider,
        })
    }

    pub(crate) fn with_fingerprint(
        fingerprint: [u8; 32],
        mesh: Option<Name>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            trust: Trust::Fingerprint(fingerprint),
            mesh,
            provider,
        }
    }

    fn authority_among(
        &self,
        pinned: &[u8; 32],
        chain: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let authority = chain
            .iter()
            .find(|certificate| bool::from(fingerprint(certificate).ct_eq(pinned)))
            .ok_or_else(|| refusal("the controller shows another authority than the join token names"))?;
        webpki(&authority.clone().into_owned(), &self.provider).map_err(|why| refusal(&why))
    }
}

fn webpki(
    authority: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone())
        .map_err(|error| format!("the authority's certificate does not serve as one: {error}"))?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

fn refusal(why: &str) -> rustls::Error {
    let refusal = Refusal(why.to_owned());
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

impl ServerCertVerifier for ControllerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if intermediates.len() > CHAIN_MAX {
            return Err(refusal("its chain is too long"));
        }
        let pinned;
        let verifier = match &self.trust {
            Trust::Authority(verifier) => verifier,
            Trust::Fingerprint(fingerprint) => {
                pinned = self.authority_among(fingerprint, intermediates)?;
                &pinned
            }
        };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let identity = PeerIdentity::from_leaf(end_entity).map_err(|error| refusal(&error.to_string()))?;
        match (&identity.id, &self.mesh) {
            (SpiffeId::Controller { mesh }, Some(ours)) if mesh != ours => Err(refusal(&format!(
                "it is the controller of mesh {mesh}, not of {ours}"
            ))),
            (SpiffeId::Controller { .. }, _) => Ok(verified),
            (SpiffeId::Node { .. }, _) => Err(refusal("it is a node's, not the controller's")),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Leaf and authority, with one to spare.
const CHAIN_MAX: usize = 3;
