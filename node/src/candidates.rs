//! Where peers may reach this node: what the operator wrote down, and the addresses of its own interfaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ringfence_control::Netmap;
use ringfence_model::{Candidate, CandidateKind};

/// What the candidates are made of.
pub(crate) struct Sources<'a> {
    /// `--endpoint`, in the order given.
    pub(crate) configured: &'a [SocketAddr],
    /// The addresses of this host's interfaces.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
    /// The UDP port of the tunnels.
    pub(crate) port: u16,
    /// To know overlay addresses by, on whatever interface they sit.
    pub(crate) netmap: Option<&'a Netmap>,
}

impl Sources<'_> {
    /// The candidates, best first, at most [`CANDIDATES_MAX`].
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let configured = self
            .configured
            .iter()
            .map(|address| (*address, CandidateKind::Configured));
        let usable = self
            .addresses
            .iter()
            .filter(|address| !self.is_overlay(**address));
        let hosts = usable.map(|address| (SocketAddr::new(*address, self.port), CandidateKind::Host));
        let mut seen = BTreeSet::new();
        configured
            .chain(hosts)
            .filter(|(address, _)| seen.insert(*address))
            .take(CANDIDATES_MAX)
            .map(|(address, kind)| Candidate { address, kind })
            .collect()
    }

    /// An overlay address as a candidate would send a tunnel through itself.
    fn is_overlay(&self, address: IpAddr) -> bool {
        let segments = self
            .netmap
            .into_iter()
            .flat_map(|netmap| netmap.segments.values());
        segments
            .flat_map(|segment| segment.prefixes.iter())
            .any(|prefix| prefix.contains(address))
    }
}

/// The most candidates a node tells; past it, the last interface addresses in order are left out.
const CANDIDATES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ringfence_control::SegmentMap;
    use ringfence_model::{Name, NodeId, OverlayAddresses, PerimeterPrefixes, Revision, UnixMillis};

    use super::*;

    fn netmap() -> Netmap {
        let segment = SegmentMap {
            addresses: OverlayAddresses {
                v4: "100.64.0.1".parse().unwrap(),
                v6: "fd00:1::1".parse().unwrap(),
            },
            prefixes: PerimeterPrefixes {
                v4: vec!["100.64.0.0/24".parse().unwrap()],
                v6: "fd00:1::/64".parse().unwrap(),
            },
            lease_ms: 1,
            public_key: None,
            peers: BTreeMap::new(),
            rules: Vec::new(),
        };
        Netmap {
            mesh: Name::parse("acme").unwrap(),
            node: NodeId(1),
            name: Name::parse("db-1").unwrap(),
            revision: Revision { term: 1, n: 1 },
            issued_at: UnixMillis(0),
            segments: BTreeMap::from([(Name::parse("payments-db").unwrap(), segment)]),
        }
    }

    fn texts(candidates: &[Candidate]) -> Vec<String> {
        candidates
            .iter()
            .map(|candidate| candidate.address.to_string())
            .collect()
    }

    #[test]
    fn configured_endpoints_come_first_and_nothing_twice() {
        let configured = [
            "203.0.113.9:4500".parse().unwrap(),
            "10.0.0.4:51820".parse().unwrap(),
        ];
        let addresses = ["10.0.0.4", "2001:db8::4"]
            .map(|text| text.parse().unwrap())
            .into();
        let sources = Sources {
            configured: &configured,
            addresses: &addresses,
            port: 51820,
            netmap: None,
        };

        let candidates = sources.candidates();

        assert_eq!(
            texts(&candidates),
            ["203.0.113.9:4500", "10.0.0.4:51820", "[2001:db8::4]:51820"]
        );
        assert_eq!(candidates[1].kind, CandidateKind::Configured);
        assert_eq!(candidates[2].kind, CandidateKind::Host);
    }

    #[test]
    fn overlay_addresses_are_no_candidates() {
        let addresses = ["100.64.0.1", "fd00:1::1", "192.0.2.4"]
            .map(|text| text.parse().unwrap())
            .into();
        let netmap = netmap();
        let sources = Sources {
            configured: &[],
            addresses: &addresses,
            port: 7,
            netmap: Some(&netmap),
        };

        assert_eq!(texts(&sources.candidates()), ["192.0.2.4:7"]);
    }

    #[test]
    fn a_host_of_many_addresses_tells_a_bounded_number() {
        let addresses = (0..200).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let sources = Sources {
            configured: &[],
            addresses: &addresses,
            port: 7,
            netmap: None,
        };

        assert_eq!(sources.candidates().len(), CANDIDATES_MAX);
    }
}
