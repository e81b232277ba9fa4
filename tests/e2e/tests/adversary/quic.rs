//! The control port: strangers who speak QUIC well and nothing else right.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime};
use ringfence_e2e::Mesh;
use ringfence_lab::Host;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::runtime::Runtime;

/// A stranger on a host, who knows the mesh's authority and has no certificate.
struct Caller {
    endpoint: Endpoint,
    roots: RootCertStore,
    at: SocketAddr,
}

impl Caller {
    fn on(host: &Host, mesh: &Mesh) -> Self {
        let socket = host.udp_bind(([0; 4], 0).into()).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(mesh.api().unwrap().ca_pem().as_bytes()).unwrap())
            .unwrap();
        Self {
            endpoint: Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap(),
            roots,
            at: mesh.address(),
        }
    }

    async fn call(&self, protocol: &str) -> Result<Connection, String> {
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = self
            .endpoint
            .connect_with(config, self.at, "ringfence-controller")
            .unwrap();
        let connected = tokio::time::timeout(Duration::from_secs(5), connecting).await;
        connected
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| error.to_string())
    }
}

/// How long it takes the controller to hang up.
async fn hung_up(connection: &Connection, within: Duration) -> Option<Duration> {
    let began = Instant::now();
    tokio::time::timeout(within, connection.closed()).await.ok()?;
    Some(began.elapsed())
}

#[test]
fn strangers_who_speak_quic_are_hung_up_on_before_they_cost_much() {
    let mut mesh = Mesh::start("quic").unwrap();
    let node = mesh.node("node", &["role=db"]).unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let pid = mesh.controller().pid();
    let resident_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = resident_kib();

    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let caller = Caller::on(&outside, &mesh);
        // The control channel without a certificate: it is closed, and nothing was said on it.
        let control = caller.call("ringfence-control/1").await.unwrap();
        assert!(hung_up(&control, Duration::from_secs(3)).await.is_some());
        assert!(control.open_bi().await.is_err());
        for unknown in ["h3", "ringfence-control/0", "http/1.1"] {
            assert!(caller.call(unknown).await.is_err(), "{unknown}");
        }

        // Says nothing; says half a word; drips; says four gigabytes are coming and begins.
        let mute = caller.call("ringfence-enroll/1").await.unwrap();
        let half = caller.call("ringfence-enroll/1").await.unwrap();
        half.open_bi().await.unwrap().0.write_all(&[0, 0]).await.unwrap();
        let drip = caller.call("ringfence-enroll/1").await.unwrap();
        let (mut dripping, _answer) = drip.open_bi().await.unwrap();
        tokio::spawn(async move {
            while dripping.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let huge = caller.call("ringfence-enroll/1").await.unwrap();
        let (mut filling, _answer) = huge.open_bi().await.unwrap();
        tokio::spawn(async move {
            let _ = filling.write_all(&[0xff; 4]).await;
            while filling.write_all(&[0xff; 8192]).await.is_ok() {}
        });
        let many = caller.call("ringfence-enroll/1").await.unwrap();
        let mut streams = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), many.open_uni()).await {
            streams.push(stream);
        }
        assert!(streams.len() <= 4, "{} streams nobody asked for", streams.len());
        assert!(
            hung_up(&huge, Duration::from_secs(3)).await.is_some(),
            "four gigabytes"
        );
        for (what, connection) in [
            ("mute", &mute),
            ("half a word", &half),
            ("a drip", &drip),
            ("many streams", &many),
        ] {
            assert!(
                hung_up(connection, Duration::from_secs(13)).await.is_some(),
                "{what} is held for ten seconds, no longer"
            );
        }
    });

    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "the controller grew by {grown} KiB");
    assert_eq!(node.status().unwrap()["controller"]["connected"], true);
    assert_eq!(mesh.api().unwrap().get("/api/v1/nodes").unwrap().status, 200);
}
