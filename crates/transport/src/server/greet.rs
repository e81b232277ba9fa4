//! From a datagram to a peer that is worth the caller's time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quinn::{Connection, Endpoint, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{EnrollAnswer, Incoming, Shared};
use crate::TransportError;
use crate::admission::{Pass, Source, canonical};
use crate::certificate::PeerIdentity;
use crate::client::KIND_ACCEPTED;
use crate::enroll::{EnrollAsk, read_request, write_answer};
use crate::link::{CloseReason, Holds, Link, LinkHandle, Receiver, Sender, from_write};
use crate::spiffe::SpiffeId;
use crate::tls::{ALPN_CONTROL, ALPN_ENROLL};
use ringfence_control::{ToController, ToNode, encode_frame};
use ringfence_model::NodeId;

/// A node that has proved who it is, and waits to hear whether it may come.
pub struct ControlRequest {
    /// Which node: out of the leaf that signed the handshake.
    pub node: NodeId,
    /// The rest of what that leaf says.
    pub identity: PeerIdentity,
    /// Where it comes from.
    pub remote: SocketAddr,
    link: Arc<Link>,
}

/// A machine that has sent an enrolment request. Dropped unanswered, it closes.
pub struct EnrollAttempt {
    /// What it asks with.
    pub request: EnrollAsk,
    /// Where it comes from.
    pub remote: SocketAddr,
    send: SendStream,
    link: Arc<Link>,
}

impl ControlRequest {
    /// Lets it in. Until then it has been told nothing.
    ///
    /// # Errors
    /// If it has gone.
    pub async fn accept(self) -> Result<(Sender<ToNode>, Receiver<ToController>), TransportError> {
        let open = async {
            let (mut send, receive) = self.link.connection.open_bi().await?;
            let accepted = encode_frame(KIND_ACCEPTED, b"").expect("an empty body is within every limit");
            let written = send.write_all(&accepted).await;
            written.map_err(|error| from_write(error, &self.link.connection))?;
            Ok::<_, TransportError>((send, receive))
        };
        let (send, receive) = timeout(STEP_TIMEOUT, open)
            .await
            .map_err(|_| TransportError::Timeout {
                what: "opening the stream",
            })??;
        // A certificate that has ended ends what it opened: the node comes again with the one it has renewed.
        if let Some(rest) = time_until(self.identity.not_after.0) {
            let handle = LinkHandle::of(&self.link);
            tokio::spawn(async move {
                let ended = handle.closed();
                if timeout(rest, ended).await.is_err() {
                    handle.close(
                        CloseReason::Denied,
                        "the certificate this connection was opened with has expired",
                    );
                }
            });
        }
        let sender = Sender::new(send, Arc::clone(&self.link));
        Ok((sender, Receiver::new(receive, self.link)))
    }

    /// Turns it away and says why. What it was told before goes on to count.
    pub fn deny(self, why: &str) {
        self.close(CloseReason::Denied, why);
    }

    /// Turns it away for it is nobody here: it is to close what it has open.
    pub fn disown(self, why: &str) {
        self.close(CloseReason::Disowned, why);
    }

    fn close(self, reason: CloseReason, why: &str) {
        self.link.connection.close(reason.code(), why.as_bytes());
    }
}

impl EnrollAttempt {
    /// Answers it.
    ///
    /// # Errors
    /// If the machine has gone: what was decided still counts.
    pub async fn answer(mut self, answer: &EnrollAnswer) -> Result<(), TransportError> {
        let send = async {
            write_answer(&mut self.send, answer).await?;
            // The client closes once it has read; closing first could lose the answer.
            self.link.connection.closed().await;
            Ok(())
        };
        timeout(STEP_TIMEOUT, send)
            .await
            .map_err(|_| TransportError::Timeout {
                what: "taking the answer",
            })?
    }
}

/// Takes what comes until the endpoint closes.
pub(super) async fn listen(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        match shared.admit(&incoming) {
            Admission::Come(places) => {
                tokio::spawn(greet(incoming, Arc::clone(&shared), places));
            }
            // Costs us a stateless answer, and the sender a forged address.
            Admission::ProveAddress => drop(incoming.retry()),
            Admission::Refuse => {
                shared.note_refused();
                incoming.refuse();
            }
        }
    }
}

enum Admission {
    Come(Places),
    ProveAddress,
    Refuse,
}

/// What a handshake takes up while it lasts.
struct Places {
    handshake: (OwnedSemaphorePermit, Pass),
    connection: OwnedSemaphorePermit,
}

impl Shared {
    fn admit(&self, incoming: &quinn::Incoming) -> Admission {
        let source = Source::of(incoming.remote_address().ip());
        let all = self.limits.handshakes - self.handshakes.available_permits();
        let own = self.under_way.count(source);
        if own >= self.limits.handshakes_per_source && incoming.remote_address_validated() {
            return Admission::Refuse;
        }
        let many = all * 2 > self.limits.handshakes || own * 2 > self.limits.handshakes_per_source;
        if many && incoming.may_retry() {
            return Admission::ProveAddress;
        }
        let handshake = Arc::clone(&self.handshakes).try_acquire_owned();
        let connection = Arc::clone(&self.connections).try_acquire_owned();
        match (handshake, connection) {
            (Ok(handshake), Ok(connection)) => Admission::Come(Places {
                handshake: (handshake, self.under_way.begin(source)),
                connection,
            }),
            (_, _) => Admission::Refuse,
        }
    }

    fn note_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection, from its first datagram to the caller's queue.
async fn greet(incoming: quinn::Incoming, shared: Arc<Shared>, places: Places) {
    let remote = canonical(incoming.remote_address());
    let connected = timeout(shared.limits.handshake_timeout, incoming).await;
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.note_refused();
            tracing::debug!(%remote, %error, "handshake failed");
            return;
        }
        Err(_) => {
            shared.note_refused();
            tracing::debug!(%remote, "handshake took too long");
            return;
        }
    };
    let link = Arc::new(Link {
        connection,
        holds: Holds::Server(places.connection),
    });
    let ready = match alpn(&link.connection).as_deref() {
        Some(ALPN_CONTROL) => control(&link, &shared),
        Some(ALPN_ENROLL) => enrolment(&link, &shared).await,
        Some(_) | None => Err((
            CloseReason::Protocol,
            "no protocol of ours was asked for".to_owned(),
        )),
    };
    drop(places.handshake);
    match ready {
        // Fails only when the server is gone, and then the connection goes with it.
        Ok(incoming) => drop(shared.ready.send(incoming).await),
        Err((reason, why)) => {
            shared.note_refused();
            tracing::debug!(%remote, why, "connection refused");
            link.connection.close(reason.code(), why.as_bytes());
        }
    }
}

type Refusal = (CloseReason, String);

/// rustls has verified the certificate, if there is one; this decides whether it is a node's of this mesh.
fn control(link: &Arc<Link>, shared: &Shared) -> Result<Incoming, Refusal> {
    let denied = |why: &str| (CloseReason::Denied, why.to_owned());
    let chain = link.connection.peer_identity();
    let chain = chain.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf = leaf
        .ok_or_else(|| denied("the control channel needs a certificate, and none was shown: enrol first"))?;
    let identity = PeerIdentity::from_leaf(leaf).map_err(|error| denied(&error.to_string()))?;
    let node = match &identity.id {
        SpiffeId::Node { mesh, node } if *mesh == shared.mesh => *node,
        SpiffeId::Node { mesh, .. } => {
            return Err(denied(&format!(
                "the certificate is for mesh {mesh}, this is {}",
                shared.mesh
            )));
        }
        SpiffeId::Controller { .. } => return Err(denied("the certificate is no node's")),
    };
    Ok(Incoming::Control(ControlRequest {
        node,
        identity,
        remote: canonical(link.connection.remote_address()),
        link: Arc::clone(link),
    }))
}

async fn enrolment(link: &Arc<Link>, shared: &Shared) -> Result<Incoming, Refusal> {
    let remote = canonical(link.connection.remote_address());
    let admitted = shared
        .attempts
        .lock()
        .await
        .admit(Source::of(remote.ip()), Instant::now());
    if !admitted {
        let why = "too many enrolments from this address: try again in a minute";
        return Err((CloseReason::Busy, why.to_owned()));
    }
    let request = timeout(shared.limits.handshake_timeout, async {
        let (send, mut receive) = link.connection.accept_bi().await?;
        let request = read_request(&mut receive).await?;
        Ok::<_, TransportError>((send, request))
    });
    let protocol = |why: String| (CloseReason::Protocol, why);
    let (send, request) = request
        .await
        .map_err(|_| protocol("the enrolment took too long".to_owned()))?
        .map_err(|error| protocol(error.to_string()))?;
    Ok(Incoming::Enroll(EnrollAttempt {
        request,
        remote,
        send,
        link: Arc::clone(link),
    }))
}

fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?;
    let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    data.protocol
}

fn time_until(unix_ms: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_millis(unix_ms).saturating_sub(now))
}

const STEP_TIMEOUT: Duration = Duration::from_secs(10);
