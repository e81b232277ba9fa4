//! Sessions that outlive their keys. The slowest test of all, so the first in order of name.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ringfence_e2e::Device;
use ringfence_lab::{Host, Reach};

use crate::foreign::{device, node_initiates};
use crate::stage::{SOON, Shop, allow};

#[test]
fn a_stock_client_rekeys_after_two_minutes_without_loss_in_both_roles() {
    let rules = [
        allow("device", "db", "udp/5353"),
        allow("device", "db", "tcp/5432"),
        allow("db", "device", "udp/9000"),
    ];
    let mut shop = Shop::open("rekey", &rules);
    let (first, second) = (device(&mut shop, "first"), device(&mut shop, "second"));
    let db = Shop::at(&shop.db);
    let _echo = shop.db.host().serve(db.v4(5353)).unwrap();
    let _tcp = shop.db.host().serve(db.v4(5432)).unwrap();
    let own = second.overlay().unwrap().v4(9000);

    thread::scope(|scope| {
        scope.spawn(|| {
            first.up().unwrap();
            assert_eq!(first.host().try_udp(db.v4(5353), SOON), Reach::Open);
            through_a_rekey("the device began", &first, first.host(), db.v4(5353));
        });
        scope.spawn(|| {
            node_initiates(&shop.db, &second);
            let _echo = second.host().serve(own).unwrap();
            through_a_rekey("the node began", &second, shop.db.host(), own);
        });
    });
}

/// Sends twenty datagrams a second to an echo server until well after the session's keys were changed.
fn through_a_rekey(what: &str, device: &Device, from: &Host, to: SocketAddr) {
    let socket = from.udp_bind(([0; 4], 0).into()).unwrap();
    socket.connect(to).unwrap();
    let before = device.latest_handshake().unwrap();
    let until = Instant::now() + Duration::from_secs(132);
    let mut sent: u32 = 0;
    let mut lost = Vec::new();
    while Instant::now() < until {
        if !echoes(&socket, sent) {
            lost.push(sent);
        }
        sent += 1;
        thread::sleep(Duration::from_millis(50));
    }
    let after = device.latest_handshake().unwrap();
    assert!(
        after >= before + 110,
        "{what}: no re-key between {before} and {after}"
    );
    assert!(lost.is_empty(), "{what}: {} of {sent} lost: {lost:?}", lost.len());
}

fn echoes(socket: &UdpSocket, number: u32) -> bool {
    let mut answer = [0; 16];
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    if socket.send(&number.to_be_bytes()).is_err() {
        return false;
    }
    // An answer that comes late is still an answer, to the one before.
    while let Ok(length) = socket.recv(&mut answer) {
        if answer[..length] == number.to_be_bytes() {
            return true;
        }
    }
    false
}
