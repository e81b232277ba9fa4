//! The controller's side of the QUIC port: one socket, two protocols, told apart by ALPN.
//!
//! **Invariant:** what a stranger can make this hold is bounded: handshakes in flight, connections, bytes before the
//! first message, and time for each step have named limits, each source has its own share of them, and past half of
//! either an address has to prove that it is one (RFC 9000 section 8.1.2) before it costs anything.

mod greet;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use quinn_proto::HashedConnectionIdGenerator;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::TransportError;
use crate::admission::{AttemptLimiter, UnderWay};
use crate::client::bound_transport;
use crate::enroll::{EnrollRefusal, EnrollResponse};
use crate::link::CloseReason;
use crate::tls::quic_server_config;
use ringfence_model::Name;

pub use greet::{ControlRequest, EnrollAttempt};

/// What the port is opened with.
pub struct ServerConfig {
    /// The mesh whose nodes may come.
    pub mesh: Name,
    /// The controller's certificate, leaf first, and the authority's: enrolment shows both.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key that belongs to it.
    pub key: PrivateKeyDer<'static>,
    /// The authority that signs nodes' certificates.
    pub ca: CertificateDer<'static>,
    /// What strangers and nodes may ask for.
    pub limits: ServerLimits,
    /// A secret that stays the same from one start to the next: nodes are told at once that the controller they talked
    /// to is no more (RFC 9000 section 10.3), and come back, instead of waiting for their idle timeout.
    pub reset_key: Zeroizing<[u8; 32]>,
}

/// What strangers and nodes may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at once; more are refused.
    pub connections: usize,
    /// Handshakes at once; past half, addresses prove themselves first; past all, more are refused.
    pub handshakes: usize,
    /// The same for each source, so that one cannot use them up.
    pub handshakes_per_source: usize,
    /// How long a handshake, and then an enrolment's request, may take.
    pub handshake_timeout: Duration,
    /// Enrolments that one source may attempt at once: each refused one is an entry in the audit log.
    pub enroll_burst: u32,
    /// How often one more is added.
    pub enroll_every: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 512,
            handshakes_per_source: 128,
            handshake_timeout: Duration::from_secs(10),
            enroll_burst: 128,
            enroll_every: Duration::from_secs(1),
        }
    }
}

/// Somebody who came through the handshake.
pub enum Incoming {
    /// A node, by a certificate of ours: whether it may still come is for the caller to say.
    Control(ControlRequest),
    /// A machine with a join token or a token of its platform.
    Enroll(EnrollAttempt),
}

/// The open port.
pub struct Server {
    endpoint: Endpoint,
    incoming: mpsc::Receiver<Incoming>,
    listener: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What every connection's task needs.
struct Shared {
    mesh: Name,
    ca: CertificateDer<'static>,
    limits: ServerLimits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    under_way: UnderWay,
    attempts: Mutex<AttemptLimiter>,
    refused: AtomicU64,
    ready: mpsc::Sender<Incoming>,
}

impl Server {
    /// Opens the port. Call within a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be bound, or certificate and key do not belong together.
    pub fn bind(address: SocketAddr, config: ServerConfig) -> Result<Self, TransportError> {
        let socket = std::net::UdpSocket::bind(address)
            .map_err(|error| TransportError::Setup(format!("UDP {address} cannot be opened: {error}")))?;
        Self::on_socket(socket, config)
    }

    /// Opens the port on a socket that is bound already.
    ///
    /// # Errors
    /// If the socket cannot be used, or certificate and key do not belong together.
    pub fn on_socket(socket: std::net::UdpSocket, config: ServerConfig) -> Result<Self, TransportError> {
        let quic = quic_config(config.chain, config.key, &config.ca, config.limits)?;
        let endpoint = Endpoint::new(
            endpoint_config(&config.reset_key),
            Some(quic),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(|error| TransportError::Setup(format!("QUIC cannot be set up: {error}")))?;
        let (ready, incoming) = mpsc::channel(READY_MAX);
        let limits = config.limits;
        let shared = Arc::new(Shared {
            mesh: config.mesh,
            ca: config.ca,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            under_way: UnderWay::default(),
            attempts: Mutex::new(AttemptLimiter::new(limits.enroll_burst, limits.enroll_every)),
            refused: AtomicU64::new(0),
            ready,
        });
        let listener = tokio::spawn(greet::listen(endpoint.clone(), Arc::clone(&shared)));
        Ok(Self {
            endpoint,
            incoming,
            listener,
            shared,
        })
    }

    /// The next who came through; `None` once the port is closed. May be cancelled.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// The address it is open at.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// If certificate and key do not belong together.
    pub fn set_certificate(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TransportError> {
        let quic = quic_config(chain, key, &self.shared.ca, self.shared.limits)?;
        self.endpoint.set_server_config(Some(quic));
        Ok(())
    }

    /// How many connections and handshakes have been refused or have failed since start.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Closes every connection and lets the last words leave.
    pub async fn shutdown(self) {
        self.listener.abort();
        self.endpoint.close(CloseReason::Done.code(), b"");
        // Whoever does not hear it notices by the idle timeout.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What an enrolment is answered with.
pub type EnrollAnswer = Result<EnrollResponse, EnrollRefusal>;

/// Connection ids and reset tokens that the next process knows again.
fn endpoint_config(reset_key: &[u8; 32]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let tag = hmac::sign(&key, CONNECTION_IDS);
    let ids = tag.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes);
    let mut config = EndpointConfig::new(Arc::new(key));
    // Ids of other keys are dropped unanswered, so that a reset costs a guess of the key.
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

fn quic_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: &CertificateDer<'static>,
    limits: ServerLimits,
) -> Result<quinn::ServerConfig, TransportError> {
    let tls = quic_server_config(chain, key, ca)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| TransportError::Setup(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    bound_transport(&mut transport);
    config
        .transport_config(Arc::new(transport))
        .max_incoming(limits.handshakes)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    Ok(config)
}

/// Longer than a connection id, so that no reset token is ever made of it.
const CONNECTION_IDS: &[u8] = b"ringfence connection ids, from one start to the next";
/// Peers that came through and that the caller has not taken yet; more wait in their handshake's task.
const READY_MAX: usize = 64;
/// What may wait in front of handshakes that have not begun.
const INCOMING_BYTES_MAX: u64 = 8 * 1024 * 1024;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
