//! The Internet: where machines are, which ways are cut, and what becomes of a datagram.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::dice::Dice;
use crate::nat::Nat;
use crate::swarm::Wire;

/// The network.
pub(crate) struct Network {
    /// How datagrams fare.
    pub wire: Wire,
    sites: Vec<Site>,
    /// Ways that are cut, with how many faults hold each.
    cuts: BTreeMap<(usize, usize), u32>,
    /// What an eavesdropper kept: receiver, source as seen there, bytes.
    pub captured: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    moves: u32,
    dice: Dice,
}

/// Where a machine is: by IPv4, by IPv6 or by both. Translators are in the way of IPv4 alone.
struct Site {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    nat: Option<Nat>,
    /// The largest UDP payload that its link carries.
    payload_bytes_max: usize,
}

/// A copy of a datagram on its way.
pub(crate) struct Passage {
    /// Where it ends up.
    pub place: Place,
    /// How long it takes.
    pub takes: Duration,
    /// The source that the receiver sees.
    pub src: SocketAddr,
}

/// Where a datagram may end up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a machine's socket.
    Machine(usize),
    /// At an attacker's.
    Outsider(SocketAddr),
}

impl Network {
    /// A network with as many machines.
    pub(crate) fn new(machines: usize, wire: Wire, mut dice: Dice) -> Self {
        let sites = (0..machines)
            .map(|place| Site::draw(place, &wire, &mut dice))
            .collect();
        Self {
            wire,
            sites,
            cuts: BTreeMap::new(),
            captured: VecDeque::new(),
            moves: 0,
            dice,
        }
    }

    /// The addresses on a machine's own interface; there is at least one.
    pub(crate) fn host_addresses(&self, machine: usize) -> Vec<SocketAddr> {
        let site = &self.sites[machine];
        let addresses = [site.v4, site.v6].into_iter().flatten();
        addresses.map(|address| SocketAddr::new(address, PORT)).collect()
    }

    /// The first of them.
    pub(crate) fn host_address(&self, machine: usize) -> SocketAddr {
        self.host_addresses(machine)[0]
    }

    /// The address the controller sees a machine at.
    pub(crate) fn seen_at(&self, machine: usize) -> IpAddr {
        let site = &self.sites[machine];
        let direct = self.host_address(machine).ip();
        site.nat.as_ref().map_or(direct, |nat| nat.address)
    }

    /// The translator in front of a machine.
    pub(crate) fn nat(&self, machine: usize) -> Option<&Nat> {
        self.sites[machine].nat.as_ref()
    }

    /// Whether two machines must be able to talk without a relay: both have IPv6, or both have IPv4 and one is not
    /// behind a NAT, or both are behind such that the controller's guess of their outside ports is right.
    pub(crate) fn direct_path_is_owed(&self, one: usize, other: usize) -> bool {
        let sites = [one, other].map(|machine| &self.sites[machine]);
        if sites.iter().all(|site| site.v6.is_some()) {
            return true;
        }
        if sites.iter().any(|site| site.v4.is_none()) {
            return false;
        }
        let nats = [one, other].map(|machine| self.nat(machine));
        nats.iter().any(Option::is_none) || nats.iter().flatten().all(|nat| nat.is_predictable())
    }

    /// Moves a machine that is not behind a NAT to new addresses.
    pub(crate) fn roam(&mut self, machine: usize) {
        let site = &mut self.sites[machine];
        if site.nat.is_none() {
            self.moves += 1;
            let [high, low] = (self.moves as u16).to_be_bytes();
            site.v4 = site.v4.map(|_| Ipv4Addr::new(203, 1, high, low).into());
            site.v6 = site.v6.map(|_| v6(2, self.moves as u16));
        }
    }

    /// Cuts a way.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Ends one cut of a way.
    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Whether a way is open.
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains_key(&(from, to))
    }

    /// Ends all that is wrong with the network. Links stay as narrow as they are: that is no fault.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.wire.loss = 0.0;
        self.wire.duplication = 0.0;
    }

    /// How long one datagram or message takes.
    pub(crate) fn delay(&mut self) -> Duration {
        let jitter = self
            .dice
            .time(Duration::ZERO..self.wire.jitter + Duration::from_micros(1));
        self.wire.latency + jitter
    }

    /// Sends a datagram from a machine.
    pub(crate) fn send(&mut self, from: usize, dst: SocketAddr, bytes: &[u8], now: Duration) -> Vec<Passage> {
        let site = &mut self.sites[from];
        let address = if dst.is_ipv4() { site.v4 } else { site.v6 };
        let Some(address) = address.filter(|_| bytes.len() <= site.payload_bytes_max) else {
            return Vec::new();
        };
        let src = match &mut site.nat {
            Some(nat) if dst.is_ipv4() => nat.outbound(PORT, dst, now),
            Some(_) | None => SocketAddr::new(address, PORT),
        };
        if self.captured.len() == CAPTURED_MAX {
            self.captured.pop_front();
        }
        if self.dice.chance(0.3) {
            self.captured.push_back((dst, src, bytes.to_vec()));
        }
        self.carry(Some(from), src, dst, bytes.len(), now)
    }

    /// Sends a datagram from anywhere, with any source address.
    pub(crate) fn inject(
        &mut self,
        src: SocketAddr,
        dst: SocketAddr,
        length: usize,
        now: Duration,
    ) -> Vec<Passage> {
        self.carry(None, src, dst, length, now)
    }

    fn carry(
        &mut self,
        from: Option<usize>,
        src: SocketAddr,
        dst: SocketAddr,
        length: usize,
        now: Duration,
    ) -> Vec<Passage> {
        if src.is_ipv4() != dst.is_ipv4() || self.dice.chance(self.wire.loss) {
            return Vec::new();
        }
        let Some(place) = self.place(src, dst, now) else {
            return Vec::new();
        };
        if let Place::Machine(to) = place
            && length > self.sites[to].payload_bytes_max
        {
            return Vec::new();
        }
        if let (Some(from), Place::Machine(to)) = (from, place)
            && !self.is_open(from, to)
        {
            return Vec::new();
        }
        let copies = if self.dice.chance(self.wire.duplication) {
            2
        } else {
            1
        };
        let passages = (0..copies).map(|_| Passage {
            place,
            takes: self.delay(),
            src,
        });
        passages.collect()
    }

    fn place(&mut self, src: SocketAddr, dst: SocketAddr, now: Duration) -> Option<Place> {
        if [REPLAYERS, STRANGERS].concat().contains(&dst.ip()) {
            return Some(Place::Outsider(dst));
        }
        for (machine, site) in self.sites.iter_mut().enumerate() {
            if site.v6 == Some(dst.ip()) && dst.port() == PORT {
                return Some(Place::Machine(machine));
            }
            match &mut site.nat {
                None if site.v4 == Some(dst.ip()) && dst.port() == PORT => {
                    return Some(Place::Machine(machine));
                }
                Some(nat) if nat.address == dst.ip() => {
                    return nat
                        .inbound(dst.port(), src, now)
                        .then_some(Place::Machine(machine));
                }
                None | Some(_) => {}
            }
        }
        None
    }
}

impl Site {
    fn draw(place: usize, wire: &Wire, dice: &mut Dice) -> Self {
        let number = place as u8 + 1;
        let v6 = dice.chance(wire.ipv6).then(|| v6(1, number.into()));
        let payload_bytes_max = if dice.chance(wire.narrow) {
            dice.pick(&[1452, 1372, IPV6_PAYLOAD_MIN])
        } else {
            1472
        };
        let mut site = Self {
            v4: Some(Ipv4Addr::new(192, 0, 2, number).into()),
            v6,
            nat: None,
            payload_bytes_max,
        };
        if v6.is_some() && dice.chance(0.4) {
            site.v4 = None;
        } else if dice.chance(wire.nat) {
            let outside = Ipv4Addr::new(198, 51, 100, number).into();
            site.v4 = Some(Ipv4Addr::new(10, number, 0, 2).into());
            site.nat = Some(Nat::draw(outside, dice));
        }
        site
    }
}

fn v6(net: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host).into()
}

/// The one of two addresses of the same family as `like`.
pub(crate) fn of_family(addresses: [IpAddr; 2], like: SocketAddr) -> IpAddr {
    addresses[usize::from(like.is_ipv6())]
}

/// Every node's tunnels.
pub(crate) const PORT: u16 = 51820;
/// The controller, as an end of a way that may be cut.
pub(crate) const CONTROLLER: usize = usize::MAX;
/// Who replays and corrupts, by IPv4 and by IPv6.
pub(crate) const REPLAYERS: [IpAddr; 2] = outsider(66);
/// Who sends handshakes by keys that nobody knows.
pub(crate) const STRANGERS: [IpAddr; 2] = outsider(77);

const fn outsider(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, number)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, number as u16)),
    ]
}

/// What every IPv6 link carries: 1280 bytes, less the headers of IPv6 and UDP.
const IPV6_PAYLOAD_MIN: usize = 1232;
const CAPTURED_MAX: usize = 256;
