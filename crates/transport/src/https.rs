//! The CLI's way to the REST API: one request, one connection, to a server that its authority vouches for.
//!
//! **Invariant:** the token is sent only after the server has proved to be the controller, and is wiped on drop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::TransportError;
use crate::client::{one_authority, try_each};
use crate::pin::ControllerVerifier;
use crate::tls::{ALPN_HTTP, SERVER_NAME, client_config, provider};
use ringfence_control::api::Problem;

/// Asks one controller.
pub struct ApiClient {
    server: String,
    token: Zeroizing<String>,
    connector: TlsConnector,
    timeout: Duration,
}

/// What came back, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body, of at most 16 MiB.
    pub body: Vec<u8>,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection: see [`TransportError`].
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The controller refuses this administrator (401, 403).
    #[error("{}", words(.0))]
    Denied(Problem),
    /// The controller says no.
    #[error("{}", words(.0))]
    Problem(Problem),
}

impl ApiClient {
    /// A client of the controller at `server` (`host:port`), whose certificate the authority in `ca_pem` has to have
    /// signed.
    ///
    /// # Errors
    /// [`TransportError::Setup`] if `ca_pem` holds no authority.
    pub fn new(server: &str, ca_pem: &str, token: Zeroizing<String>) -> Result<Self, TransportError> {
        let ca = one_authority(ca_pem)?;
        let verifier =
            ControllerVerifier::with_authority(&ca, None, provider()).map_err(TransportError::Setup)?;
        let tls = client_config(verifier, None, ALPN_HTTP)?;
        Ok(Self {
            server: server.to_owned(),
            token,
            connector: TlsConnector::from(Arc::new(tls)),
            timeout: REQUEST_TIMEOUT,
        })
    }

    /// The same with another limit on the time one request may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks and reads the answer as `T`; a status outside 2xx becomes the error it stands for.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ApiError> {
        let response = self.request(method, path, body).await?;
        match response.status {
            200..=299 => serde_json::from_slice(&response.body).map_err(|error| {
                ApiError::Transport(TransportError::Protocol {
                    why: format!("its answer does not have the expected shape: {error}"),
                })
            }),
            401 | 403 => Err(ApiError::Denied(response.problem())),
            _ => Err(ApiError::Problem(response.problem())),
        }
    }

    /// Asks and gives back whatever came.
    ///
    /// # Errors
    /// If nothing came.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<ApiResponse, TransportError> {
        let request = self.prepare(method, path, body)?;
        let stream = try_each(std::slice::from_ref(&self.server), async |address| {
            self.open(address).await
        })
        .await?;
        timeout(self.timeout, exchange(stream, request))
            .await
            .map_err(|_| TransportError::Timeout { what: "the answer" })?
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, TransportError> {
        let setup = |why: String| TransportError::Setup(why);
        let mut bearer = Zeroizing::new(String::with_capacity(self.token.len() + 7));
        bearer.push_str("Bearer ");
        bearer.push_str(self.token.trim());
        let mut authorization = HeaderValue::from_str(&bearer)
            .map_err(|_| setup("the administrator's token holds a character that no token has".to_owned()))?;
        authorization.set_sensitive(true);
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| setup(error.to_string()))?,
            None => Vec::new(),
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.server)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json, application/problem+json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| setup(format!("{path:?} cannot be asked for: {error}")))
    }

    async fn open(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, TransportError> {
        let unreachable = |why: String| TransportError::Unreachable {
            tried: address.to_string(),
            why,
        };
        let connect = async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            let name = ServerName::try_from(SERVER_NAME).expect("a plain DNS name");
            self.connector
                .connect(name, tcp)
                .await
                .map_err(|error| from_tls(&error))
        };
        timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| unreachable("nobody answers".to_owned()))?
    }
}

impl ApiResponse {
    /// The problem it tells of; one made of the status alone if the body is none.
    pub fn problem(&self) -> Problem {
        let mut problem: Problem = serde_json::from_slice(&self.body).unwrap_or_default();
        problem.status = self.status;
        if problem.title.is_empty() && problem.detail.is_empty() {
            problem.title = format!("the controller answers with status {}", self.status);
        }
        problem
    }
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
) -> Result<ApiResponse, TransportError> {
    let closed = |error: hyper::Error| TransportError::Closed {
        why: error.to_string(),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(closed)?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(closed)?;
        read(response).await
    };
    let answer = answer.await;
    driver.abort();
    answer
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<ApiResponse, TransportError> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX);
    let body = body.collect().await.map_err(|error| TransportError::Protocol {
        why: format!("its answer cannot be read: {error}"),
    })?;
    Ok(ApiResponse {
        status,
        body: body.to_bytes().to_vec(),
    })
}

fn from_tls(error: &std::io::Error) -> TransportError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => {
            TransportError::certificate_refused(&error.to_string())
        }
        Some(error) => TransportError::Protocol {
            why: error.to_string(),
        },
        None => TransportError::Closed {
            why: error.to_string(),
        },
    }
}

fn words(problem: &Problem) -> String {
    match (problem.title.as_str(), problem.detail.as_str()) {
        ("", detail) => detail.to_owned(),
        (title, "") => title.to_owned(),
        (title, detail) => format!("{title}: {detail}"),
    }
}

/// The longest answer read: a large audit log or node list.
const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
