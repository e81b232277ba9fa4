//! What strangers and members may ask for.

use super::*;

#[tokio::test]
async fn random_and_damaged_datagrams_do_no_harm() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u64;
    for round in 0..2_000_usize {
        let mut datagram: Vec<u8> = (0..round % 1500).map(|_| random_byte(&mut state)).collect();
        // Half of them look like a long header of QUIC version 1, an initial packet among them.
        if round % 2 == 0 && datagram.len() > 5 {
            datagram[0] |= 0xc0;
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        noise.send_to(&datagram, at).unwrap();
    }
    let member = mesh.member(7, VALID);

    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));

    let mut client = client.unwrap();
    let (_, mut to_node, _from_node) = served;
    to_node.send(&ToNode::Ping(Ping { id: 1 })).await.unwrap();
    assert_eq!(
        within(client.receiver.recv()).await,
        Ok(Some(ToNode::Ping(Ping { id: 1 })))
    );
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let (_, _to_node, mut from_node) = served;
    let mut client = client.unwrap();

    client.sender.send_raw(&[0xff, 0xff, 0xff, 0xff, 0, 1]).await;

    let ended = within(from_node.recv()).await;
    assert!(matches!(ended, Err(TransportError::Protocol { .. })), "{ended:?}");
    let told = within(client.receiver.recv()).await;
    assert!(matches!(told, Err(TransportError::Protocol { .. })), "{told:?}");
}

#[tokio::test]
async fn an_unknown_message_is_skipped_and_a_malformed_one_ends_the_connection() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let (_, _to_node, mut from_node) = served;
    let mut client = client.unwrap();
    let enforced = ToController::Enforced(Enforced {
        revision: Revision::ZERO,
        took_us: 1,
    });

    client.sender.send_raw(&[0, 0, 0, 2, 0x7f, 0xff, 1, 2]).await;
    client.sender.send(&enforced).await.unwrap();
    client.sender.send_raw(&[0, 0, 0, 1, 0, 4, 0xff]).await;

    assert_eq!(within(from_node.recv()).await, Ok(Some(enforced)));
    let ended = within(from_node.recv()).await;
    assert!(matches!(ended, Err(TransportError::Protocol { .. })), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_not_waited_for_for_ever() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let member = mesh.member(7, VALID);
    tokio::time::resume();
    let (client, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    let (_, _to_node, mut from_node) = served;
    let mut client = client.unwrap();

    client.sender.send_raw(&[0, 0, 1, 0, 0, 1, 7]).await;
    // Let the half frame arrive, then let time pass.
    let waited = tokio::time::timeout(Duration::from_millis(300), from_node.recv()).await;
    assert!(waited.is_err());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;

    let ended = from_node.recv().await;
    assert_eq!(ended, Err(TransportError::Timeout { what: "a message" }));
}

#[tokio::test]
async fn past_the_limit_of_connections_more_are_refused() {
    let mesh = Mesh::new("acme");
    let limits = ServerLimits {
        connections: 1,
        ..ServerLimits::default()
    };
    let mut server = mesh.server_with(VALID, limits);
    let at = address(&server);
    let member = mesh.member(7, VALID);
    let (first, served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));

    let second = mesh.connect(&member, at).await;
    assert!(matches!(second.err(), Some(TransportError::Busy { .. })));

    drop((first, served));
    let (third, _served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    assert!(third.is_ok());
}

#[tokio::test]
async fn one_source_cannot_use_up_the_handshakes_and_gets_its_share_back() {
    let mesh = Mesh::new("acme");
    let limits = ServerLimits {
        handshakes_per_source: 2,
        ..ServerLimits::default()
    };
    let mut server = mesh.server_with(VALID, limits);
    let at = address(&server);
    // Each holds a handshake: it asks to enrol and says nothing.
    let first = stranger(&mesh, at, ALPN_ENROLL).await;
    let _second = stranger(&mesh, at, ALPN_ENROLL).await;
    let member = mesh.member(7, VALID);
    let refused = mesh.connect(&member, at).await.err();
    assert!(
        matches!(refused, Some(TransportError::Busy { .. })),
        "{refused:?}"
    );

    first.close(CloseReason::Done.code(), b"");

    let connect = async {
        loop {
            match mesh.connect(&member, at).await {
                Err(TransportError::Busy { .. }) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    };
    let (client, _served) = tokio::join!(within(connect), accept(&mut server));
    assert!(client.is_ok());
}

#[tokio::test]
async fn under_load_a_node_gets_in_by_proving_its_address() {
    let mesh = Mesh::new("acme");
    let limits = ServerLimits {
        handshakes: 3,
        ..ServerLimits::default()
    };
    let mut server = mesh.server_with(VALID, limits);
    let at = address(&server);
    let _first = stranger(&mesh, at, ALPN_ENROLL).await;
    let _second = stranger(&mesh, at, ALPN_ENROLL).await;
    let member = mesh.member(7, VALID);

    let (client, _served) = tokio::join!(mesh.connect(&member, at), accept(&mut server));

    assert!(client.is_ok(), "{:?}", client.err());
}

fn random_byte(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.to_le_bytes()[3]
}
