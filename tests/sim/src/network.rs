//! The Internet: where machines are, which ways are cut, and what becomes of a datagram.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

/// Where a machine is.
struct Site {
    address: IpAddr,
    nat: Option<Nat>,
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

    /// The address on a machine's own interface.
    pub(crate) fn host_address(&self, machine: usize) -> SocketAddr {
        SocketAddr::new(self.sites[machine].address, PORT)
    }

    /// The address the controller sees a machine at.
    pub(crate) fn seen_at(&self, machine: usize) -> IpAddr {
        let site = &self.sites[machine];
        site.nat.as_ref().map_or(site.address, |nat| nat.address)
    }

    /// The translator in front of a machine.
    pub(crate) fn nat(&self, machine: usize) -> Option<&Nat> {
        self.sites[machine].nat.as_ref()
    }

    /// Whether two machines must be able to talk without a relay: one is not behind a NAT, or both are behind such
    /// that the controller's guess of their outside ports is right.
    pub(crate) fn direct_path_is_owed(&self, one: usize, other: usize) -> bool {
        let nats = [one, other].map(|machine| self.nat(machine));
        nats.iter().any(Option::is_none) || nats.iter().flatten().all(|nat| nat.is_predictable())
    }

    /// Moves a machine that is not behind a NAT to a new address.
    pub(crate) fn roam(&mut self, machine: usize) {
        if self.sites[machine].nat.is_none() {
            self.moves += 1;
            let [high, low] = (self.moves as u16).to_be_bytes();
            self.sites[machine].address = Ipv4Addr::new(203, 1, high, low).into();
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

    /// Ends all that is wrong with the network.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.wire.loss = 0.0;
        self.wire.duplication = 0.0;
        self.wire.payload_bytes_max = usize::MAX;
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
        let host = self.host_address(from);
        let src = match &mut self.sites[from].nat {
            Some(nat) => nat.outbound(PORT, dst, now),
            None => host,
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
        if length > self.wire.payload_bytes_max || self.dice.chance(self.wire.loss) {
            return Vec::new();
        }
        let Some(place) = self.place(src, dst, now) else {
            return Vec::new();
        };
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
        if OUTSIDERS.contains(&dst.ip()) {
            return Some(Place::Outsider(dst));
        }
        for (machine, site) in self.sites.iter_mut().enumerate() {
            match &mut site.nat {
                None if site.address == dst.ip() && dst.port() == PORT => {
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
        if dice.chance(wire.nat) {
            let outside = Ipv4Addr::new(198, 51, 100, number).into();
            Self {
                address: Ipv4Addr::new(10, number, 0, 2).into(),
                nat: Some(Nat::draw(outside, dice)),
            }
        } else {
            Self {
                address: Ipv4Addr::new(192, 0, 2, number).into(),
                nat: None,
            }
        }
    }
}

/// Every node's tunnels.
pub(crate) const PORT: u16 = 51820;
/// The controller, as an end of a way that may be cut.
pub(crate) const CONTROLLER: usize = usize::MAX;
/// Who replays and corrupts.
pub(crate) const REPLAYER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));
/// Who sends handshakes by keys that nobody knows.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));

const OUTSIDERS: [IpAddr; 2] = [REPLAYER, STRANGER];
const CAPTURED_MAX: usize = 256;
