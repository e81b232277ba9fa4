//! Datagrams with forged outer sources, by raw sockets on the members' own network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use ringfence_e2e::Live;
use ringfence_e2e::packet::udp;
use ringfence_lab::Host;
use socket2::{Domain, Protocol, Socket, Type};

use crate::rogue::Rogue;
use crate::stage::{BRIEFLY, Mallory, RULES, SHOP, SOON, Shop};

/// Sends IPv4 packets as they are, whatever source they name.
pub(crate) struct Forger(Socket);

impl Forger {
    pub(crate) fn on(host: &Host) -> Self {
        // IPPROTO_RAW: the header is ours.
        Self(
            host.inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))
                .unwrap(),
        )
    }

    /// One UDP datagram from `src`, which need not be ours.
    pub(crate) fn send(&self, src: SocketAddr, dst: SocketAddr, payload: &[u8]) {
        let IpAddr::V4(address) = dst.ip() else {
            panic!("{dst} is not IPv4")
        };
        self.0
            .send_to(&udp(src, dst, payload), &SocketAddrV4::new(address, 0).into())
            .unwrap();
    }
}

#[test]
fn forged_outer_sources_move_no_endpoint_and_open_nothing() {
    let mut shop = Shop::open("outer", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    let live = Live::open(
        shop.api.host(),
        shop.db.host(),
        Shop::at(&shop.db).v4.into(),
        5432,
    )
    .unwrap();
    let thief_host = shop.mesh.bare_host("thief").unwrap();
    let forger = Forger::on(&thief_host);
    let (db_at, api_at) = (shop.db.endpoint().unwrap(), shop.api.endpoint().unwrap());
    let endpoint = |of: &str| shop.db.peer(SHOP, of).unwrap().unwrap()["endpoint"].clone();
    let before = (endpoint("api"), endpoint("mallory"));
    let stranger = Rogue::new(&thief_host, [9; 32], &shop.db.public_key(SHOP).unwrap(), db_at);
    let seen = mallory.rogue.seal(b"");
    mallory.rogue.send_raw(&seen);
    mallory.settle();

    let nowhere = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        shop.db.host().ipv4().unwrap(),
        Shop::at(&shop.api).v4,
    ];
    let sources = nowhere.map(|src| SocketAddr::from((src, 51820)));
    let initiation = stranger.initiation().datagram;
    let mut data = mallory.rogue.seal(b"forged");
    data[20] ^= 1;
    for src in sources.into_iter().chain([
        api_at,
        SocketAddr::from(([10, 77, 0, 1], 7443)),
        SocketAddr::from((api_at.ip(), 0)),
    ]) {
        for datagram in [
            &initiation,
            &data,
            &seen,
            &vec![2; 92],
            &vec![3; 64],
            &vec![0xff; 1400],
        ] {
            forger.send(src, db_at, datagram);
        }
    }
    // As the controller and as the other member, to everybody.
    for dst in [api_at, SocketAddr::from(([10, 77, 0, 1], 7443))] {
        forger.send(db_at, dst, &initiation);
    }

    assert_eq!(stranger.hear(BRIEFLY), None);
    live.exchange(SOON).unwrap();
    mallory.settle();
    assert_eq!((endpoint("api"), endpoint("mallory")), before);
    assert_eq!(shop.db.status().unwrap()["controller"]["connected"], true);
}

#[test]
fn packets_with_overlay_addresses_from_the_network_around_reach_nobody() {
    let mut shop = Shop::open("overlaid", &RULES);
    let neighbour = shop.mesh.bare_host("neighbour").unwrap();
    let (db, api) = (Shop::at(&shop.db), Shop::at(&shop.api));
    let served = shop.db.host().serve(([0_u16; 8], 53).into()).unwrap();
    neighbour
        .route(&db.v4.to_string(), &shop.db.host().ipv4().unwrap().to_string())
        .unwrap();
    let forger = Forger::on(&neighbour);
    let underlay = SocketAddr::from((shop.db.host().ipv4().unwrap(), 53));
    let own = neighbour.ipv4().unwrap();

    for src in [
        api.v4(5000),
        db.v4(5000),
        SocketAddr::from((own, 5000)),
        SocketAddr::from(([127, 0, 0, 1], 5000)),
    ] {
        forger.send(src, db.v4(53), b"around the tunnel");
        // To the underlay address with an overlay source: it would pass for a member where rules go by address.
        if src.ip() != IpAddr::V4(own) {
            forger.send(src, underlay, b"around the tunnel");
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(served.datagrams(), 0);
    // The same hand with its own address and the host's is heard.
    forger.send(SocketAddr::from((own, 5000)), underlay, b"on the network");
    ringfence_lab::wait_until(SOON, "an honest datagram", || served.datagrams() == 1).unwrap();
}
