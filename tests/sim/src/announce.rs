//! What a machine's agent tells the controller of itself: who it is, its keys, where it may be reached.

use std::time::Duration;

use ringfence_control::{HelloFacts, RegisterKey, ToController};
use ringfence_model::{Candidate, CandidateKind, Name, PublicKey};

use crate::network::PORT;
use crate::world::World;

impl World {
    /// A new connection: hello, keys, candidates.
    pub(crate) fn greet(&mut self, machine: usize, link: u64) {
        let agent = self.agent(machine);
        agent.link = Some(link);
        agent.told = None;
        let epoch = agent.epoch();
        let hello = agent.session.hello(HelloFacts {
            version: "sim".to_owned(),
            listen_port: PORT,
            epoch,
            lane_ports: Vec::new(),
        });
        let unregistered = agent.unregistered.clone();
        self.tell_controller(link, &hello);
        for (perimeter, key) in unregistered {
            self.register(machine, perimeter, key);
        }
        self.tell_candidates(machine);
    }

    pub(crate) fn register(&mut self, machine: usize, perimeter: Name, public_key: PublicKey) {
        if let Some(link) = self.agent(machine).link {
            let message = RegisterKey {
                perimeter,
                public_key,
                // Who asks is known by the link; signatures are the transport's.
                signature: Vec::new(),
            };
            self.tell_controller(link, &ToController::RegisterKey(message));
        }
    }

    /// Offers keys again that the controller has not confirmed.
    pub(crate) fn offer_keys_again(&mut self, machine: usize) {
        let now = self.now;
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        if agent.link.is_none() || now < agent.keys_offered + KEYS_RETRY {
            return;
        }
        agent.keys_offered = now;
        for (perimeter, key) in agent.unregistered.clone() {
            self.register(machine, perimeter, key);
        }
    }

    /// Tells the controller where this machine may be reached, if that is news.
    pub(crate) fn tell_candidates(&mut self, machine: usize) {
        let addresses = self.network.host_addresses(machine).into_iter();
        let candidates: Vec<Candidate> = addresses
            .map(|address| Candidate {
                address,
                kind: CandidateKind::Host,
            })
            .collect();
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        let Some(link) = agent.link else {
            return;
        };
        if agent.told.as_ref() != Some(&candidates) {
            agent.told = Some(candidates.clone());
            self.tell_controller(link, &ToController::Candidates(candidates));
        }
    }
}

/// As node/src/control.rs has it.
const KEYS_RETRY: Duration = Duration::from_secs(15);
