//! A controller that is killed and started again.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Enforced, Mesh, Revision, ToController, VALID, accept, address};

/// Carries datagrams between one client and whichever server `upstream` names.
async fn relay(socket: UdpSocket, upstream: watch::Receiver<SocketAddr>) {
    let mut client = None;
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let server = *upstream.borrow();
        let to = if from == server {
            client
        } else if client.is_none_or(|client| client == from) {
            client = Some(from);
            Some(server)
        } else {
            // The server that is no more.
            None
        };
        if let Some(to) = to {
            let _ = socket.send_to(&buffer[..length], to).await;
        }
    }
}

#[tokio::test]
async fn a_node_is_told_at_once_that_the_controller_it_knew_is_no_more() {
    let mesh = Mesh::new("acme");
    let (mut killed, next) = (mesh.server(), mesh.server());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relayed = socket.local_addr().unwrap();
    let (upstream, watched) = watch::channel(address(&killed));
    tokio::spawn(relay(socket, watched));
    let member = mesh.member(1, VALID);
    let (client, _held) = tokio::join!(mesh.connect(&member, relayed), accept(&mut killed));
    let mut client = client.unwrap();

    // From here on another process has the port: it never saw this connection, and says so.
    upstream.send(address(&next)).unwrap();
    let word = ToController::Enforced(Enforced {
        revision: Revision { term: 1, n: 1 },
        took_us: 0,
    });
    client.sender.send(&word).await.unwrap();

    // Far below the idle timeout.
    let ended = timeout(Duration::from_secs(5), client.receiver.recv()).await;
    assert!(matches!(ended, Ok(Err(_))), "{ended:?}");
}
