//! Enrolment: a machine with a fresh key, and a join token or a token of its platform, becomes a node with a certificate.
//!
//! **Invariant:** a secret is said only to a server that has shown the very authority that the token or the locator names,
//! once, and to one address: nothing is retried after it has left.

use std::fmt;

use quinn::{Connection, RecvStream, SendStream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::TransportError;
use crate::certificate::{PeerIdentity, certificates_from_pem, fingerprint};
use crate::client::{one_authority, open, quic_config, say_goodbye, try_each};
use crate::identity::{IdentityError, IdentityKey};
use crate::pin::ControllerVerifier;
use crate::spiffe::SpiffeId;
use crate::tls::{ALPN_ENROLL, client_config, provider};
use crate::token::{JoinToken, TokenSecret};
use crate::workload::{PlatformToken, WorkloadLocator};
use ringfence_control::{FrameDecoder, encode_frame};
use ringfence_model::{Name, NodeId, TokenId};

/// What a machine asks to be let in by.
#[derive(Debug)]
pub enum EnrollAsk {
    /// A join token.
    Token(EnrollRequest),
    /// The word of its platform.
    Workload(WorkloadEnrollRequest),
}

/// What a machine with a join token asks with.
#[derive(Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The token.
    pub token_id: TokenId,
    /// Its secret.
    pub token_secret: TokenSecret,
    /// PKCS#10. Only its key counts.
    pub csr_der: Vec<u8>,
    /// What the machine would like to be called.
    pub name: Option<Name>,
}

/// What a workload asks with.
#[derive(Serialize, Deserialize)]
pub struct WorkloadEnrollRequest {
    /// What the controller calls the issuer of its token.
    pub issuer: Name,
    /// What its platform says of it.
    pub jwt: PlatformToken,
    /// PKCS#10. Only its key counts.
    pub csr_der: Vec<u8>,
    /// What the machine would like to be called, if the issuer's rules name nobody.
    pub name: Option<Name>,
}

/// What a new node gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// The mesh it is now part of.
    pub mesh: Name,
    /// Its certificate, leaf first.
    pub certificate_chain_pem: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// Where the controller may be from now on.
    pub controllers: Vec<String>,
}

/// Why a machine is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct EnrollRefusal {
    /// For programs.
    pub code: EnrollRefusalCode,
    /// For people.
    pub message: String,
}

/// The kinds of [`EnrollRefusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrollRefusalCode {
    /// No such token, or not its secret.
    TokenUnknown,
    /// All its uses are gone.
    TokenUsed,
    /// Its time is over.
    TokenExpired,
    /// It was withdrawn.
    TokenRevoked,
    /// Another node has that name.
    NameTaken,
    /// The request is malformed.
    BadRequest,
    /// What the platform's token says lets nobody in.
    WorkloadRefused,
    /// The issuer of the platform's tokens does not give its keys.
    IssuerUnreachable,
    /// The controller could not record it.
    Internal,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

/// Why enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The controller says no.
    #[error(transparent)]
    Refused(#[from] EnrollRefusal),
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A new node: what it was given, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// What the controller gave.
    pub response: EnrollResponse,
    /// Who the certificate says it is.
    pub identity: PeerIdentity,
}

impl fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest")
            .field("token_id", &self.token_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkloadEnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadEnrollRequest")
            .field("issuer", &self.issuer)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whom a machine asks.
pub(crate) struct Door<'a> {
    pub(crate) controllers: &'a [String],
    pub(crate) ca_fingerprint: [u8; 32],
    pub(crate) mesh: &'a Name,
}

/// Asks to be let in by a join token.
///
/// # Errors
/// [`EnrollError`]. After [`EnrollError::Transport`] of kind `Closed` or `Timeout` the token may have been used.
pub async fn enroll(
    token: &JoinToken,
    key: &IdentityKey,
    name: Option<Name>,
) -> Result<Enrolled, EnrollError> {
    let door = Door {
        controllers: &token.controllers,
        ca_fingerprint: token.ca_fingerprint,
        mesh: &token.mesh,
    };
    let request = EnrollRequest {
        token_id: token.id,
        token_secret: TokenSecret::from_random(*token.secret.expose()),
        csr_der: key.csr_der()?,
        name,
    };
    knock(&door, (KIND_REQUEST, &request), key).await
}

/// Asks to be let in by the word of the platform.
///
/// # Errors
/// As [`enroll`].
pub async fn enroll_workload(
    locator: &WorkloadLocator,
    jwt: PlatformToken,
    key: &IdentityKey,
    name: Option<Name>,
) -> Result<Enrolled, EnrollError> {
    let door = Door {
        controllers: &locator.controllers,
        ca_fingerprint: locator.ca_fingerprint,
        mesh: &locator.mesh,
    };
    let request = WorkloadEnrollRequest {
        issuer: locator.issuer.clone(),
        jwt,
        csr_der: key.csr_der()?,
        name,
    };
    let enrolled = knock(&door, (KIND_WORKLOAD_REQUEST, &request), key).await;
    enrolled.map_err(tell_of_age)
}

/// What an older controller says to a request that it does not know, in words that say what to do.
pub(crate) fn tell_of_age(error: EnrollError) -> EnrollError {
    match error {
        EnrollError::Transport(TransportError::Protocol { why } | TransportError::Closed { why })
            if why.contains(NO_ENROLMENT) =>
        {
            let why =
                "it knows no enrolment of workloads, as this node does: update the controller".to_owned();
            EnrollError::Transport(TransportError::Protocol { why })
        }
        error => error,
    }
}

pub(crate) async fn knock(
    door: &Door<'_>,
    (kind, request): (u16, &impl Serialize),
    key: &IdentityKey,
) -> Result<Enrolled, EnrollError> {
    let verifier =
        ControllerVerifier::with_fingerprint(door.ca_fingerprint, Some(door.mesh.clone()), provider());
    let quic = quic_config(client_config(verifier, None, ALPN_ENROLL)?)?;
    let (endpoint, connection) =
        try_each(door.controllers, async |address| open(address, &quic).await).await?;
    let answer = ask(&connection, kind, request).await;
    say_goodbye(&endpoint, &connection).await;
    let response = answer??;
    let identity = check(&response, door, key)?;
    Ok(Enrolled { response, identity })
}

async fn ask(connection: &Connection, kind: u16, request: &impl Serialize) -> Result<Answer, TransportError> {
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        write(&mut send, kind, request).await?;
        let (kind, body) = read(&mut receive).await?;
        match kind {
            KIND_RESPONSE => Ok(Ok(from_cbor(&body)?)),
            KIND_REFUSAL => Ok(Err(from_cbor(&body)?)),
            _ => Err(TransportError::Protocol {
                why: "its answer is none of ours".to_owned(),
            }),
        }
    };
    timeout(ANSWER_TIMEOUT, exchange)
        .await
        .map_err(|_| TransportError::Timeout { what: "the answer" })?
}

/// What came back has to be about this key, this mesh and this authority, or it is not kept.
fn check(
    response: &EnrollResponse,
    door: &Door<'_>,
    key: &IdentityKey,
) -> Result<PeerIdentity, TransportError> {
    let protocol = |why: &str| TransportError::Protocol { why: why.to_owned() };
    if fingerprint(&one_authority(&response.ca_pem)?) != door.ca_fingerprint {
        return Err(protocol(
            "it gave another authority than this machine was told of",
        ));
    }
    let chain = certificates_from_pem(&response.certificate_chain_pem)?;
    let identity = PeerIdentity::from_leaf(&chain[0])?;
    let expected = SpiffeId::Node {
        mesh: door.mesh.clone(),
        node: response.node,
    };
    if identity.id != expected || response.mesh != *door.mesh {
        return Err(protocol("it gave a certificate for somebody else"));
    }
    if identity.public_key_der != key.public_key_der() {
        return Err(protocol("it gave a certificate for another key"));
    }
    Ok(identity)
}

pub(crate) type Answer = Result<EnrollResponse, EnrollRefusal>;

pub(crate) async fn read_request(receive: &mut RecvStream) -> Result<EnrollAsk, TransportError> {
    let (kind, body) = read(receive).await?;
    match kind {
        KIND_REQUEST => from_cbor(&body).map(EnrollAsk::Token),
        KIND_WORKLOAD_REQUEST => from_cbor(&body).map(EnrollAsk::Workload),
        _ => Err(TransportError::Protocol {
            why: NO_ENROLMENT.to_owned(),
        }),
    }
}

pub(crate) async fn write_answer(send: &mut SendStream, answer: &Answer) -> Result<(), TransportError> {
    match answer {
        Ok(response) => write(send, KIND_RESPONSE, response).await,
        Err(refusal) => write(send, KIND_REFUSAL, refusal).await,
    }
}

async fn write(send: &mut SendStream, kind: u16, body: &impl Serialize) -> Result<(), TransportError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let protocol = |why: String| TransportError::Protocol { why };
    ciborium::into_writer(body, &mut *bytes).map_err(|error| protocol(error.to_string()))?;
    let frame = encode_frame(kind, &bytes).map_err(|error| protocol(error.to_string()))?;
    let frame = Zeroizing::new(frame);
    let written = send.write_all(&frame).await;
    written.map_err(|error| match error {
        quinn::WriteError::ConnectionLost(error) => error.into(),
        other => TransportError::Closed {
            why: other.to_string(),
        },
    })?;
    // Fails only when it is finished already, and it is not.
    let _ = send.finish();
    Ok(())
}

/// The one frame of a stream.
async fn read(receive: &mut RecvStream) -> Result<(u16, Zeroizing<Vec<u8>>), TransportError> {
    let mut decoder = FrameDecoder::with_limit(ENROLL_BYTES_MAX);
    loop {
        let frame = decoder.next_frame().map_err(|error| TransportError::Protocol {
            why: error.to_string(),
        })?;
        if let Some(frame) = frame {
            return Ok((frame.kind, Zeroizing::new(frame.body)));
        }
        let chunk = receive
            .read_chunk(ENROLL_BYTES_MAX, true)
            .await
            .map_err(|error| match error {
                quinn::ReadError::ConnectionLost(error) => error.into(),
                other => TransportError::Closed {
                    why: other.to_string(),
                },
            })?;
        let chunk = chunk.ok_or_else(|| TransportError::Closed {
            why: "before it had said anything".to_owned(),
        })?;
        decoder.push(&chunk.bytes);
    }
}

fn from_cbor<T: DeserializeOwned>(body: &[u8]) -> Result<T, TransportError> {
    ciborium::from_reader(body).map_err(|error| TransportError::Protocol {
        why: format!("an enrolment message is malformed: {error}"),
    })
}

/// A request with a signing request and a JWT, or an answer with two certificates.
const ENROLL_BYTES_MAX: usize = 64 * 1024;
const KIND_REQUEST: u16 = 1;
const KIND_RESPONSE: u16 = 2;
const KIND_REFUSAL: u16 = 3;
const KIND_WORKLOAD_REQUEST: u16 = 4;
/// What a controller says to a kind that it does not know. Older ones say it to workloads.
const NO_ENROLMENT: &str = "its first word is no enrolment";
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
