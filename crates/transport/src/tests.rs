//! A throw-away mesh for the tests: an authority, and what it signs.

use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::client::{ControlClient, ControlConfig};
use crate::server::{Server, ServerConfig, ServerLimits};
use crate::{
    IdentityKey, JoinToken, SERVER_NAME, TokenSecret, TransportError, WorkloadLocator, fingerprint, pem_of,
};
use ringfence_model::{Name, NodeId, TokenId};

/// The authority of one mesh.
pub(crate) struct Mesh {
    pub(crate) name: Name,
    pub(crate) ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A node with its key and certificate.
pub(crate) struct Member {
    pub(crate) key: IdentityKey,
    pub(crate) chain_pem: String,
}

/// When a certificate counts, in hours from now.
#[derive(Clone, Copy)]
pub(crate) struct Hours {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

pub(crate) const VALID: Hours = Hours { from: -1, to: 24 };
pub(crate) const EXPIRED: Hours = Hours { from: -25, to: -1 };

impl Mesh {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{name} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self {
            name: Name::parse(name).unwrap(),
            issuer: Issuer::from_ca_cert_der(&ca, key).unwrap(),
            ca,
        }
    }

    pub(crate) fn ca_pem(&self) -> String {
        pem_of(&self.ca)
    }

    /// Signs a key for `uri`, for the usage given.
    fn sign(
        &self,
        key: &KeyPair,
        uri: &str,
        usage: ExtendedKeyUsagePurpose,
        hours: Hours,
    ) -> CertificateDer<'static> {
        let mut params = params(uri, usage, hours);
        if uri.ends_with("controller") {
            params
                .subject_alt_names
                .push(SanType::DnsName(SERVER_NAME.try_into().unwrap()));
        }
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// What a node gets for its CSR.
    pub(crate) fn sign_csr(&self, csr_der: &[u8], node: u64, hours: Hours) -> String {
        let csr =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der)).unwrap();
        let uri = format!("spiffe://{}/node/{}", self.name, NodeId(node));
        let params = params(&uri, ExtendedKeyUsagePurpose::ClientAuth, hours);
        let leaf = params.signed_by(&csr.public_key, &self.issuer).unwrap();
        format!("{}{}", leaf.pem(), self.ca_pem())
    }

    pub(crate) fn member(&self, node: u64, hours: Hours) -> Member {
        let key = IdentityKey::generate().unwrap();
        let chain_pem = self.sign_csr(&key.csr_der().unwrap(), node, hours);
        Member { key, chain_pem }
    }

    /// A node certificate that says another mesh, by this mesh's authority.
    pub(crate) fn member_named(&self, mesh: &Name, node: u64) -> Member {
        let pair = KeyPair::generate().unwrap();
        let uri = format!("spiffe://{mesh}/node/{}", NodeId(node));
        let leaf = self.sign(&pair, &uri, ExtendedKeyUsagePurpose::ClientAuth, VALID);
        Member {
            key: IdentityKey::from_pair(&pair),
            chain_pem: pem_of(&leaf),
        }
    }

    /// A node whose certificate ends soon.
    pub(crate) fn member_for(&self, node: u64, rest: time::Duration) -> Member {
        let pair = KeyPair::generate().unwrap();
        let uri = format!("spiffe://{}/node/{}", self.name, NodeId(node));
        let mut params = params(&uri, ExtendedKeyUsagePurpose::ClientAuth, VALID);
        params.not_after = OffsetDateTime::now_utc() + rest;
        let leaf = params.signed_by(&pair, &self.issuer).unwrap();
        Member {
            key: IdentityKey::from_pair(&pair),
            chain_pem: leaf.pem(),
        }
    }

    /// A server's chain and key; `uri` and `usage` say what for.
    pub(crate) fn server_identity(
        &self,
        uri: &str,
        usage: ExtendedKeyUsagePurpose,
        hours: Hours,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = self.sign(&key, uri, usage, hours);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (vec![leaf, self.ca.clone()], key)
    }

    pub(crate) fn controller_identity(
        &self,
        hours: Hours,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let uri = format!("spiffe://{}/controller", self.name);
        self.server_identity(&uri, ExtendedKeyUsagePurpose::ServerAuth, hours)
    }

    pub(crate) fn server(&self) -> Server {
        self.server_with(VALID, ServerLimits::default())
    }

    pub(crate) fn server_with(&self, hours: Hours, limits: ServerLimits) -> Server {
        let (chain, key) = self.controller_identity(hours);
        let config = ServerConfig {
            mesh: self.name.clone(),
            chain,
            key,
            ca: self.ca.clone(),
            limits,
            reset_key: zeroize::Zeroizing::new([9; 32]),
        };
        Server::bind(([127, 0, 0, 1], 0).into(), config).unwrap()
    }

    pub(crate) fn token(&self, server: SocketAddr) -> JoinToken {
        JoinToken {
            controllers: vec![server.to_string()],
            ca_fingerprint: fingerprint(&self.ca),
            mesh: self.name.clone(),
            id: TokenId(5),
            secret: TokenSecret::from_random([6; 32]),
        }
    }

    pub(crate) fn locator(&self, server: SocketAddr) -> WorkloadLocator {
        WorkloadLocator {
            controllers: vec![server.to_string()],
            ca_fingerprint: fingerprint(&self.ca),
            mesh: self.name.clone(),
            issuer: Name::parse("prod").unwrap(),
        }
    }

    /// Connects `member` to `server`, trusting this mesh's authority.
    pub(crate) async fn connect(
        &self,
        member: &Member,
        server: SocketAddr,
    ) -> Result<ControlClient, TransportError> {
        let config = ControlConfig {
            controllers: &[server.to_string()],
            mesh: &self.name,
            ca_pem: &self.ca_pem(),
            certificate_chain_pem: &member.chain_pem,
            key: &member.key,
        };
        within(ControlClient::connect(config)).await
    }
}

fn params(uri: &str, usage: ExtendedKeyUsagePurpose, hours: Hours) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("test");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![usage];
    params.not_before = OffsetDateTime::now_utc() + time::Duration::hours(hours.from);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::hours(hours.to);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("this should have happened by now")
}
