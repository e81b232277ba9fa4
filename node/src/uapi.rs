//! WireGuard's userspace API, so that `wg show` lists our interfaces: one socket an interface, `get=1` alone.
//!
//! **Invariant:** the private key is never told and nothing can be set: the controller's policy is the only way to
//! change a segment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use ringfence_control::local::{PeerStatus, SegmentStatus};
use ringfence_model::PublicKey;

use crate::report::Reporter;
use crate::unix::{Line, Listener, read_line};

/// The sockets of all interfaces.
pub(crate) struct Uapi {
    directory: PathBuf,
    reporter: Reporter,
    servers: BTreeMap<String, JoinHandle<()>>,
    warned: Warned,
}

/// Whether the operator knows that there are no sockets here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Warned {
    NotYet,
    Once,
}

impl Uapi {
    /// No sockets yet.
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self {
            directory: DIRECTORY.into(),
            reporter,
            servers: BTreeMap::new(),
            warned: Warned::NotYet,
        }
    }

    /// Answers for `interface` from now on. A directory we may not write to only costs `wg show`.
    pub(crate) fn add(&mut self, interface: &str) {
        if self.servers.contains_key(interface) {
            return;
        }
        let path = self.directory.join(format!("{interface}.sock"));
        match Listener::bind(&path, SOCKET_MODE) {
            Ok(listener) => {
                let server = serve(listener, interface.to_owned(), self.reporter.clone());
                self.servers.insert(interface.to_owned(), tokio::spawn(server));
            }
            Err(error) if self.warned == Warned::NotYet => {
                self.warned = Warned::Once;
                tracing::warn!(%error, socket = %path.display(), "`wg show` will not list this node's interfaces");
            }
            Err(error) => tracing::debug!(%error, socket = %path.display(), "no socket for `wg show`"),
        }
    }

    /// Removes the socket of `interface`.
    pub(crate) async fn remove(&mut self, interface: &str) {
        if let Some(server) = self.servers.remove(interface) {
            server.abort();
            // The socket's file goes with the task.
            let _ = server.await;
        }
    }

    /// Removes every socket, and waits until their files are gone.
    pub(crate) async fn close(&mut self) {
        for (_, server) in std::mem::take(&mut self.servers) {
            server.abort();
            let _ = server.await;
        }
    }
}

async fn serve(listener: Listener, interface: String, reporter: Reporter) {
    loop {
        let answered = match listener.accept().await {
            Ok(stream) => tokio::time::timeout(REQUEST_TIME, answer(stream, &interface, &reporter)).await,
            Err(error) => {
                tracing::debug!(%error, "accepting a caller failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(Err(error)) = answered {
            tracing::debug!(%error, "a caller of the WireGuard API went away");
        }
    }
}

/// One connection may ask several times, as `wg` does not but others do.
async fn answer(stream: UnixStream, interface: &str, reporter: &Reporter) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let reply = match read_request(&mut reader).await? {
            Request::Get => match reporter.segment(interface).await {
                Some(segment) => describe(&segment, reporter.listen_port()),
                None => refusal(libc::ENODEV),
            },
            Request::Set => refusal(libc::EPERM),
            Request::Unknown => refusal(libc::EPROTO),
            Request::End => return Ok(()),
        };
        writer.write_all(reply.as_bytes()).await?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get,
    Set,
    Unknown,
    End,
}

/// A request is lines up to an empty one; the first says what it is.
pub(crate) async fn read_request(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Request> {
    let request = match read_line(reader, LINE_BYTES_MAX).await? {
        Line::Text(line) => match line.as_str() {
            "get=1" => Request::Get,
            "set=1" => Request::Set,
            _ => Request::Unknown,
        },
        Line::End | Line::Refused => return Ok(Request::End),
    };
    for _ in 0..LINES_MAX {
        match read_line(reader, LINE_BYTES_MAX).await? {
            Line::Text(line) if line.is_empty() => return Ok(request),
            Line::Text(_) => {}
            Line::End | Line::Refused => return Ok(Request::End),
        }
    }
    Ok(Request::End)
}

fn describe(segment: &SegmentStatus, listen_port: u16) -> String {
    let mut text = format!("listen_port={listen_port}\n");
    for peer in &segment.peers {
        describe_peer(&mut text, peer);
    }
    text.push_str("errno=0\n\n");
    text
}

fn describe_peer(text: &mut String, peer: &PeerStatus) {
    let _ = writeln!(text, "public_key={}", lower_hex(&peer.public_key));
    if let Some(endpoint) = peer.endpoint {
        let _ = writeln!(text, "endpoint={endpoint}");
    }
    let _ = writeln!(
        text,
        "last_handshake_time_sec={}",
        peer.latest_handshake.unwrap_or(0)
    );
    let _ = writeln!(text, "last_handshake_time_nsec=0");
    let _ = writeln!(text, "tx_bytes={}\nrx_bytes={}", peer.tx_bytes, peer.rx_bytes);
    let _ = writeln!(text, "persistent_keepalive_interval=0\nprotocol_version=1");
    for address in &peer.addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let _ = writeln!(text, "allowed_ip={address}/{length}");
    }
}

fn refusal(errno: i32) -> String {
    format!("errno={errno}\n\n")
}

fn lower_hex(key: &PublicKey) -> String {
    let mut text = String::with_capacity(64);
    for byte in key.as_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Where `wg` looks.
pub(crate) const DIRECTORY: &str = "/var/run/wireguard";
const SOCKET_MODE: u32 = 0o600;
const LINE_BYTES_MAX: usize = 1024;
const LINES_MAX: usize = 4096;
const REQUEST_TIME: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use ringfence_control::PeerKind;
    use ringfence_model::{Name, NodeId, Revision};

    use super::*;

    #[test]
    fn an_interface_reads_as_wg_expects_and_without_a_private_key() {
        let segment = SegmentStatus {
            perimeter: Name::parse("payments-db").unwrap(),
            interface: "rf-payments-db".into(),
            public_key: Some(PublicKey::from_bytes([1; 32])),
            addresses: Vec::new(),
            revision: Revision { term: 1, n: 1 },
            lease_seconds: 60,
            peers: vec![PeerStatus {
                node: Name::parse("api-1").unwrap(),
                id: NodeId(2),
                kind: PeerKind::Node,
                public_key: PublicKey::from_bytes([0xab; 32]),
                addresses: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                endpoint: Some("[2001:db8::2]:51820".parse().unwrap()),
                latest_handshake: Some(1_700_000_000),
                rx_bytes: 10,
                tx_bytes: 20,
            }],
        };

        let text = describe(&segment, 51820);

        let expected = format!(
            "listen_port=51820\npublic_key={}\nendpoint=[2001:db8::2]:51820\nlast_handshake_time_sec=1700000000\n\
             last_handshake_time_nsec=0\ntx_bytes=20\nrx_bytes=10\npersistent_keepalive_interval=0\n\
             protocol_version=1\nallowed_ip=100.64.0.2/32\nallowed_ip=fd00::2/128\nerrno=0\n\n",
            "ab".repeat(32)
        );
        assert_eq!(text, expected);
        assert!(!text.contains("private_key"));
    }

    #[tokio::test]
    async fn requests_to_set_are_told_apart() {
        for (sent, expected) in [
            ("get=1\n\n", Request::Get),
            ("set=1\nprivate_key=00\n\n", Request::Set),
            ("odd\n\n", Request::Unknown),
            ("get=1\n", Request::End),
        ] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(sent.as_bytes()).await.unwrap();
            drop(far);
            let (reader, _writer) = near.into_split();

            assert_eq!(
                read_request(&mut BufReader::new(reader)).await.unwrap(),
                expected,
                "{sent:?}"
            );
        }
    }
}
