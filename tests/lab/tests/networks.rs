//! The lab's networks behave as its documentation says: reachability, partitions, loss, roaming, NAT.

#![expect(clippy::unwrap_used, reason = "test fixtures fail by panicking")]

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use ringfence_lab::{Host, Lab, Nat, Network, Percent, Reach};

const SOON: Duration = Duration::from_secs(2);
const BRIEFLY: Duration = Duration::from_millis(400);

#[test]
fn hosts_on_one_network_reach_each_other_at_once_by_ipv4_and_ipv6() {
    let pair = Pair::new("reach");
    let _v4 = pair.bob.serve(at("10.0.0.2:7000")).unwrap();
    let v6 = pair.bob.serve(at("[fd00::2]:7000")).unwrap();

    for to in [at("10.0.0.2:7000"), at("[fd00::2]:7000")] {
        assert_eq!(pair.alice.try_tcp(to, SOON), Reach::Open, "{to}");
        assert_eq!(pair.alice.try_udp(to, SOON), Reach::Open, "{to}");
        assert_eq!(pair.alice.try_ping(to.ip(), SOON), Reach::Open, "{to}");
    }
    assert_eq!(pair.alice.try_tcp(at("10.0.0.2:7001"), SOON), Reach::Refused);
    assert_eq!(pair.alice.try_udp(at("10.0.0.2:7001"), SOON), Reach::Refused);
    assert_eq!(pair.alice.try_tcp(at("10.9.0.1:7000"), SOON), Reach::Unreachable);
    assert_eq!((v6.connections(), v6.datagrams()), (1, 1));
    assert_eq!(pair.bob.address().to_string(), "10.0.0.2");
    assert_eq!(pair.bob.ipv6().unwrap().to_string(), "fd00::2");
}

#[test]
fn a_partition_is_silent_and_heals_and_spares_the_others() {
    let pair = Pair::new("partition");
    let carol = pair.lab.host("carol").unwrap();
    carol.join(&pair.lan, &["10.0.0.3/24"]).unwrap();
    let to = at("10.0.0.2:7000");
    let _echo = pair.bob.serve(to).unwrap();

    pair.lab.partition(&pair.alice, &pair.bob).unwrap();

    assert_eq!(pair.alice.try_udp(to, BRIEFLY), Reach::Silent);
    assert_eq!(pair.alice.try_tcp(to, BRIEFLY), Reach::Silent);
    assert_eq!(carol.try_udp(to, SOON), Reach::Open);

    pair.lab.heal(&pair.bob, &pair.alice).unwrap();

    assert_eq!(pair.alice.try_udp(to, SOON), Reach::Open);
}

#[test]
fn loss_takes_about_its_share_of_packets() {
    let pair = Pair::new("loss");
    pair.lan.set_loss(Percent(30)).unwrap();
    let bob = pair.bob.udp_bind(at("10.0.0.2:7000")).unwrap();
    let alice = pair.alice.udp_bind(at("10.0.0.1:0")).unwrap();

    bob.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut received = 0;
    // In parts, because a socket's buffer holds only some 250 datagrams.
    for _ in 0..10 {
        for _ in 0..100 {
            alice.send_to(b"x", at("10.0.0.2:7000")).unwrap();
        }
        while bob.recv(&mut [0; 8]).is_ok() {
            received += 1;
        }
    }
    // Five standard deviations are 72.
    assert!(
        (600..=800).contains(&received),
        "{received} of 1000 came through a loss of 30 %"
    );
}

#[test]
fn all_of_a_host_s_packets_can_be_lost() {
    let pair = Pair::new("hostloss");
    let to = at("10.0.0.2:7000");
    let _echo = pair.bob.serve(to).unwrap();

    pair.alice.set_loss(Percent(100)).unwrap();
    assert_eq!(pair.alice.try_udp(to, BRIEFLY), Reach::Silent);

    pair.alice.set_loss(Percent(0)).unwrap();
    assert_eq!(pair.alice.try_udp(to, SOON), Reach::Open);
}

#[test]
fn a_host_roams_to_other_addresses_and_keeps_its_routes() {
    let wan = Wan::new("roam");
    let to = at("192.0.2.1:7000");
    let echo = wan.server.udp_bind(to).unwrap();
    assert_eq!(
        source_seen(&wan.inside.udp_bind(at("0.0.0.0:0")).unwrap(), &echo, to)
            .ip()
            .to_string(),
        "10.0.0.2"
    );

    wan.inside
        .set_addresses(&wan.lan, &["10.0.0.99/24", "fd00::99/64"])
        .unwrap();

    assert_eq!(
        source_seen(&wan.inside.udp_bind(at("0.0.0.0:0")).unwrap(), &echo, to)
            .ip()
            .to_string(),
        "10.0.0.99"
    );
    assert_eq!(wan.inside.address().to_string(), "10.0.0.99");
}

#[test]
fn a_link_pulled_and_put_back_works_as_before() {
    let wan = Wan::new("plug");
    let to = at("192.0.2.1:7000");
    let _echo = wan.server.serve(to).unwrap();

    wan.inside.link_down(&wan.lan).unwrap();
    assert_eq!(wan.inside.try_tcp(to, BRIEFLY), Reach::Unreachable);

    wan.inside.link_up(&wan.lan).unwrap();
    assert_eq!(wan.inside.try_tcp(to, SOON), Reach::Open);
    assert_eq!(wan.inside.try_ping("fd00::1".parse().unwrap(), SOON), Reach::Open);
}

#[test]
fn masquerade_keeps_the_port_and_lets_in_only_answers() {
    let wan = Wan::new("masquerade");
    wan.router.nat(&wan.internet, Nat::Masquerade).unwrap();

    let socket = wan.socket();
    let seen = wan.mappings(&socket);

    assert_eq!(seen[0], at("192.0.2.254:5000"));
    assert_eq!(seen[0], seen[1]);
    assert!(!wan.stranger_gets_in(&socket, seen[0]));
}

#[test]
fn an_endpoint_independent_nat_lets_strangers_in() {
    let wan = Wan::new("cone");
    wan.router.nat(&wan.internet, Nat::EndpointIndependent).unwrap();

    let socket = wan.socket();
    let seen = wan.mappings(&socket);

    assert_eq!(seen[0], seen[1]);
    assert!(wan.stranger_gets_in(&socket, seen[0]));
}

#[test]
fn an_address_and_port_dependent_nat_has_another_port_for_every_destination() {
    let wan = Wan::new("symmetric");
    wan.router
        .nat(&wan.internet, Nat::AddressAndPortDependent)
        .unwrap();

    let socket = wan.socket();
    let seen = wan.mappings(&socket);

    assert_eq!(seen[0].ip(), seen[1].ip());
    assert_ne!(seen[0], seen[1]);
}

struct Pair {
    lab: Lab,
    lan: Network,
    alice: Host,
    bob: Host,
}

impl Pair {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let lan = lab.network("lan").unwrap();
        let (alice, bob) = (lab.host("alice").unwrap(), lab.host("bob").unwrap());
        alice.join(&lan, &["10.0.0.1/24", "fd00::1/64"]).unwrap();
        bob.join(&lan, &["10.0.0.2/24", "fd00::2/64"]).unwrap();
        Self { lab, lan, alice, bob }
    }
}

/// A host behind a router, and a server and a stranger out on the internet.
struct Wan {
    lan: Network,
    internet: Network,
    inside: Host,
    router: Host,
    server: Host,
    stranger: Host,
}

impl Wan {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let (lan, internet) = (lab.network("lan").unwrap(), lab.network("internet").unwrap());
        let inside = lab.host("inside").unwrap();
        inside.join(&lan, &["10.0.0.2/24", "fd00::2/64"]).unwrap();
        let router = lab.router("router").unwrap();
        router.join(&lan, &["10.0.0.1/24", "fd00::1/64"]).unwrap();
        router.join(&internet, &["192.0.2.254/24"]).unwrap();
        let (server, stranger) = (lab.host("server").unwrap(), lab.host("stranger").unwrap());
        server.join(&internet, &["192.0.2.1/24"]).unwrap();
        stranger.join(&internet, &["192.0.2.66/24"]).unwrap();
        inside.route("default", "10.0.0.1").unwrap();
        server.route("10.0.0.0/24", "192.0.2.254").unwrap();
        Self {
            lan,
            internet,
            inside,
            router,
            server,
            stranger,
        }
    }

    fn socket(&self) -> UdpSocket {
        self.inside.udp_bind(at("10.0.0.2:5000")).unwrap()
    }

    /// The addresses that two ports of the server see when this socket inside sends to both.
    fn mappings(&self, socket: &UdpSocket) -> Vec<SocketAddr> {
        ["192.0.2.1:7000", "192.0.2.1:7001"]
            .into_iter()
            .map(|to| source_seen(socket, &self.server.udp_bind(at(to)).unwrap(), at(to)))
            .collect()
    }

    fn stranger_gets_in(&self, inside: &UdpSocket, mapped: SocketAddr) -> bool {
        inside.set_read_timeout(Some(BRIEFLY)).unwrap();
        self.stranger
            .udp_bind(at("192.0.2.66:9"))
            .unwrap()
            .send_to(b"boo", mapped)
            .unwrap();
        inside.recv(&mut [0; 8]).is_ok()
    }
}

fn source_seen(from: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) -> SocketAddr {
    receiver.set_read_timeout(Some(SOON)).unwrap();
    from.send_to(b"who am I?", to).unwrap();
    receiver.recv_from(&mut [0; 64]).unwrap().1
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}
