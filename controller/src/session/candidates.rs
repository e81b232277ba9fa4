//! Where a node may be reached: what it says, what is seen from here, and what it is told of its peers.

use std::net::SocketAddr;

use anyhow::Result;
use ringfence_control::{PeerCandidates, ToNode};
use ringfence_model::{Candidate, CandidateKind};

use super::Session;

impl Session {
    pub(super) async fn note_candidates(&mut self, mut candidates: Vec<Candidate>) -> Result<()> {
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
        let (listeners, kept) = self
            .context
            .core
            .with(move |core| {
                let listeners = core.note(|controller| controller.set_candidates(node, &candidates));
                let kept = core
                    .controller()
                    .presence(node)
                    .map(|presence| presence.candidates.clone());
                (listeners, kept.unwrap_or_default())
            })
            .await?;
        for listener in listeners {
            let message = PeerCandidates {
                peer: node,
                candidates: kept.clone(),
            };
            self.context.sessions.tell_candidates(listener, message);
        }
        Ok(())
    }

    /// Tells the node where its peers may be reached, as far as it has not heard.
    pub(super) async fn tell_candidates(&mut self) -> Result<()> {
        let node = self.node;
        let all = self
            .context
            .core
            .with(move |core| core.controller().candidates_for(node))
            .await?;
        self.told.retain(|peer, _| all.contains_key(peer));
        for (peer, candidates) in all {
            self.tell_peer(PeerCandidates { peer, candidates }).await?;
        }
        Ok(())
    }

    pub(super) async fn tell_peer(&mut self, news: PeerCandidates) -> Result<()> {
        if self.told.get(&news.peer) == Some(&news.candidates) {
            return Ok(());
        }
        self.told.insert(news.peer, news.candidates.clone());
        self.sender.send(&ToNode::PeerCandidates(news)).await?;
        Ok(())
    }
}

/// Candidates read of one message; the core keeps fewer.
const CANDIDATES_READ_MAX: usize = 64;
