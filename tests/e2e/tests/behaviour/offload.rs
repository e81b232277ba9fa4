//! Segmentation offload changes how fast bytes travel, and nothing else about them.
//!
//! What a node cuts is judged by a machine whose tunnel has no offloads (Debian's `wireguard-go`): its kernel looks at
//! every checksum. What a node puts together is judged by the application: byte for byte, datagram for datagram.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quinn_udp::{EcnCodepoint, Transmit, UdpSocketState};
use ringfence_e2e::{DatagramPair, Overlay, Payload, StreamPair, expect_datagrams};
use ringfence_lab::{Host, wait_until};
use socket2::SockRef;

use crate::foreign::device;
use crate::stage::{SHOP, SOON, Shop, allow};

/// A bulk transfer: some hundred super-packets.
const BULK_BYTES: usize = 6 << 20;
const PORT: u16 = 5432;

/// One machine, and another with its addresses in the perimeter.
struct Ends<'a> {
    client: &'a Host,
    server: &'a Host,
    at: Overlay,
    /// The most that the client sends unfragmented, over IPv6.
    datagram_bytes_max: usize,
}

impl Ends<'_> {
    fn stream(&self, at: SocketAddr) -> StreamPair {
        StreamPair::open(self.client, self.server, at).unwrap()
    }

    fn datagrams(&self, at: SocketAddr) -> DatagramPair {
        DatagramPair::open(self.client, self.server, at).unwrap()
    }

    /// Every kind of traffic that offload treats in its own way, both ways, over IPv4 and IPv6.
    fn carry_everything(&self) {
        for at in self.at.both(PORT) {
            self.stream(at).exchange(BULK_BYTES, 200_000).unwrap();
            self.carry_small_writes(at);
            self.carry_urgent_data(at);
            self.datagrams(at).exchange(&sizes()).unwrap();
            self.carry_runs(at);
        }
    }

    /// What a QUIC server sends: many datagrams by one call.
    fn carry_runs(&self, at: SocketAddr) {
        let datagrams = self.datagrams(at);
        for ecn in [None, Some(EcnCodepoint::Ect0), Some(EcnCodepoint::Ce)] {
            for (total, segment) in RUNS {
                send_run(&datagrams, *total, *segment.min(&self.datagram_bytes_max), ecn);
            }
        }
    }

    /// Odd sizes, each pushed by itself.
    fn carry_small_writes(&self, at: SocketAddr) {
        let stream = self.stream(at);
        stream.client.set_nodelay(true).unwrap();
        stream.server.set_nodelay(true).unwrap();
        stream.exchange(300_000, 3001).unwrap();
    }

    /// In a super-packet each segment has its own distance to the urgent byte.
    fn carry_urgent_data(&self, at: SocketAddr) {
        let stream = self.stream(at);
        SockRef::from(&stream.server)
            .set_out_of_band_inline(true)
            .unwrap();
        for length in [1, 700, 30_000] {
            let mut sent = Payload::fresh().unwrap().take(length);
            std::io::Write::write_all(&mut &stream.client, &sent).unwrap();
            SockRef::from(&stream.client).send_out_of_band(b"!").unwrap();
            sent.push(b'!');
            let mut received = vec![0; sent.len()];
            std::io::Read::read_exact(&mut &stream.server, &mut received).unwrap();
            assert!(received == sent, "{length} bytes and an urgent one at {at}");
        }
        stream.exchange(100_000, 10_000).unwrap();
    }
}

/// What an application may give the kernel in one call (`UDP_SEGMENT`): all bytes, and those of one datagram.
const RUNS: &[(usize, usize)] = &[
    (1, 1),
    (64, 1),
    (1000, 333),
    (12_345, 1234),
    (60_000, 1300),
    (40_000, 1360),
];

/// Sizes of datagrams: small ones in odd steps, those about the MTU, and those that IP cuts into fragments.
fn sizes() -> Vec<usize> {
    let odd = (1..=1380).step_by(31);
    let about_the_mtu = 1350..=1385;
    odd.chain(about_the_mtu)
        .chain([1400, 2000, 2737, 9000, 20_001])
        .collect()
}

/// Sends many datagrams by one call.
fn send_run(pair: &DatagramPair, total: usize, segment: usize, ecn: Option<EcnCodepoint>) {
    let from = &pair.client;
    let payload = Payload::fresh().unwrap();
    let sizes: Vec<usize> = (0..total)
        .step_by(segment)
        .map(|start| segment.min(total - start))
        .collect();
    let mut sent = payload.copy();
    let contents: Vec<u8> = sizes.iter().flat_map(|size| sent.take(*size)).collect();
    let state = UdpSocketState::new(from.into()).unwrap();
    let transmit = Transmit {
        destination: from.peer_addr().unwrap(),
        ecn,
        contents: &contents,
        segment_size: Some(segment),
        src_ip: None,
    };
    state.try_send(from.into(), &transmit).unwrap();
    from.set_nonblocking(false).unwrap();
    expect_datagrams(&pair.server, payload, &sizes).unwrap();
}

/// How many packets this machine's kernel refused for their checksum or their header.
fn refused_by_kernel(host: &Host) -> Vec<String> {
    let text = host.command("nstat").args(["-asz"]).text().unwrap();
    let refused = text.lines().filter(|line| {
        let mut words = line.split_whitespace();
        let is_about =
            |name: &str| name.contains("Csum") || name.contains("InHdrErrors") || name.contains("ReasmFails");
        words.next().is_some_and(is_about) && words.next() != Some("0")
    });
    refused.map(str::to_owned).collect()
}

/// How tcpdump says of a packet that its checksum is right; of IPv4 it writes a second line.
const JUDGED_RIGHT: [(&str, &str); 4] = [
    ("TCP over IPv4", "^ .* cksum 0x[0-9a-f]+ \\(correct\\)"),
    ("TCP over IPv6", " IP6 .* cksum 0x[0-9a-f]+ \\(correct\\)"),
    ("UDP over IPv4", "^ .* \\[udp sum ok\\]"),
    ("UDP over IPv6", " IP6 .* \\[udp sum ok\\]"),
];

/// Of how many packets of a capture tcpdump says this.
fn judged(host: &Host, capture: &Path, verdict: &str) -> u64 {
    let count = host.command("sh").arg("-c").arg(format!(
        "tcpdump -r {} -n -vv 2>&1 | grep -cE '{verdict}' || true",
        capture.display()
    ));
    count.text().unwrap().trim().parse().unwrap()
}

/// Marks a share of what leaves through the tunnel as having met congestion, as a router would.
fn mark_congestion(host: &Host) {
    let rules = "table inet congestion {\nchain marking {\n type filter hook postrouting priority 0;\n\
         oifname != \"rf-*\" accept\n\
         ip ecn { ect0, ect1 } numgen random mod 8 0 ip ecn set ce\n\
         ip6 ecn { ect0, ect1 } numgen random mod 8 0 ip6 ecn set ce\n}\n}\n";
    host.command("nft").args(["-f", "-"]).input(rules).text().unwrap();
}

fn set_offloads(host: &Host, interface: &str, features: &[&str]) {
    host.command("ethtool")
        .args(["-K", interface])
        .args(features)
        .text()
        .unwrap();
}

#[test]
fn a_kernel_that_looks_at_every_checksum_finds_them_right() {
    let rules = [allow("device", "db", "any"), allow("db", "device", "any")];
    let mut shop = Shop::open("checksums", &rules);
    let device = device(&mut shop, "laptop");
    device.up().unwrap();
    let own = device.overlay().unwrap();
    let ends = Ends {
        client: shop.db.host(),
        server: device.host(),
        at: own,
        datagram_bytes_max: 1360,
    };
    let back = Ends {
        client: device.host(),
        server: shop.db.host(),
        at: Shop::at(&shop.db),
        datagram_bytes_max: 1280 - 48,
    };
    for host in [ends.client, ends.server] {
        host.sysctl("ipv4/tcp_ecn", "1").unwrap();
    }
    mark_congestion(ends.client);
    wait_until(SOON, "the device to be reached", || {
        ends.client.try_ping(own.v4.into(), Duration::from_millis(500)) == ringfence_lab::Reach::Open
    })
    .unwrap();
    let capture = ends.server.dir().join("inner.pcap");
    let tcpdump = ends
        .server
        .command("tcpdump")
        .args(["-i", "wg0", "-Q", "in", "-n", "-U", "-s", "0", "-Z", "root", "-w"])
        .arg(&capture)
        .spawn("tcpdump")
        .unwrap();
    wait_until(SOON, "tcpdump to listen", || {
        tcpdump.log().contains("listening on")
    })
    .unwrap();

    ends.carry_everything();
    for host in [ends.client, ends.server] {
        host.sysctl("ipv4/tcp_timestamps", "0").unwrap();
    }
    back.carry_everything();

    tcpdump.interrupt();
    tcpdump.wait(SOON).unwrap();
    for (kind, right) in JUDGED_RIGHT {
        let count = judged(ends.server, &capture, right);
        assert!(count > 300, "right checksums of {kind} that were seen: {count}");
    }
    let wrong = judged(ends.server, &capture, "incorrect|bad (udp )?cksum");
    assert_eq!(wrong, 0, "of what came out of the device's tunnel");
    for host in [ends.client, ends.server] {
        assert_eq!(
            refused_by_kernel(host),
            Vec::<String>::new(),
            "on {}",
            host.name()
        );
    }
}

#[test]
fn every_byte_and_every_datagram_arrives_as_it_was_sent() {
    let shop = Shop::open("bytes", &[allow("api", "db", "any"), allow("db", "api", "any")]);
    let ends = Ends {
        client: shop.api.host(),
        server: shop.db.host(),
        at: Shop::at(&shop.db),
        datagram_bytes_max: 1360,
    };
    let back = Ends {
        client: shop.db.host(),
        server: shop.api.host(),
        at: Shop::at(&shop.api),
        datagram_bytes_max: 1360,
    };
    for host in [ends.client, ends.server] {
        host.sysctl("ipv4/tcp_ecn", "1").unwrap();
        mark_congestion(host);
    }

    ends.carry_everything();
    for at in back.at.both(PORT) {
        back.carry_runs(at);
    }
    // All at once: conversations share reads, writes and runs.
    thread::scope(|scope| {
        for number in 0..4 {
            for at in ends.at.both(8000 + number) {
                let ends = &ends;
                scope.spawn(move || {
                    ends.stream(at)
                        .exchange(BULK_BYTES / 2, 1 << (4 * (number + 1)))
                        .unwrap();
                });
                scope.spawn(move || ends.datagrams(at).exchange(&sizes()).unwrap());
            }
        }
    });

    for host in [ends.client, ends.server] {
        assert_eq!(
            refused_by_kernel(host),
            Vec::<String>::new(),
            "on {}",
            host.name()
        );
    }
}

#[test]
fn an_operator_may_switch_the_offloads_of_the_tunnel_off() {
    let shop = Shop::open("ethtool", &[allow("api", "db", "any")]);
    let ends = Ends {
        client: shop.api.host(),
        server: shop.db.host(),
        at: Shop::at(&shop.db),
        datagram_bytes_max: 1360,
    };
    let interface = format!("rf-{SHOP}");
    let live = ends.stream(ends.at.v4(9000));

    for features in [
        &["tso", "off"][..],
        &["gso", "off", "gro", "off"],
        &["tx", "off"],
        &["tx", "on", "gso", "on"],
    ] {
        set_offloads(ends.client, &interface, features);
        for at in ends.at.both(PORT) {
            ends.stream(at).exchange(BULK_BYTES / 4, 100_000).unwrap();
            ends.datagrams(at).exchange(&[1, 100, 1380, 5000]).unwrap();
        }
        live.exchange(200_000, 50_000).unwrap();
    }
    // And those of the way out: no checksum offload, so no `UDP_SEGMENT` either on older kernels.
    set_offloads(
        ends.client,
        "eth0",
        &["tx", "off", "tso", "off", "gso", "off", "gro", "off"],
    );
    live.exchange(BULK_BYTES / 4, 100_000).unwrap();

    assert_eq!(refused_by_kernel(ends.server), Vec::<String>::new());
}

/// What one machine's kernel was given from the tunnel for the database's ports, resets aside.
#[derive(Debug, PartialEq, Eq)]
struct Arrived {
    tcp: u64,
    udp: u64,
}

impl Arrived {
    fn count(host: &Host) {
        let rules = "table inet watch {\ncounter of_tcp { }\ncounter of_udp { }\nchain arriving {\n\
             type filter hook prerouting priority -300;\n\
             iifname \"rf-*\" tcp dport 5432 tcp flags & rst == 0 counter name of_tcp\n\
             iifname \"rf-*\" udp dport 5432 counter name of_udp\n}\n}\n";
        host.command("nft").args(["-f", "-"]).input(rules).text().unwrap();
    }

    fn so_far(host: &Host) -> Self {
        let bytes = |name: &str| {
            let list = host
                .command("nft")
                .args(["list", "counter", "inet", "watch", name]);
            let text = list.text().unwrap();
            let number = text.split_whitespace().skip_while(|word| *word != "bytes").nth(1);
            number.unwrap().parse().unwrap()
        };
        Self {
            tcp: bytes("of_tcp"),
            udp: bytes("of_udp"),
        }
    }
}

/// Says that it is time to stop when it goes.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps a connection and a flow of datagrams as full as they get, until they are cut; says how the ends were told.
fn flood_until_cut(ends: &Ends<'_>, at: SocketAddr, stop: &AtomicBool) -> [Option<ErrorKind>; 2] {
    let stream = ends.stream(at);
    let datagrams = ends.datagrams(at);
    let chunk = vec![7; 256 * 1024];
    thread::scope(|scope| {
        let reader = scope.spawn(|| std::io::copy(&mut &stream.server, &mut std::io::sink()).err());
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..32 {
                    // It may be told of its end: it goes on all the same.
                    let _ = datagrams.client.send(&chunk[..1300]);
                }
                // A flood without a pause leaves the connection nothing: datagrams give way to nobody.
                thread::sleep(Duration::from_millis(2));
            }
        });
        let mut sender = &stream.client;
        let told = loop {
            match std::io::Write::write_all(&mut sender, &chunk) {
                Ok(()) if stop.load(Ordering::Relaxed) => break None,
                Ok(()) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        let _ = stream.client.shutdown(Shutdown::Both);
        [told, reader.join().unwrap().map(|error| error.kind())]
    })
}

#[test]
fn what_is_revoked_at_full_speed_stops_with_the_answer() {
    let rules = [allow("api", "db", "tcp/8080"), allow("api", "db", "any")];
    let shop = Shop::open("fullspeed", &rules);
    let ends = Ends {
        client: shop.api.host(),
        server: shop.db.host(),
        at: Shop::at(&shop.db),
        datagram_bytes_max: 1360,
    };
    let kept = ends.stream(ends.at.v4(8080));
    Arrived::count(ends.server);

    for round in 0..10 {
        let at = ends.at.both(PORT)[round % 2];
        let stop = AtomicBool::new(false);
        let before = Arrived::so_far(ends.server);
        thread::scope(|scope| {
            let flood = scope.spawn(|| flood_until_cut(&ends, at, &stop));
            // Should anything below fail, the flood ends too, or the scope never would.
            let stopper = Stopper(&stop);
            wait_until(SOON, "both to be at full speed", || {
                let now = Arrived::so_far(ends.server);
                now.tcp > before.tcp + 2_000_000 && now.udp > before.udp + 500_000
            })
            .unwrap();

            shop.enforce(&rules[..1]);

            let with_the_answer = Arrived::so_far(ends.server);
            kept.exchange(500_000, 100_000).unwrap();
            thread::sleep(Duration::from_millis(300));
            let later = Arrived::so_far(ends.server);
            drop(stopper);
            assert_eq!(
                later, with_the_answer,
                "round {round}: something still came through"
            );
            let reset = Some(ErrorKind::ConnectionReset);
            assert_eq!(
                flood.join().unwrap(),
                [reset, reset],
                "round {round}: how the ends were told"
            );
        });
        shop.enforce(&rules);
    }
}
