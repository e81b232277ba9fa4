//! Where a node may be reached: what it says, what is seen from here, and what it is told of its peers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use ringfence_control::{Netmap, PeerCandidates, ToNode};
use ringfence_model::{Candidate, CandidateKind};

use super::posture::Orders;
use super::{Next, Session};

/// What a node says of where it may be reached, no faster than all its peers can be told.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    last: Option<Instant>,
    /// Said too soon after the last, and told when it is time: the newest alone.
    late: Option<Vec<Candidate>>,
}

impl Announcements {
    /// The candidates to tell of now. Those that come too soon wait.
    fn take(&mut self, candidates: Vec<Candidate>, now: Instant) -> Option<Vec<Candidate>> {
        if self.last.is_some_and(|last| now < last + ANNOUNCED_EVERY) {
            self.late = Some(candidates);
            return None;
        }
        self.last = Some(now);
        self.late = None;
        Some(candidates)
    }

    /// The ones that waited.
    fn take_late(&mut self, now: Instant) -> Option<Vec<Candidate>> {
        let late = self.late.take()?;
        self.take(late, now)
    }

    /// When those that wait are due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.late.as_ref()?;
        Some(self.last? + ANNOUNCED_EVERY)
    }
}

impl Session {
    pub(super) async fn handle_candidates(&mut self, candidates: Vec<Candidate>) -> Result<()> {
        match self.announcements.take(candidates, Instant::now()) {
            Some(candidates) => self.note_candidates(candidates).await,
            None => Ok(()),
        }
    }

    pub(super) async fn announce_late(&mut self) -> Result<Next> {
        if let Some(candidates) = self.announcements.take_late(Instant::now()) {
            self.note_candidates(candidates).await?;
        }
        Ok(Next::Continue)
    }

    async fn note_candidates(&mut self, mut candidates: Vec<Candidate>) -> Result<()> {
        candidates.truncate(CANDIDATES_READ_MAX);
        if let Some(seen_at) = self.sender.handle().remote() {
            // Where the node seems to be from here, on the port its tunnels use.
            let address = SocketAddr::new(seen_at.ip().to_canonical(), self.listen_port);
            candidates.push(Candidate {
                address,
                kind: CandidateKind::ServerReflexive,
            });
        }
        candidates.sort_by_key(|candidate| candidate.kind);
        let node = self.node;
        let (listeners, news) = self
            .context
            .core
            .with(move |core| {
                let listeners = core.note(|controller| controller.set_candidates(node, &candidates));
                (listeners, core.controller().news_of(node))
            })
            .await?;
        for listener in listeners {
            self.context.sessions.tell_candidates(listener, news.clone());
        }
        Ok(())
    }

    /// What the node may know now, where its peers may be reached, as far as it has not heard, and what it is to look up. `None` if it was
    /// removed.
    pub(super) async fn look(&mut self) -> Result<Option<(Netmap, Vec<PeerCandidates>, Orders)>> {
        let mut told = std::mem::take(&mut self.told);
        let looked = self
            .context
            .core
            .netmap_and(self.node, move |controller, netmap| {
                let news = controller.news_beyond(netmap, &mut told);
                (news, told, Orders::of(controller))
            });
        Ok(looked.await?.map(|(netmap, (news, told, orders))| {
            self.told = told;
            (netmap, news, orders)
        }))
    }

    /// Tells where peers may be reached. Call once the node was sent the netmap that lists them.
    pub(super) async fn tell_peers(&mut self, news: Vec<PeerCandidates>) -> Result<()> {
        // A netmap that fits no message is sent closed, and lists fewer peers than there are.
        self.told.retain(|peer, _| self.state.lists(*peer));
        for news in news {
            self.tell_peer(news).await?;
        }
        Ok(())
    }

    pub(super) async fn tell_peer(&mut self, news: PeerCandidates) -> Result<()> {
        // A node forgets what it hears of who is not its peer: it is told with the netmap that makes them peers.
        if !self.state.lists(news.peer) {
            return Ok(());
        }
        if self.told.get(&news.peer) == Some(&news) {
            return Ok(());
        }
        self.told.insert(news.peer, news.clone());
        self.sender.send(&ToNode::PeerCandidates(news)).await?;
        Ok(())
    }
}

/// Candidates read of one message; the core keeps fewer.
const CANDIDATES_READ_MAX: usize = 64;
/// Each goes to every peer: 4,095 of them in a full perimeter.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Vec<Candidate> {
        vec![Candidate {
            address: ([192, 0, 2, 1], port).into(),
            kind: CandidateKind::Host,
        }]
    }

    #[test]
    fn a_node_that_changes_its_mind_all_the_time_is_told_of_once_a_second() {
        let (mut announcements, begun) = (Announcements::default(), Instant::now());
        let mut told = Vec::new();

        for ms in 0..3_000_u16 {
            let now = begun + Duration::from_millis(ms.into());
            if announcements.due().is_some_and(|due| due <= now) {
                told.extend(announcements.take_late(now));
            }
            told.extend(announcements.take(at(ms + 1), now));
        }

        assert_eq!(told, [at(1), at(1_000), at(2_000)], "the newest each time");
    }

    #[test]
    fn the_last_word_is_told_when_it_is_time() {
        let (mut announcements, now) = (Announcements::default(), Instant::now());
        announcements.take(at(1), now);
        announcements.take(at(2), now);

        let due = announcements.due().unwrap();

        assert_eq!(announcements.take_late(due), Some(at(2)));
        assert_eq!(announcements.due(), None);
    }
}
