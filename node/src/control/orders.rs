//! What the controller has this node try and look up, on behalf of `ringfence verify`; and what people here have it ask.

use tokio::sync::oneshot;

use ringfence_control::{ProbeOrder, SeenAnswer, SeenQuestion, ToController};

use super::Control;
use crate::command::Command;
use crate::logins::Ask;
use crate::packet_loop::LoopEnded;
use crate::probe::{self, Ground};

impl Control {
    pub(super) fn probe(&mut self, order: ProbeOrder) {
        if self.memory.errands.len() >= ERRANDS_MAX {
            tracing::warn!(order = order.id, "too many orders at once: one was left out");
            return;
        }
        let segments = self.session.netmap().map(|netmap| &netmap.segments);
        let segment = order
            .perimeter
            .as_ref()
            .zip(segments)
            .and_then(|(name, segments)| segments.get(name));
        let ground = segment.map(|segment| Ground {
            addresses: segment.addresses,
            prefixes: segment.prefixes.clone(),
        });
        self.memory
            .errands
            .spawn(async move { ToController::ProbeResult(probe::carry_out(order, ground).await) });
    }

    /// Hands on what a person asks of the controller, or says at once why it cannot.
    pub(super) fn hand_on(&mut self, asked: Ask) {
        if self.memory.link.is_none() {
            self.logins.refuse(
                &asked,
                "this node is not connected to the controller: see `ringfence status`",
            );
        } else if self.memory.capability < asked.since() {
            self.logins
                .refuse(&asked, "the controller is too old for this: have it updated");
        } else {
            self.say(asked.into_message());
        }
    }

    pub(super) async fn answer_seen(&mut self, question: SeenQuestion) -> Result<(), LoopEnded> {
        let (answer, seen) = oneshot::channel();
        let mut flows = question.flows;
        flows.truncate(ProbeOrder::PROBES_MAX);
        self.packets
            .send(Command::Seen {
                perimeter: question.perimeter,
                flows,
                answer,
            })
            .await?;
        let seen = seen.await.map_err(|_| LoopEnded)?;
        self.say(ToController::Seen(SeenAnswer {
            id: question.id,
            seen,
        }));
        Ok(())
    }
}

/// Probe orders carried out at once; the controller waits for one before it sends the next.
const ERRANDS_MAX: usize = 8;
