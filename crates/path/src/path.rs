//! The candidates of one peer, and which of them is proven.
//!
//! **Invariant:** only an authentic datagram promotes an address; only silence demotes it. Doubt does neither: it widens
//! the search.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringfence_model::Candidate;

/// Where one peer may be, and where it is.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Usable ones, best first.
    candidates: Vec<Candidate>,
    proven: Option<Proven>,
}

/// An address from which an authentic datagram came.
#[derive(Clone, Copy, Debug)]
struct Proven {
    address: SocketAddr,
    /// Which address of ours the datagram was for, where the shell can tell.
    ours: Option<IpAddr>,
    heard_at: Instant,
    /// Handshakes sent since then.
    unanswered: u32,
}

/// What new candidates say of the proven address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    AsBefore,
    /// The peer has other addresses now, and this is none of them: it may have left. An answer
    /// alone tells, so ask for one: the next handshake goes everywhere.
    Doubtful,
}

impl Path {
    /// A path to a peer that was never heard of.
    pub fn new(candidates: &[Candidate]) -> Self {
        let mut path = Self::default();
        path.set_candidates(candidates);
        path
    }

    /// Replaces the candidates. A proven address stays, whether it is among them or not: the peer was there, and may be
    /// seen elsewhere than it knows.
    ///
    /// Addresses that cannot be a peer's are left out; beyond [`CANDIDATES_MAX`] the worst are.
    pub fn set_candidates(&mut self, candidates: &[Candidate]) -> Standing {
        let before = std::mem::take(&mut self.candidates);
        for candidate in candidates {
            if !lists(&self.candidates, candidate.address) && is_usable(candidate.address) {
                self.candidates.push(*candidate);
            }
        }
        // Stable: within a kind the peer's own order counts.
        self.candidates.sort_by_key(|candidate| candidate.kind);
        self.candidates.truncate(CANDIDATES_MAX);
        let has_news = !self.candidates.is_empty() && self.candidates != before;
        match &mut self.proven {
            Some(proven) if has_news && !lists(&self.candidates, proven.address) => {
                proven.unanswered = UNANSWERED_MAX;
                Standing::Doubtful
            }
            Some(_) | None => Standing::AsBefore,
        }
    }

    /// Where data goes: to the proven address, else to the best candidate.
    pub fn data_endpoint(&self) -> Option<SocketAddr> {
        let best = self.candidates.first().map(|candidate| candidate.address);
        self.proven.map(|proven| proven.address).or(best)
    }

    /// Which address of ours to write to `dst` from, for a host with several: the one the peer wrote to from there, since
    /// a NAT or firewall on the way lets nothing else back in. `None`: as the kernel routes, which is also what is left
    /// to try when the peer no longer answers.
    pub fn source_towards(&self, dst: SocketAddr, now: Instant) -> Option<IpAddr> {
        let proven = self
            .proven
            .filter(|proven| proven.address == dst && proven.answers(now));
        proven?.ours
    }

    /// Where a handshake initiation goes: to the proven address while it answers, else there and to every candidate.
    ///
    /// The peer answers the copy that arrives first and drops the others as replays.
    pub fn handshake_endpoints(&self, now: Instant) -> Vec<SocketAddr> {
        let candidates = self.candidates.iter().map(|candidate| candidate.address);
        match self.proven {
            Some(proven) if proven.answers(now) => vec![proven.address],
            Some(proven) => {
                let others = candidates.filter(|address| *address != proven.address);
                std::iter::once(proven.address).chain(others).collect()
            }
            None => candidates.collect(),
        }
    }

    /// Notes that an initiation went to [`Self::handshake_endpoints`]: the second one without an answer widens the
    /// next.
    pub fn handshake_sent(&mut self) {
        if let Some(proven) = &mut self.proven {
            proven.unanswered = proven.unanswered.saturating_add(1);
        }
    }

    /// Notes that an authentic datagram came from `src`, not a cookie reply: the peer is there.
    pub fn learned(&mut self, src: SocketAddr, now: Instant) {
        self.learned_at(src, None, now);
    }

    /// As [`Self::learned`], with the address of ours at which it came.
    pub fn learned_at(&mut self, src: SocketAddr, ours: Option<IpAddr>, now: Instant) {
        self.proven = Some(Proven {
            address: src,
            ours,
            heard_at: now,
            unanswered: 0,
        });
    }
}

impl Proven {
    fn answers(&self, now: Instant) -> bool {
        self.unanswered < UNANSWERED_MAX && now.saturating_duration_since(self.heard_at) < SILENCE_MAX
    }
}

fn lists(candidates: &[Candidate], address: SocketAddr) -> bool {
    candidates.iter().any(|candidate| candidate.address == address)
}

/// Whether a datagram sent there could reach another machine, and only one.
///
/// Candidates are a peer's claims: without this it could point our handshakes at services on this machine.
fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let lone_host = match ip {
        IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_unspecified() && v4.octets()[0] != 0,
        // A link-local address says nothing without its link.
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    };
    lone_host && address.port() != 0 && !ip.is_multicast() && !ip.is_loopback()
}

/// Candidates kept for one peer: the worst beyond it are left out.
pub const CANDIDATES_MAX: usize = 16;

/// Handshakes to a proven address that may go unanswered before the others are tried as well: 10 s.
const UNANSWERED_MAX: u32 = 2;
/// After this much silence no session is left (`REJECT_AFTER_TIME`), and the peer may have moved.
const SILENCE_MAX: Duration = Duration::from_mins(3);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringfence_model::CandidateKind;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an instant has no other source; the tests only count from it"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn candidate(address: &str, kind: CandidateKind) -> Candidate {
        Candidate {
            address: address.parse().unwrap(),
            kind,
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn two_candidates() -> Path {
        Path::new(&[
            candidate("192.0.2.1:51820", CandidateKind::Host),
            candidate("203.0.113.1:51820", CandidateKind::Configured),
        ])
    }

    #[test]
    fn a_handshake_with_an_unknown_peer_tries_every_candidate_best_first() {
        let path = two_candidates();

        assert_eq!(
            path.handshake_endpoints(start()),
            [address("203.0.113.1:51820"), address("192.0.2.1:51820")]
        );
        assert_eq!(path.data_endpoint(), Some(address("203.0.113.1:51820")));
    }

    #[test]
    fn a_peer_is_followed_to_where_it_was_heard() {
        let now = start();
        let mut path = two_candidates();

        path.learned(address("198.51.100.9:4000"), now);

        assert_eq!(path.data_endpoint(), Some(address("198.51.100.9:4000")));
        assert_eq!(path.handshake_endpoints(now), [address("198.51.100.9:4000")]);
    }

    #[test]
    fn a_peer_is_answered_from_the_address_it_wrote_to_while_it_answers() {
        let now = start();
        let mut path = two_candidates();
        let (peer, ours) = (address("192.0.2.1:51820"), "203.0.113.9".parse().unwrap());
        assert_eq!(path.source_towards(peer, now), None);

        path.learned_at(peer, Some(ours), now);

        assert_eq!(path.source_towards(peer, now), Some(ours));
        assert_eq!(path.source_towards(address("203.0.113.1:51820"), now), None);
        path.handshake_sent();
        assert_eq!(path.source_towards(peer, now), Some(ours), "one may get lost");
        path.handshake_sent();
        assert_eq!(
            path.source_towards(peer, now),
            None,
            "that address may be of no use now"
        );
        path.learned_at(peer, Some(ours), now);
        assert_eq!(path.source_towards(peer, now + SILENCE_MAX), None);
    }

    #[test]
    fn new_candidates_do_not_move_a_peer_that_answers() {
        let now = start();
        let mut path = two_candidates();
        path.learned(address("192.0.2.1:51820"), now);
        let with_it = ["203.0.113.77:1", "192.0.2.1:51820"];

        let standing = path.set_candidates(&with_it.map(|text| candidate(text, CandidateKind::Configured)));

        assert_eq!(standing, Standing::AsBefore);
        assert_eq!(path.data_endpoint(), Some(address("192.0.2.1:51820")));
        assert_eq!(path.handshake_endpoints(now), [address("192.0.2.1:51820")]);
    }

    #[test]
    fn a_peer_that_may_have_moved_is_sought_everywhere_and_answered_where_it_was_until_it_is_found() {
        let now = start();
        let (old, new) = (address("192.0.2.1:51820"), address("203.0.113.77:1"));
        let mut path = two_candidates();
        path.learned(old, now);
        let elsewhere = [candidate("203.0.113.77:1", CandidateKind::Configured)];

        assert_eq!(path.set_candidates(&elsewhere), Standing::Doubtful);
        assert_eq!(path.data_endpoint(), Some(old));
        assert_eq!(path.handshake_endpoints(now), [old, new]);

        path.learned(old, now);
        assert_eq!(path.set_candidates(&elsewhere), Standing::AsBefore, "no news");
        assert_eq!(path.set_candidates(&[]), Standing::AsBefore, "nothing is known");
        assert_eq!(path.handshake_endpoints(now), [old], "it has answered");
    }

    #[test]
    fn two_unanswered_handshakes_widen_the_search_and_one_answer_narrows_it() {
        let now = start();
        let mut path = two_candidates();
        path.learned(address("192.0.2.1:51820"), now);

        path.handshake_sent();
        assert_eq!(path.handshake_endpoints(now).len(), 1);
        path.handshake_sent();
        assert_eq!(
            path.handshake_endpoints(now),
            [address("192.0.2.1:51820"), address("203.0.113.1:51820")]
        );

        path.learned(address("203.0.113.1:51820"), now);
        assert_eq!(path.handshake_endpoints(now), [address("203.0.113.1:51820")]);
    }

    #[test]
    fn long_silence_widens_the_search() {
        let now = start();
        let mut path = two_candidates();
        path.learned(address("192.0.2.1:51820"), now);

        assert_eq!(path.handshake_endpoints(now + SILENCE_MAX).len(), 2);
    }

    #[test]
    fn a_peer_without_candidates_has_no_endpoint_until_it_speaks() {
        let now = start();
        let mut path = Path::new(&[]);
        assert_eq!(path.data_endpoint(), None);
        assert!(path.handshake_endpoints(now).is_empty());

        path.learned(address("[2001:db8::1]:9"), now);

        assert_eq!(path.data_endpoint(), Some(address("[2001:db8::1]:9")));
    }

    #[test]
    fn candidates_that_cannot_be_a_peers_are_left_out() {
        let odd = [
            "0.0.0.0:1",
            "0.1.2.3:1",
            "127.0.0.1:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "192.0.2.1:0",
            "[::]:1",
            "[::1]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[::ffff:127.0.0.1]:1",
        ];

        let path = Path::new(&odd.map(|address| candidate(address, CandidateKind::Configured)));

        assert!(path.handshake_endpoints(start()).is_empty());
    }

    proptest! {
        #[test]
        fn endpoints_are_bounded_and_distinct(
            ports in proptest::collection::vec(1..40_u16, 0..80),
            learned in proptest::option::of(1..40_u16),
        ) {
            let now = start();
            let candidates: Vec<Candidate> = ports
                .iter()
                .map(|port| candidate(&format!("192.0.2.1:{port}"), CandidateKind::Host))
                .collect();
            let mut path = Path::new(&candidates);
            if let Some(port) = learned {
                path.learned(address(&format!("192.0.2.1:{port}")), now);
            }

            let mut endpoints = path.handshake_endpoints(now + SILENCE_MAX);
            let count = endpoints.len();
            endpoints.sort();
            endpoints.dedup();

            prop_assert!(count <= CANDIDATES_MAX + 1);
            prop_assert_eq!(endpoints.len(), count);
        }
    }
}
