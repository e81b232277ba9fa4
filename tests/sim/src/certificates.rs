//! Certificates of a day, renewed after two thirds of it: what controller/src/ca.rs and node/src/identity.rs do.
//!
//! Signatures are the transport's. Here a certificate is its two dates; that they are asked for in time, granted, kept
//! and checked goes through the shipped sessions, the shipped rule of when, and the controller's log.

use std::time::Duration;

use ringfence_control::{Renew, Renewed, ToController, ToNode};
use ringfence_controlplane::{Actor, Command};
use ringfence_model::{NodeId, UnixMillis};

use crate::controller::Effect;
use crate::violation::Violation;
use crate::world::World;

/// When a node's certificate counts, by the controller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl Certificate {
    /// One made now.
    pub(crate) fn made_at(wall: UnixMillis) -> Self {
        Self {
            not_before: UnixMillis(wall.0.saturating_sub(CLOCK_SKEW.as_millis() as u64)),
            not_after: wall.saturating_add(VALIDITY),
        }
    }

    /// Whether it is taken.
    pub(crate) fn counts_at(&self, wall: UnixMillis) -> bool {
        (self.not_before..self.not_after).contains(&wall)
    }

    fn text(self) -> String {
        format!("{} {}", self.not_before.0, self.not_after.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let (not_before, not_after) = text.split_once(' ')?;
        Some(Self {
            not_before: UnixMillis(not_before.parse().ok()?),
            not_after: UnixMillis(not_after.parse().ok()?),
        })
    }
}

impl World {
    /// A node looks at its certificate.
    pub(crate) fn ask_for_renewal(&mut self, machine: usize) {
        let now = self.now;
        let Some(certificate) = self.machines[machine].disk.certificate else {
            return;
        };
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        let waiting = agent
            .renewal_asked
            .is_some_and(|asked| now < asked + RENEWAL_RETRY);
        let (Some(link), Some((read, wall))) = (agent.link.filter(|_| !waiting), agent.controller_clock)
        else {
            return;
        };
        let wall = wall.saturating_add(now.saturating_sub(read));
        if Renew::is_due(certificate.not_before, certificate.not_after, wall) {
            agent.renewal_asked = Some(now);
            self.tell_controller(link, &ToController::Renew(Renew { csr_der: Vec::new() }));
        }
    }

    /// The controller is asked for the next one.
    pub(crate) fn renew(&mut self, link: u64, node: NodeId) -> Result<(), Violation> {
        let certificate = Certificate::made_at(self.wall());
        let command = Command::RecordCertificate {
            node,
            serial: format!("{:x}", self.dice.number(1..u64::MAX)),
            not_after: certificate.not_after,
        };
        let done = self.commit(|request| Actor::system("ca", request), command, Effect::Nothing)?;
        if done.is_ok() {
            let renewed = Renewed {
                certificate_chain_pem: certificate.text(),
            };
            self.tell_node(link, &ToNode::Renewed(renewed));
        }
        Ok(())
    }

    /// A node has the next one.
    pub(crate) fn store_certificate(&mut self, machine: usize, chain_pem: &str) -> Result<(), Violation> {
        let Some(certificate) = Certificate::parse(chain_pem) else {
            return Err(Violation::new("protocol", "a certificate came through garbled").of(machine));
        };
        self.say(format!(
            "m{machine} has a certificate until {:?}",
            certificate.not_after
        ));
        self.machines[machine].disk.certificate = Some(certificate);
        self.stats.renewals += 1;
        Ok(())
    }
}

/// As controller/src/ca.rs has them.
const VALIDITY: Duration = Duration::from_hours(24);
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// As node/src/control.rs has it.
const RENEWAL_RETRY: Duration = Duration::from_mins(5);
