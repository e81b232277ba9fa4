//! The one client by which URLs given by people are fetched (red line 9).
//!
//! **Invariant:** it speaks TLS 1.3 to exactly the address that was judged, follows nothing, and reads no more and no
//! longer than its bounds.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Reach;

/// Fetches from one provider. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetcher {
    tls: Arc<ClientConfig>,
    reach: Reach,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Not a URL that is fetched.
    #[error("{0} is not fetched: only https URLs without a user are")]
    Url(String),
    /// It leads where it must not.
    #[error(
        "{host} is at no public address ({count} looked at): add the provider with --allow-private-address if it is yours"
    )]
    Refused {
        /// The host.
        host: String,
        /// How many addresses it has.
        count: usize,
    },
    /// The name has no address.
    #[error("{host} has no address: {why}")]
    NoName {
        /// The host.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// No connection.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What the last attempt said.
        why: String,
    },
    /// The conversation broke.
    #[error("{host} does not answer as a web server does: {why}")]
    Answer {
        /// The host.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Timeout(String),
}

impl Fetcher {
    /// Trusts the CAs that the public trusts, or the one in `ca_pem` alone.
    ///
    /// # Errors
    /// If `ca_pem` holds none.
    pub(super) fn new(ca_pem: Option<&str>, reach: Reach) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_pem {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| error.to_string())?;
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
            }
        }
        if roots.is_empty() {
            return Err("there is no certificate in the CA file".to_owned());
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            reach,
        })
    }

    /// Asks once. A redirect is an answer like any other.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let Some((authority, path)) = target(request.uri()) else {
            return Err(FetchError::Url(request.uri().to_string()));
        };
        let host = authority.host().to_owned();
        let exchange = async {
            let stream = self.connect(&authority).await?;
            exchange(stream, request, &authority, path).await
        };
        match tokio::time::timeout(FETCH_TIME_MAX, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout(host)),
        }
    }

    async fn connect(&self, authority: &Authority) -> Result<TlsStream<TcpStream>, FetchError> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| FetchError::Url(authority.to_string()))?;
        let found = tokio::net::lookup_host((host, authority.port_u16().unwrap_or(HTTPS_PORT))).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| FetchError::NoName {
                host: host.to_owned(),
                why: error.to_string(),
            })?
            .collect();
        let count = found.len();
        let mut covered = found
            .into_iter()
            .filter(|address| self.reach.covers(address.ip()));
        let mut failure = FetchError::Refused {
            host: host.to_owned(),
            count,
        };
        for address in covered.by_ref().take(ADDRESSES_TRIED_MAX) {
            match self.open(address, name.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failure = FetchError::Unreachable {
                        host: host.to_owned(),
                        why: error.to_string(),
                    }
                }
            }
        }
        Err(failure)
    }

    /// To the address itself: a name that is looked up again may lead elsewhere.
    async fn open(
        &self,
        address: SocketAddr,
        name: ServerName<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, stream)
                .await
        };
        match tokio::time::timeout(CONNECT_TIME_MAX, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetch(request))
    }
}

/// The parts of a URL that may be fetched.
fn target(uri: &Uri) -> Option<(Authority, PathAndQuery)> {
    let authority = uri.authority()?;
    if uri.scheme() != Some(&Scheme::HTTPS) || authority.as_str().contains('@') {
        return None;
    }
    let path = uri.path_and_query().cloned();
    Some((authority.clone(), path.unwrap_or(PathAndQuery::from_static("/"))))
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    request: HttpRequest,
    authority: &Authority,
    path: PathAndQuery,
) -> Result<HttpResponse, FetchError> {
    let broken = |error: &dyn std::fmt::Display| FetchError::Answer {
        host: authority.host().to_owned(),
        why: error.to_string(),
    };
    let (mut head, body) = request.into_parts();
    head.uri = Uri::from(path);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|error| broken(&error))?;
    head.headers.insert(HOST, host);
    head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let request = Request::from_parts(head, Full::new(Bytes::from(body)));
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let answered = async {
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?
            .into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes().to_vec();
        Ok(HttpResponse::from_parts(head, body))
    };
    tokio::pin!(answered);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answered => answer,
        // Closed, or broken: what has been read by then is what there is.
        _ = &mut connection => answered.await,
    }
}

const HTTPS_PORT: u16 = 443;
/// One whole exchange.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// One address of several.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(4);
const ADDRESSES_TRIED_MAX: usize = 4;
/// A provider's metadata has some kilobytes, its keys too.
const BODY_BYTES_MAX: usize = 512 * 1024;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const AGENT: &str = concat!("ringfence-controller/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> HttpRequest {
        Request::builder().uri(uri).body(Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn only_https_urls_are_fetched() {
        let fetcher = Fetcher::new(None, Reach::Private).unwrap();

        for uri in [
            "http://login.example.com/",
            "/path",
            "https://ada@login.example.com/",
            "ftp://login.example.com/",
        ] {
            let refused = fetcher.fetch(request(uri)).await;
            assert!(matches!(refused, Err(FetchError::Url(_))), "{uri}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_not_even_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetcher = Fetcher::new(None, Reach::Public).unwrap();

        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            let refused = fetcher.fetch(request(&format!("https://{host}:{port}/"))).await;
            assert!(
                matches!(refused, Err(FetchError::Refused { .. })),
                "{host}: {refused:?}"
            );
        }
        let heard = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(heard.is_err(), "nobody connected");
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        assert!(Fetcher::new(Some("no certificate"), Reach::Public).is_err());
    }
}
