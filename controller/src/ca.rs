//! The mesh's certificate authority: its key, and the certificates it signs (DESIGN.md 5, identity).
//!
//! **Invariant:** from a signing request it takes the public key and nothing else. Names, validity and usages are
//! this file's: what a node asks to be called in its CSR never reaches a certificate.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use ringfence_model::{Name, NodeId, UnixMillis};
use ringfence_transport::{SERVER_NAME, SpiffeId, pem_of};

/// The authority of one mesh.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    mesh: Name,
}

/// A new authority, as it is written to the data directory.
pub struct NewAuthority {
    /// The self-signed certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: Zeroizing<String>,
}

/// A node certificate, with what the log records of it.
pub struct NodeCertificate {
    /// Leaf and CA, in that order.
    pub chain_pem: String,
    /// The leaf's serial number in hex.
    pub serial: String,
    /// When it ends.
    pub not_after: UnixMillis,
}

/// What the controller's own listeners present.
pub struct ServerCertificate {
    /// Leaf and CA, in that order.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key, born with it and never written down.
    pub key: PrivateKeyDer<'static>,
}

/// A signing request, once its signature has proved that the sender holds the key.
pub struct SigningRequest {
    request: CertificateSigningRequestParams,
}

/// Why a certificate cannot be issued or an authority not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The CSR does not parse or its signature is wrong.
    #[error("the certificate signing request is not valid: {0}")]
    Request(rcgen::Error),
    /// The authority's own files do not parse or do not belong together.
    #[error("the certificate authority cannot be read: {0}")]
    Authority(rcgen::Error),
    /// Signing failed.
    #[error("the certificate cannot be signed: {0}")]
    Sign(rcgen::Error),
    /// A name cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
}

impl NewAuthority {
    /// Draws a key and signs the authority's own certificate.
    ///
    /// # Errors
    /// [`CaError::Sign`] if the crypto provider fails.
    pub fn generate(mesh: &Name, wall: UnixMillis) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(format!("Ringfence {mesh} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(wall, CA_VALIDITY);
        let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl CertificateAuthority {
    /// Takes the authority as [`NewAuthority`] wrote it.
    ///
    /// # Errors
    /// [`CaError::Authority`] if the texts do not parse.
    pub fn load(mesh: Name, certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        use rustls_pki_types::pem::PemObject as _;
        let key = KeyPair::from_pem(key_pem).map_err(CaError::Authority)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| CaError::Authority(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(CaError::Authority)?;
        Ok(Self {
            issuer,
            certificate,
            mesh,
        })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A secret for [`ringfence_transport::ServerConfig::reset_key`], the same for as long as the authority is.
    pub fn reset_key(&self) -> Zeroizing<[u8; 32]> {
        use sha2::Digest as _;
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        let digest = sha2::Sha256::new()
            .chain_update(b"ringfence stateless reset 1\0")
            .chain_update(key.as_slice());
        Zeroizing::new(digest.finalize().into())
    }

    /// Signs a node's certificate: `spiffe://<mesh>/node/<id>`, client authentication only, 24 h.
    ///
    /// # Errors
    /// [`CaError::Sign`] if the crypto provider fails.
    pub fn sign_node(
        &self,
        request: &SigningRequest,
        node: NodeId,
        wall: UnixMillis,
    ) -> Result<NodeCertificate, CaError> {
        let mut params = CertificateParams::default();
        let identity = SpiffeId::Node {
            mesh: self.mesh.clone(),
            node,
        };
        params.distinguished_name = common_name(node.to_string());
        params.subject_alt_names = vec![SanType::URI(ia5(identity.to_string())?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(wall, NODE_VALIDITY);
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params
            .signed_by(&request.request.public_key, &self.issuer)
            .map_err(CaError::Sign)?;
        Ok(NodeCertificate {
            chain_pem: format!("{}{}", leaf.pem(), pem_of(&self.certificate)),
            serial: hex::encode(serial),
            not_after: wall.saturating_add(NODE_VALIDITY),
        })
    }

    /// Signs a fresh certificate for the controller's listeners, valid for `hosts` (names and addresses) besides the
    /// fixed name that nodes and the CLI ask for.
    ///
    /// # Errors
    /// If a host cannot stand in a certificate or the crypto provider fails.
    pub fn sign_server(&self, hosts: &[String], wall: UnixMillis) -> Result<ServerCertificate, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let mut params = CertificateParams::default();
        let identity = SpiffeId::Controller {
            mesh: self.mesh.clone(),
        };
        params.distinguished_name = common_name(format!("Ringfence {} controller", self.mesh));
        params.subject_alt_names = vec![
            SanType::DnsName(ia5(SERVER_NAME.to_owned())?),
            SanType::URI(ia5(identity.to_string())?),
        ];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(ia5(host.clone())?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(wall, SERVER_VALIDITY);
        let leaf = params.signed_by(&key, &self.issuer).map_err(CaError::Sign)?;
        Ok(ServerCertificate {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

impl SigningRequest {
    /// Reads a DER-encoded PKCS#10 request and checks that it is signed by the key it carries (RFC 2986).
    ///
    /// # Errors
    /// [`CaError::Request`] says what is wrong.
    pub fn from_der(der: &[u8]) -> Result<Self, CaError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(CaError::Request)?;
        Ok(Self { request })
    }

    /// The key that asks, as DER `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> Vec<u8> {
        self.request.public_key.subject_public_key_info()
    }
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn ia5(text: String) -> Result<Ia5String, CaError> {
    Ia5String::try_from(text.clone()).map_err(|_| CaError::Name(text))
}

/// From a little before `wall`, for clocks that run behind, to `wall` plus `length`.
fn validity(wall: UnixMillis, length: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let at = |ms: u64| {
        let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let skew = u64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(0);
    (at(wall.0.saturating_sub(skew)), at(wall.saturating_add(length).0))
}

fn random_serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|_| CaError::Sign(rcgen::Error::RingUnspecified))?;
    // A positive, non-zero INTEGER (RFC 5280 section 4.1.2.2).
    serial[0] = (serial[0] & 0x7f) | 0x01;
    Ok(serial)
}

/// How long a node's certificate counts: a stolen one is worthless within a day even if nobody notices.
pub const NODE_VALIDITY: Duration = Duration::from_hours(24);

const CA_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);
/// The server's leaf is signed anew at every start and every third of this.
pub const SERVER_VALIDITY: Duration = Duration::from_hours(30 * 24);
const CLOCK_SKEW: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    const WALL: UnixMillis = UnixMillis(1_800_000_000_000);

    fn authority() -> CertificateAuthority {
        let mesh = Name::parse("acme").unwrap();
        let new = NewAuthority::generate(&mesh, WALL).unwrap();
        CertificateAuthority::load(mesh, &new.certificate_pem, &new.key_pem).unwrap()
    }

    fn request_that_claims(names: &[&str]) -> SigningRequest {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let csr = CertificateParams::new(names)
            .unwrap()
            .serialize_request(&key)
            .unwrap();
        SigningRequest::from_der(csr.der()).unwrap()
    }

    #[test]
    fn a_node_certificate_says_only_what_the_controller_says() {
        let request = request_that_claims(&["ringfence-controller", "evil.example"]);

        let issued = authority().sign_node(&request, NodeId(7), WALL).unwrap();

        let (_, pem) = parse_x509_pem(issued.chain_pem.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let names: Vec<String> = leaf
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        assert_eq!(names, ["URI(\"spiffe://acme/node/0000000000000007\")"]);
        assert!(!leaf.is_ca());
        assert_eq!(
            leaf.validity().not_after.timestamp(),
            (WALL.0 / 1000 + 24 * 3600).cast_signed()
        );
        assert_eq!(leaf.public_key().raw, request.public_key_der());
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let mut der = csr.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;

        assert!(matches!(SigningRequest::from_der(&der), Err(CaError::Request(_))));
        assert!(matches!(
            SigningRequest::from_der(b"not DER"),
            Err(CaError::Request(_))
        ));
    }

    #[test]
    fn a_server_certificate_covers_the_fixed_name_and_the_advertised_host() {
        let server = authority()
            .sign_server(&["10.0.0.1".to_owned(), "controller.example".to_owned()], WALL)
            .unwrap();

        let (_, leaf) = parse_x509_certificate(&server.chain[0]).unwrap();
        let names = format!(
            "{:?}",
            leaf.subject_alternative_name()
                .unwrap()
                .unwrap()
                .value
                .general_names
        );
        for name in [
            SERVER_NAME,
            "controller.example",
            "spiffe://acme/controller",
            "[10, 0, 0, 1]",
        ] {
            assert!(names.contains(name), "{name} is missing from {names}");
        }
    }
}
