//! A mesh of data planes, the network between them, and a stand-in for the controller.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringfence_control::{Netmap, PeerKind, PeerMap, SegmentMap};
use ringfence_dataplane::{Dataplane, DataplaneConfig, DropReason, Event, SegmentFacts, SegmentId};
use ringfence_model::{
    Candidate, CandidateKind, Name, NodeId, OverlayAddresses, PerimeterPrefixes, PrivateKey, PublicKey,
    Revision, RuleId, UnixMillis,
};
use ringfence_packet::{Flow, Packet, Protocol, TcpFlags, TcpSegment, tcp_segment, udp_datagram};
use ringfence_policy::{Direction, Rule};

pub(crate) struct Mesh {
    pub(crate) hosts: Vec<Host>,
    perimeters: BTreeMap<Name, Perimeter>,
    revision: u64,
    pub(crate) now: Instant,
    start: Instant,
    wire: VecDeque<Datagram>,
    /// Every datagram that was on the wire.
    pub(crate) log: Vec<Datagram>,
    /// What the network loses.
    pub(crate) lose: fn(&Datagram) -> bool,
}

pub(crate) struct Host {
    pub(crate) id: NodeId,
    name: Name,
    pub(crate) dataplane: Dataplane,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<Event>,
    tun: Vec<(Name, Vec<u8>)>,
    segments: BTreeMap<Name, SegmentFacts>,
    registered: BTreeMap<Name, PublicKey>,
    /// Which of its keys it uses.
    key_number: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

struct Perimeter {
    number: u8,
    members: Vec<usize>,
    /// By id: what it opens to whom, and until when.
    rules: BTreeMap<u32, Vec<Allow>>,
    lease: Duration,
}

#[derive(Clone)]
struct Allow {
    from: usize,
    to: usize,
    service: String,
    expires: Option<UnixMillis>,
}

/// One live TCP connection, with what each end expects next.
pub(crate) struct Connection {
    pub(crate) flow: Flow,
    pub(crate) client_next: u32,
    pub(crate) server_next: u32,
}

impl Mesh {
    #[expect(
        clippy::disallowed_methods,
        reason = "boringtun reads the real clock: tests start from it"
    )]
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            hosts: Vec::new(),
            perimeters: BTreeMap::new(),
            revision: 0,
            now,
            start: now,
            wire: VecDeque::new(),
            log: Vec::new(),
            lose: |_| false,
        }
    }

    /// One perimeter, and in it as many hosts as asked for.
    pub(crate) fn with_hosts(perimeter: &str, hosts: usize) -> Self {
        let mut mesh = Self::new();
        let hosts: Vec<usize> = (0..hosts).map(|_| mesh.host()).collect();
        mesh.perimeter(perimeter, &hosts);
        mesh
    }

    pub(crate) fn host(&mut self) -> usize {
        let place = self.hosts.len();
        let number = place as u8 + 1;
        self.hosts.push(Host {
            id: NodeId(u64::from(number)),
            name: name(&format!("node-{number}")),
            dataplane: Dataplane::new(DataplaneConfig::default(), [number; 32]),
            address: SocketAddr::from(([192, 0, 2, number], 51820)),
            events: Vec::new(),
            tun: Vec::new(),
            segments: BTreeMap::new(),
            registered: BTreeMap::new(),
            key_number: 0,
        });
        place
    }

    pub(crate) fn perimeter(&mut self, perimeter: &str, members: &[usize]) {
        let made = Perimeter {
            number: self.perimeters.len() as u8,
            members: members.to_vec(),
            rules: BTreeMap::new(),
            lease: LEASE,
        };
        self.perimeters.insert(name(perimeter), made);
    }

    pub(crate) fn allow(&mut self, perimeter: &str, from: usize, to: usize, service: &str) -> u32 {
        self.allow_until(perimeter, from, to, service, None)
    }

    pub(crate) fn allow_until(
        &mut self,
        perimeter: &str,
        from: usize,
        to: usize,
        service: &str,
        expires: Option<UnixMillis>,
    ) -> u32 {
        let rules = &mut self.perimeters.get_mut(&name(perimeter)).unwrap().rules;
        let id = rules.keys().max().unwrap_or(&0) + 1;
        let service = service.to_owned();
        let allow = Allow {
            from,
            to,
            service,
            expires,
        };
        rules.insert(id, vec![allow]);
        id
    }

    /// The same rule for one more who opens, for whom it ends at another moment: theirs comes as a rule of the same id.
    pub(crate) fn allow_too(&mut self, perimeter: &str, rule: u32, from: usize, expires: Option<UnixMillis>) {
        let rules = &mut self.perimeters.get_mut(&name(perimeter)).unwrap().rules;
        let allows = rules.get_mut(&rule).unwrap();
        let allow = Allow {
            from,
            expires,
            ..allows[0].clone()
        };
        allows.push(allow);
    }

    pub(crate) fn deny(&mut self, perimeter: &str, rule: u32) {
        self.perimeters
            .get_mut(&name(perimeter))
            .unwrap()
            .rules
            .remove(&rule);
    }

    pub(crate) fn expel(&mut self, perimeter: &str, host: usize) {
        let perimeter = self.perimeters.get_mut(&name(perimeter)).unwrap();
        perimeter.members.retain(|member| *member != host);
        for allows in perimeter.rules.values_mut() {
            allows.retain(|allow| allow.from != host && allow.to != host);
        }
    }

    /// A new revision to everybody, with keys registered and candidates handed out.
    pub(crate) fn push(&mut self) {
        self.revision += 1;
        for host in 0..self.hosts.len() {
            self.push_to(host);
        }
        // Keys that were made for it change the netmaps again, as registering does.
        self.revision += 1;
        for host in 0..self.hosts.len() {
            self.push_to(host);
            self.send_candidates(host);
        }
    }

    pub(crate) fn next_revision(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn push_to(&mut self, host: usize) {
        let netmap = self.netmap(host);
        let revision = netmap.revision;
        let now = self.now;
        self.hosts[host].dataplane.handle_netmap(netmap, now).unwrap();
        self.settle();
        let enforced = Event::Enforced { revision };
        assert!(self.hosts[host].events.contains(&enforced));
    }

    pub(crate) fn send_candidates(&mut self, to: usize) {
        for peer in 0..self.hosts.len() {
            let candidate = Candidate {
                address: self.hosts[peer].address,
                kind: CandidateKind::Host,
            };
            let (id, now) = (self.hosts[peer].id, self.now);
            self.hosts[to]
                .dataplane
                .handle_peer_candidates(id, &[candidate], now);
        }
    }

    pub(crate) fn netmap(&self, host: usize) -> Netmap {
        let joined = self
            .perimeters
            .iter()
            .filter(|(_, perimeter)| perimeter.members.contains(&host));
        let segments = joined.map(|(name, perimeter)| (name.clone(), self.segment(host, name, perimeter)));
        Netmap {
            mesh: name("lab"),
            node: self.hosts[host].id,
            name: self.hosts[host].name.clone(),
            revision: Revision {
                term: 1,
                n: self.revision,
            },
            issued_at: self.wall(),
            segments: segments.collect(),
        }
    }

    pub(crate) fn wall(&self) -> UnixMillis {
        UnixMillis(WALL_START_MS).saturating_add(self.now - self.start)
    }

    fn segment(&self, host: usize, name: &Name, perimeter: &Perimeter) -> SegmentMap {
        let mut peers = BTreeMap::new();
        let mut rules = Vec::new();
        let allows = perimeter.rules.iter();
        let allows = allows.flat_map(|(id, allows)| allows.iter().map(move |allow| (id, allow)));
        for (id, allow) in allows {
            let (direction, peer) = match (allow.from == host, allow.to == host) {
                (true, false) => (Direction::Egress, allow.to),
                (false, true) => (Direction::Ingress, allow.from),
                _ => continue,
            };
            rules.push(Rule {
                id: RuleId(*id),
                direction,
                peers: vec![self.hosts[peer].id].into(),
                services: vec![allow.service.parse().unwrap()],
                expires: allow.expires,
            });
            let Some(public_key) = self.hosts[peer].registered.get(name).copied() else {
                continue;
            };
            let map = PeerMap {
                name: self.hosts[peer].name.clone(),
                public_key,
                addresses: addresses(perimeter.number, peer),
                kind: PeerKind::Node,
            };
            peers.insert(self.hosts[peer].id, map);
        }
        SegmentMap {
            addresses: addresses(perimeter.number, host),
            prefixes: prefixes(perimeter.number),
            lease_ms: perimeter.lease.as_millis() as u64,
            public_key: self.hosts[host].registered.get(name).copied(),
            peers,
            rules,
        }
    }

    /// The process ends and starts again: nothing is left but its keys on disk.
    pub(crate) fn restart(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.dataplane = Dataplane::new(DataplaneConfig::default(), [200; 32]);
        host.events.clear();
        host.tun.clear();
        host.segments.clear();
    }

    /// Makes a host use another key from its next start.
    pub(crate) fn new_key(&mut self, host: usize) {
        self.hosts[host].key_number += 1;
    }

    /// `from`, which has keys and obeys nobody, sends `packet` to its peer `to`: it tells its own data plane that the
    /// addresses are right and everything is allowed.
    pub(crate) fn forge(&mut self, perimeter: &str, from: usize, to: usize, packet: &[u8]) {
        self.revision += 1;
        let flow = Packet::parse(packet).unwrap().flow;
        let mut netmap = self.netmap(from);
        netmap.segments.retain(|segment, _| *segment == name(perimeter));
        let (peer, now) = (self.hosts[to].id, self.now);
        let segment = netmap.segments.get_mut(&name(perimeter)).unwrap();
        segment.prefixes.v4 = vec!["100.64.0.0/10".parse().unwrap()];
        segment.prefixes.v6 = "fd00::/48".parse().unwrap();
        segment.peers.retain(|id, _| *id == peer);
        let lie = |addresses: &mut OverlayAddresses, address: IpAddr| match address {
            IpAddr::V4(v4) => addresses.v4 = v4,
            IpAddr::V6(v6) => addresses.v6 = v6,
        };
        lie(&mut segment.addresses, flow.src);
        lie(&mut segment.peers.get_mut(&peer).unwrap().addresses, flow.dst);
        segment.rules = vec![Rule {
            id: RuleId(1),
            direction: Direction::Egress,
            peers: vec![peer].into(),
            services: vec!["any".parse().unwrap()],
            expires: None,
        }];
        self.hosts[from].dataplane.handle_netmap(netmap, now).unwrap();
        self.settle();
        // Its flows under the old lie ended; their notices are no part of the attack.
        self.received(to, perimeter);
        self.send(from, perimeter, packet).unwrap();
        assert!(
            self.log.last().unwrap().bytes.len() >= packet.len(),
            "it was on the wire"
        );
    }

    /// A packet from a local application, and everything that follows from it.
    pub(crate) fn send(&mut self, from: usize, perimeter: &str, packet: &[u8]) -> Result<(), DropReason> {
        let segment = self.hosts[from].segments[&name(perimeter)].id;
        let now = self.now;
        let result = self.hosts[from].dataplane.handle_tun(segment, packet, now);
        self.settle();
        result
    }

    /// Packets in "db" from several hosts before anything is carried.
    pub(crate) fn send_at_once(&mut self, packets: &[(usize, &[u8])]) {
        for (from, packet) in packets {
            let segment = self.hosts[*from].segments[&name("db")].id;
            let now = self.now;
            self.hosts[*from]
                .dataplane
                .handle_tun(segment, packet, now)
                .unwrap();
        }
        self.settle();
    }

    /// Carries datagrams until nothing moves.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for host in 0..self.hosts.len() {
                self.drain(host);
            }
            let Some(datagram) = self.wire.pop_front() else {
                return;
            };
            self.log.push(datagram.clone());
            if (self.lose)(&datagram) {
                continue;
            }
            let now = self.now;
            if let Some(host) = self.hosts.iter_mut().find(|host| host.address == datagram.dst) {
                let _ = host.dataplane.handle_datagram(datagram.src, &datagram.bytes, now);
            }
        }
        panic!("the mesh never comes to rest");
    }

    fn drain(&mut self, place: usize) {
        let now = self.now;
        let host = &mut self.hosts[place];
        while let Some(packet) = host.dataplane.poll_tun() {
            let owner = host.segments.iter().find(|(_, facts)| facts.id == packet.segment);
            host.tun
                .push((owner.unwrap().0.clone(), packet.packet().to_vec()));
            host.dataplane.recycle(packet.buffer);
        }
        while let Some(transmit) = host.dataplane.poll_transmit() {
            let (src, dst) = (host.address, transmit.dst);
            self.wire.extend(transmit.datagrams().map(|datagram| Datagram {
                src,
                dst,
                bytes: datagram.to_vec(),
            }));
            host.dataplane.recycle(transmit.into_buffer());
        }
        while let Some(event) = host.dataplane.poll_event() {
            match &event {
                Event::SegmentAdded(facts) => {
                    host.segments.insert(facts.perimeter.clone(), facts.clone());
                }
                Event::KeyNeeded { perimeter } => {
                    let text = perimeter.as_str();
                    let number = text.rsplit_once('-').map_or("4", |(_, number)| number);
                    let number: u8 = number.parse().unwrap_or(4);
                    let random = [place as u8 + 1, host.key_number, text.as_bytes()[0], number].repeat(8);
                    let key = PrivateKey::from_random(random.try_into().unwrap());
                    host.dataplane.set_key(perimeter, key, now);
                }
                Event::RegisterKey {
                    perimeter,
                    public_key,
                } => {
                    host.registered.insert(perimeter.clone(), *public_key);
                }
                _ => {}
            }
            host.events.push(event);
        }
    }

    /// Lets time go by on every host.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for host in &mut self.hosts {
            host.dataplane.handle_timeout(self.now);
        }
        self.settle();
    }

    /// What came out of a host's TUN device since last asked.
    pub(crate) fn received(&mut self, host: usize, perimeter: &str) -> Vec<Vec<u8>> {
        let perimeter = name(perimeter);
        let (taken, kept) = std::mem::take(&mut self.hosts[host].tun)
            .into_iter()
            .partition(|(device, _)| *device == perimeter);
        self.hosts[host].tun = kept;
        let taken: Vec<(Name, Vec<u8>)> = taken;
        taken.into_iter().map(|(_, packet)| packet).collect()
    }

    pub(crate) fn segment_id(&self, host: usize, perimeter: &str) -> SegmentId {
        self.hosts[host].segments[&name(perimeter)].id
    }

    pub(crate) fn drops(&self, host: usize, reason: DropReason) -> u64 {
        self.hosts[host].dataplane.drops().of(reason)
    }

    pub(crate) fn has_event(&self, host: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.hosts[host].events.iter().any(wanted)
    }

    pub(crate) fn address(&self, perimeter: &str, host: usize) -> OverlayAddresses {
        addresses(self.perimeters[&name(perimeter)].number, host)
    }

    pub(crate) fn flow_v4(&self, perimeter: &str, from: usize, to: usize, dst: (Protocol, u16)) -> Flow {
        let (src_address, dst_address) = (self.address(perimeter, from).v4, self.address(perimeter, to).v4);
        flow(src_address.into(), dst_address.into(), dst)
    }

    pub(crate) fn flow_v6(&self, perimeter: &str, from: usize, to: usize, dst: (Protocol, u16)) -> Flow {
        let (src_address, dst_address) = (self.address(perimeter, from).v6, self.address(perimeter, to).v6);
        flow(src_address.into(), dst_address.into(), dst)
    }

    /// A UDP datagram sent, and whether it arrived at the other end's TUN device.
    pub(crate) fn udp_arrives(&mut self, perimeter: &str, from: usize, to: usize, port: u16) -> bool {
        let packet = udp_datagram(self.flow_v4(perimeter, from, to, (Protocol::UDP, port)), b"x");
        let _ = self.send(from, perimeter, &packet);
        self.received(to, perimeter).contains(&packet)
    }

    /// Three-way handshake and one segment of data each way.
    pub(crate) fn connect(&mut self, perimeter: &str, client: usize, server: usize, port: u16) -> Connection {
        let flow = self.flow_v4(perimeter, client, server, (Protocol::TCP, port));
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let steps: [(Flow, u32, u32, TcpFlags, &[u8]); 5] = [
            (flow, 1000, 0, syn, b""),
            (flow.reversed(), 5000, 1001, syn.with(ack), b""),
            (flow, 1001, 5001, ack, b""),
            (flow, 1001, 5001, ack, b"query"),
            (flow.reversed(), 5001, 1006, ack, b"rows"),
        ];
        for (flow_of_step, seq, ack, flags, payload) in steps {
            let (from, to) = if flow_of_step == flow {
                (client, server)
            } else {
                (server, client)
            };
            let packet = tcp(flow_of_step, seq, ack, flags, payload);
            assert_eq!(self.send(from, perimeter, &packet), Ok(()));
            assert_eq!(self.received(to, perimeter), [packet]);
        }
        Connection {
            flow,
            client_next: 1006,
            server_next: 5005,
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn tcp(flow: Flow, seq: u32, ack: u32, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    tcp_segment(&TcpSegment {
        flow,
        seq,
        ack,
        flags,
        window: 8192,
        payload,
    })
}

/// The sequence number of a RST that travels as `flow`, if `packet` is one.
pub(crate) fn reset_seq(packet: &[u8], flow: Flow) -> Option<u32> {
    let packet = Packet::parse(packet).ok()?;
    let tcp = packet.tcp.filter(|tcp| tcp.flags.has(TcpFlags::RST))?;
    (packet.flow == flow).then_some(tcp.seq)
}

fn flow(src: IpAddr, dst: IpAddr, (protocol, dst_port): (Protocol, u16)) -> Flow {
    Flow {
        src,
        dst,
        protocol,
        src_port: 40000,
        dst_port,
    }
}

fn addresses(perimeter: u8, host: usize) -> OverlayAddresses {
    let host = host as u8 + 1;
    OverlayAddresses {
        v4: [100, 64, perimeter, host].into(),
        v6: [0xfd00, 0, 0, u16::from(perimeter), 0, 0, 0, u16::from(host)].into(),
    }
}

fn prefixes(perimeter: u8) -> PerimeterPrefixes {
    PerimeterPrefixes {
        v4: vec![format!("100.64.{perimeter}.0/24").parse().unwrap()],
        v6: format!("fd00:0:0:{perimeter:x}::/64").parse().unwrap(),
    }
}

pub(crate) const LEASE: Duration = Duration::from_mins(10);
const WALL_START_MS: u64 = 1_800_000_000_000;
const ROUNDS_MAX: usize = 10_000;
