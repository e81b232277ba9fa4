//! The controller's REST API asked without our own client: TLS and HTTP/1.1 by hand.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ringfence_lab::Host;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// Asks one controller from one host.
pub struct Api {
    host: Host,
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    token: String,
    ca_pem: String,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// When the last byte of it was here.
    pub at: Instant,
}

impl Api {
    /// Reads where the controller is, and who asks, from the file that `init` wrote.
    ///
    /// # Errors
    /// When the file is not what it should be.
    pub fn new(host: &Host, admin_file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(admin_file)?;
        let context: toml::Table = toml::from_str(&text)?;
        let field = |name: &str| {
            context
                .get(name)
                .and_then(toml::Value::as_str)
                .context("admin.toml")
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(field("ca_pem")?.as_bytes())?)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            host: host.clone(),
            server: field("server")?.parse()?,
            tls: Arc::new(tls),
            token: field("token")?.to_owned(),
            ca_pem: field("ca_pem")?.to_owned(),
        })
    }

    /// The admin token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The mesh's CA.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// `GET` as the administrator.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, None)
    }

    /// `POST` as the administrator.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.request("POST", path, Some(body))
    }

    /// Any request as the administrator.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let headers = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.server, self.token
        );
        self.raw(method, path, &headers, body.as_bytes())
    }

    /// Makes a policy text the policy of its perimeter.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, policy: &str) -> Result<Answer> {
        let files = serde_json::json!({ "files": [{ "name": "test.toml", "text": policy }] });
        self.post("/api/v1/perimeters", &files)?.ok()
    }

    /// A request with these headers (each line ended) and this body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn raw(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.exchange(&request)
    }

    /// Sends these bytes inside TLS, and reads one answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn exchange(&self, request: &[u8]) -> Result<Answer> {
        ask(&mut self.connect()?, request)
    }

    /// `POST`s one body after the other as the administrator, over connections that are kept for many.
    ///
    /// # Errors
    /// When one of them is refused or not answered.
    pub fn post_each(&self, path: &str, bodies: impl IntoIterator<Item = Value>) -> Result<()> {
        let mut bodies = bodies.into_iter().peekable();
        while bodies.peek().is_some() {
            let mut stream = self.connect()?;
            for body in bodies.by_ref().take(REQUESTS_PER_CONNECTION) {
                let body = body.to_string();
                let request = format!(
                    "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    self.server,
                    self.token,
                    body.len()
                );
                ask(&mut stream, request.as_bytes())?.ok()?;
            }
        }
        Ok(())
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let stream = self.host.tcp_connect(self.server, CONNECT_WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let name = ServerName::from(self.server.ip());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>, request: &[u8]) -> Result<Answer> {
    // A server that refuses a request early may hang up before it has read all of it.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match hear(stream, &mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(_) if is_whole(&bytes) => break,
            Err(error) => return Err(error).context("reading the answer"),
        }
        if is_whole(&bytes) {
            break;
        }
    }
    Answer::parse(&bytes)
}

/// Reads alone: `StreamOwned` would first try again to send what a server that has hung up did not want to read.
fn hear(stream: &mut StreamOwned<ClientConnection, TcpStream>, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.conn.reader().read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            heard => return heard,
        }
        stream.conn.read_tls(&mut stream.sock)?;
        stream.conn.process_new_packets().map_err(io::Error::other)?;
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let at = Instant::now();
        let (head, body) = split(bytes).context("an answer has a head and a body")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Self {
            status: status.context("an answer has a status")?,
            body: body.to_vec(),
            head,
            at,
        })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("this is not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Itself, if it is a 2xx.
    ///
    /// # Errors
    /// With the body, otherwise.
    pub fn ok(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(self)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| (key == name).then(|| value.trim()))
    }
}

/// Whether the head is here, and as much body as it promises.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    let promised = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == "content-length")
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    promised.is_some_and(|length| body.len() >= length)
}

fn split(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    Some((head, &bytes[end + 4..]))
}

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The controller ends a connection after some minutes, whatever goes over it.
const REQUESTS_PER_CONNECTION: usize = 500;
