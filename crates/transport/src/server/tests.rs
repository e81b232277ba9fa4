//! Real handshakes on loopback, with a throw-away authority.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;

use super::*;
use crate::client::{ControlClient, open, quic_config as client_quic_config};
use crate::link::{Receiver, Sender};
use crate::pin::ControllerVerifier;
use crate::tests::{EXPIRED, Hours, Mesh, VALID, within};
use crate::tls::{ALPN_CONTROL, ALPN_ENROLL, client_config, provider};
use crate::{EnrollError, EnrollRefusalCode, IdentityKey, enroll};
use ringfence_control::{Enforced, Goodbye, Lease, Ping, ToController, ToNode};
use ringfence_model::{NodeId, Revision};

/// Takes the next node in.
async fn accept(server: &mut Server) -> (Facts, Sender<ToNode>, Receiver<ToController>) {
    let Some(Incoming::Control(request)) = within(server.accept()).await else {
        panic!("a node was expected");
    };
    let facts = Facts {
        node: request.node,
        public_key_der: request.identity.public_key_der.clone(),
    };
    let (sender, receiver) = within(request.accept()).await.unwrap();
    (facts, sender, receiver)
}

struct Facts {
    node: NodeId,
    public_key_der: Vec<u8>,
}

fn address(server: &Server) -> SocketAddr {
    server.local_addr().unwrap()
}

/// What a client that comes with `member` of `theirs` to a server of `ours` is told. It trusts `ours`, so that only
/// its own certificate is in question.
async fn refusal_of(ours: &Mesh, theirs: &Mesh, hours: Hours) -> TransportError {
    let mut server = ours.server();
    let member = theirs.member(7, hours);
    let refusal = tokio::select! {
        connected = ours.connect(&member, address(&server)) => connected.err().expect("it has to be refused"),
        incoming = server.accept() => panic!("it came through: {}", incoming.is_some()),
    };
    assert_eq!(server.refused(), 1);
    refusal
}

#[tokio::test]
async fn a_node_and_its_controller_talk_both_ways() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let ControlClient {
        mut sender,
        mut receiver,
        remote,
    } = client.unwrap();
    let (facts, mut to_node, mut from_node) = served;

    sender.send(&ToController::Pong(Ping { id: 3 })).await.unwrap();
    to_node
        .send(&ToNode::Lease(Lease {
            revision: Revision::ZERO,
        }))
        .await
        .unwrap();

    assert_eq!(remote, at);
    assert_eq!(facts.node, NodeId(7));
    assert_eq!(facts.public_key_der, member.key.public_key_der());
    assert_eq!(
        within(from_node.recv()).await,
        Ok(Some(ToController::Pong(Ping { id: 3 })))
    );
    let lease = ToNode::Lease(Lease {
        revision: Revision::ZERO,
    });
    assert_eq!(within(receiver.recv()).await, Ok(Some(lease)));
}

#[tokio::test]
async fn closing_in_good_order_is_no_error() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let (_, _to_node, mut from_node) = served;

    drop(client.unwrap());

    assert_eq!(within(from_node.recv()).await, Ok(None));
}

#[tokio::test]
async fn a_controller_of_another_authority_is_refused() {
    let ours = Mesh::new("acme");
    let theirs = Mesh::new("acme");
    let server = theirs.server();

    let error = ours
        .connect(&ours.member(7, VALID), address(&server))
        .await
        .err()
        .unwrap();

    let TransportError::CertificateRefused { why } = error else {
        panic!("{error}");
    };
    assert!(why.contains("another authority signed it"), "{why}");
}

#[tokio::test]
async fn a_controller_with_an_expired_certificate_is_refused() {
    let mesh = Mesh::new("acme");
    let server = mesh.server_with(EXPIRED, ServerLimits::default());

    let error = mesh
        .connect(&mesh.member(7, VALID), address(&server))
        .await
        .err()
        .unwrap();

    let TransportError::CertificateRefused { why } = error else {
        panic!("{error}");
    };
    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn a_node_cannot_pass_for_the_controller() {
    let mesh = Mesh::new("acme");
    let node = "spiffe://acme/node/0000000000000009";
    let other_mesh = "spiffe://emca/controller";
    for (uri, usage) in [
        (node, ExtendedKeyUsagePurpose::ClientAuth),
        (node, ExtendedKeyUsagePurpose::ServerAuth),
        ("spiffe://acme/controller", ExtendedKeyUsagePurpose::ClientAuth),
        (other_mesh, ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let (chain, key) = mesh.server_identity(uri, usage, VALID);
        let server = mesh.server();
        server.set_certificate(chain, key).unwrap();

        let error = mesh
            .connect(&mesh.member(7, VALID), address(&server))
            .await
            .err()
            .unwrap();

        assert!(
            matches!(error, TransportError::CertificateRefused { .. }),
            "{uri}: {error}"
        );
    }
}

#[tokio::test]
async fn a_node_with_an_expired_certificate_is_told_so() {
    let mesh = Mesh::new("acme");

    let TransportError::Denied { why } = refusal_of(&mesh, &mesh, EXPIRED).await else {
        panic!("it has to be denied");
    };

    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn a_node_of_another_authority_is_told_so() {
    // The same mesh name: only the authority differs.
    let TransportError::Denied { why } = refusal_of(&Mesh::new("acme"), &Mesh::new("acme"), VALID).await
    else {
        panic!("it has to be denied");
    };

    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_certificate_of_another_mesh_does_not_count_even_from_the_same_authority() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let member = mesh.member_named(&Name::parse("emca").unwrap(), 7);

    let error = tokio::select! {
        connected = mesh.connect(&member, address(&server)) => connected.err().unwrap(),
        incoming = server.accept() => panic!("it came through: {}", incoming.is_some()),
    };

    let TransportError::Denied { why } = error else {
        panic!("{error}");
    };
    assert!(why.contains("mesh emca"), "{why}");
}

#[tokio::test]
async fn control_is_closed_to_whoever_shows_no_certificate() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let connection = stranger(&mesh, address(&server), ALPN_CONTROL).await;

    let ended = tokio::select! {
        ended = within(connection.closed()) => TransportError::from(ended),
        incoming = server.accept() => panic!("it came through: {}", incoming.is_some()),
    };

    let TransportError::Denied { why } = ended else {
        panic!("{ended}");
    };
    assert!(why.contains("none was shown"), "{why}");
}

#[tokio::test]
async fn another_protocol_is_not_spoken() {
    let mesh = Mesh::new("acme");
    let server = mesh.server();
    let verifier = ControllerVerifier::with_authority(&mesh.ca, None, provider()).unwrap();
    let quic = client_quic_config(client_config(verifier, None, b"h3").unwrap()).unwrap();

    let error = within(open(address(&server), &quic)).await.err().unwrap();

    assert!(matches!(error, TransportError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_may_not_come_hears_why() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let deny = async {
        let Some(Incoming::Control(request)) = server.accept().await else {
            panic!("a node was expected");
        };
        request.deny("node 7 was removed");
    };

    let (client, ()) = tokio::join!(mesh.connect(&member, at), within(deny));

    let denied = TransportError::Denied {
        why: "node 7 was removed".into(),
    };
    assert_eq!(client.err(), Some(denied));
}

#[tokio::test]
async fn a_node_that_is_removed_while_connected_hears_why() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let mut client = client.unwrap();

    served.1.handle().close(CloseReason::Denied, "node 7 was removed");

    let denied = TransportError::Denied {
        why: "node 7 was removed".into(),
    };
    assert_eq!(within(client.receiver.recv()).await, Err(denied));
    let refused = client.sender.send(&ToController::Pong(Ping { id: 1 })).await;
    assert!(
        matches!(refused, Err(TransportError::Denied { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_that_opened_it() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member_for(7, time::Duration::seconds(3));
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let mut client = client.unwrap();

    let ended = within(client.receiver.recv()).await;

    assert!(matches!(ended, Err(TransportError::Denied { .. })), "{ended:?}");
    drop(served);
}

#[tokio::test(start_paused = true)]
async fn silence_is_unreachable() {
    let mesh = Mesh::new("acme");
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();

    let error = mesh
        .connect(&mesh.member(7, VALID), deaf.local_addr().unwrap())
        .await
        .err()
        .unwrap();

    assert!(
        matches!(&error, TransportError::Unreachable { tried, .. } if tried.contains("127.0.0.1:")),
        "{error}"
    );
}

#[tokio::test]
async fn of_several_addresses_the_one_that_answers_is_used() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let connect = async {
        let config = crate::ControlConfig {
            controllers: &["no-port".into(), at.to_string()],
            mesh: &mesh.name,
            ca_pem: &mesh.ca_pem(),
            certificate_chain_pem: &member.chain_pem,
            key: &member.key,
        };
        within(ControlClient::connect(config)).await
    };

    let (client, _served) = tokio::join!(connect, accept(&mut server));

    assert_eq!(client.unwrap().remote, at);
}

#[tokio::test]
async fn the_last_message_before_a_close_arrives() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let mut client = client.unwrap();
    let (_, mut to_node, _from_node) = served;
    let goodbye = ToNode::Goodbye(Goodbye {
        reason: "removed".repeat(10_000),
    });

    to_node.send(&goodbye).await.unwrap();
    let closing = to_node.close(CloseReason::Denied, "removed");
    let (heard, ()) = tokio::join!(within(client.receiver.recv()), within(closing));

    assert_eq!(heard, Ok(Some(goodbye)));
    let denied = TransportError::Denied {
        why: "removed".into(),
    };
    assert_eq!(within(client.receiver.recv()).await, Err(denied));
}

/// A connection without a client certificate.
async fn stranger(mesh: &Mesh, at: SocketAddr, alpn: &[u8]) -> quinn::Connection {
    let verifier = ControllerVerifier::with_authority(&mesh.ca, None, provider()).unwrap();
    let quic = client_quic_config(client_config(verifier, None, alpn).unwrap()).unwrap();
    let (_endpoint, connection) = within(open(at, &quic)).await.unwrap();
    connection
}

mod enrolment;
mod limits;
mod restart;
