//! A node's side of the control channel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use crate::TransportError;
use crate::certificate::certificates_from_pem;
use crate::identity::IdentityKey;
use crate::link::{CloseReason, Holds, Link, Receiver, Sender};
use crate::pin::ControllerVerifier;
use crate::tls::{ALPN_CONTROL, ClientIdentity, SERVER_NAME, client_config, provider};
use ringfence_control::{FRAME_HEADER_BYTES, ToController, ToNode, parse_header};
use ringfence_model::Name;

/// What a node needs to open its control channel.
pub struct ControlConfig<'a> {
    /// Where the controller may be: `host:port`, tried in order.
    pub controllers: &'a [String],
    /// The mesh it has to be the controller of.
    pub mesh: &'a Name,
    /// The authority that has to have signed its certificate, PEM.
    pub ca_pem: &'a str,
    /// This node's certificate, leaf first, PEM.
    pub certificate_chain_pem: &'a str,
    /// The key that belongs to it.
    pub key: &'a IdentityKey,
}

/// An open control channel.
pub struct ControlClient {
    /// What to say.
    pub sender: Sender<ToController>,
    /// What is said.
    pub receiver: Receiver<ToNode>,
    /// The address that answered.
    pub remote: SocketAddr,
}

impl ControlClient {
    /// Opens the channel at the first address where the controller proves itself and takes this node.
    ///
    /// # Errors
    /// The most telling failure of all addresses: that the controller refuses this node says more than that another
    /// address is dead.
    pub async fn connect(config: ControlConfig<'_>) -> Result<Self, TransportError> {
        let ca = one_authority(config.ca_pem)?;
        let verifier = ControllerVerifier::with_authority(&ca, Some(config.mesh.clone()), provider())
            .map_err(TransportError::Setup)?;
        let identity = ClientIdentity {
            chain: certificates_from_pem(config.certificate_chain_pem)?,
            key: config.key,
        };
        let tls = client_config(verifier, Some(identity), ALPN_CONTROL)?;
        let quic = quic_config(tls)?;
        try_each(config.controllers, async |address| {
            let (endpoint, connection) = open(address, &quic).await?;
            control_on(endpoint, connection).await
        })
        .await
    }
}

/// Waits until the controller has looked at the certificate and takes this node: it opens the stream.
async fn control_on(endpoint: Endpoint, connection: Connection) -> Result<ControlClient, TransportError> {
    let remote = connection.remote_address();
    let link = Arc::new(Link {
        connection,
        holds: Holds::Client(endpoint),
    });
    let accepted = timeout(ACCEPT_TIMEOUT, async {
        let (send, mut receive) = link.connection.accept_bi().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        receive
            .read_exact(&mut header)
            .await
            .map_err(|error| TransportError::Closed {
                why: error.to_string(),
            })?;
        match parse_header(header, 0) {
            Ok((0, KIND_ACCEPTED)) => Ok((send, receive)),
            Ok(_) | Err(_) => Err(TransportError::Protocol {
                why: "its first word is none of ours".to_owned(),
            }),
        }
    });
    let (send, receive) = accepted
        .await
        .map_err(|_| TransportError::Timeout { what: "admission" })??;
    Ok(ControlClient {
        sender: Sender::new(send, Arc::clone(&link)),
        receiver: Receiver::new(receive, link),
        remote,
    })
}

pub(crate) fn one_authority(pem: &str) -> Result<CertificateDer<'static>, TransportError> {
    let mut certificates = certificates_from_pem(pem)?;
    match (certificates.pop(), certificates.is_empty()) {
        (Some(ca), true) => Ok(ca),
        (_, _) => Err(TransportError::Setup(
            "one authority is needed, not several".to_owned(),
        )),
    }
}

pub(crate) fn quic_config(tls: rustls::ClientConfig) -> Result<ClientConfig, TransportError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| TransportError::Setup(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    bound_transport(&mut transport);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What holds for both ends of every connection.
pub(crate) fn bound_transport(transport: &mut TransportConfig) {
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS_MAX))));
}

/// Tries each `host:port` in order.
pub(crate) async fn try_each<T>(
    addresses: &[String],
    connect: impl AsyncFn(SocketAddr) -> Result<T, TransportError>,
) -> Result<T, TransportError> {
    let mut worst = TransportError::Unreachable {
        tried: "no address".to_owned(),
        why: "none is known".to_owned(),
    };
    for address in addresses {
        let resolved = match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(address.as_str())).await {
            Ok(Ok(resolved)) => resolved.take(RESOLVED_MAX).collect(),
            Ok(Err(error)) => {
                keep_most_telling(&mut worst, unreachable(addresses, &format!("{address}: {error}")));
                Vec::new()
            }
            Err(_) => {
                keep_most_telling(
                    &mut worst,
                    unreachable(addresses, "the name service does not answer"),
                );
                Vec::new()
            }
        };
        for address in resolved {
            match connect(address).await {
                Ok(connected) => return Ok(connected),
                Err(error) => keep_most_telling(&mut worst, error),
            }
        }
    }
    // Silence at every address is one thing to an operator, however it was noticed.
    match worst {
        TransportError::Unreachable { why, .. } => Err(unreachable(addresses, &why)),
        TransportError::Timeout { .. } => Err(unreachable(addresses, "nobody answers")),
        telling => Err(telling),
    }
}

fn keep_most_telling(worst: &mut TransportError, error: TransportError) {
    if error.telling() >= worst.telling() {
        *worst = error;
    }
}

fn unreachable(tried: &[String], why: &str) -> TransportError {
    TransportError::Unreachable {
        tried: tried.join(", "),
        why: why.to_owned(),
    }
}

/// A handshake with one address, on a socket of its own.
pub(crate) async fn open(
    address: SocketAddr,
    config: &ClientConfig,
) -> Result<(Endpoint, Connection), TransportError> {
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let here = |why: String| TransportError::Unreachable {
        tried: address.to_string(),
        why,
    };
    let endpoint = Endpoint::client(any).map_err(|error| here(error.to_string()))?;
    let connecting = endpoint
        .connect_with(config.clone(), address, SERVER_NAME)
        .map_err(|error| here(error.to_string()))?;
    let connection = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| here("nobody answers".to_owned()))??;
    Ok((endpoint, connection))
}

/// Closes and lets the last words leave.
pub(crate) async fn say_goodbye(endpoint: &Endpoint, connection: &Connection) {
    connection.close(CloseReason::Done.code(), b"");
    // If they do not leave in time, the other end's idle timeout does the same.
    let _ = timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await;
}

/// The server's first word on a control stream, outside the kinds of the protocol: the certificate counts.
pub(crate) const KIND_ACCEPTED: u16 = 0;

/// How long a handshake may take before the next address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many addresses of one name are tried.
const RESOLVED_MAX: usize = 8;
/// Well within the idle timeout and the shortest mapping of a NAT that one meets.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// After this much silence the connection counts as gone, at both ends.
const IDLE_MS_MAX: u32 = 15_000;
/// One frame and what follows it.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
