//! What the controller has this node try and look up, on behalf of `ringfence verify` and `ringfence drill`; and what
//! people here have it ask.

use std::time::Duration;

use tokio::sync::oneshot;

use ringfence_control::{DrillOrder, DrillPart, ProbeOrder, SeenAnswer, SeenQuestion, ToController};
use ringfence_model::Name;

use super::Control;
use crate::command::Command;
use crate::drill;
use crate::logins::Ask;
use crate::packet_loop::LoopEnded;
use crate::probe::{self, Ground};

impl Control {
    pub(super) fn probe(&mut self, order: ProbeOrder) {
        if self.memory.errands.len() >= ERRANDS_MAX {
            tracing::warn!(order = order.id, "too many orders at once: one was left out");
            return;
        }
        let ground = order.perimeter.as_ref().and_then(|name| self.ground(name));
        self.memory
            .errands
            .spawn(async move { ToController::ProbeResult(probe::carry_out(order, ground).await) });
    }

    /// Takes part in a drill. Who answers says at once that it does; who sends, when its answers stay away.
    pub(super) fn drill(&mut self, order: &DrillOrder) {
        while self.memory.answering.try_join_next().is_some() {}
        if self.memory.errands.len() + self.memory.answering.len() >= ERRANDS_MAX {
            tracing::warn!(order = order.id, "too many orders at once: a drill was left out");
            return;
        }
        let ground = self.ground(&order.perimeter);
        let length = drill::length(order);
        match order.part {
            DrillPart::Answer { port } => {
                let held = drill::hold(ground.as_ref(), port);
                let outcome = held.map(|socket| {
                    self.memory.answering.spawn(drill::answer(socket, length));
                    <(u64, Duration)>::default()
                });
                self.say(ToController::DrillResult(drill::report(order.id, &outcome)));
            }
            DrillPart::Send { dst } => {
                let id = order.id;
                self.memory.errands.spawn(async move {
                    let outcome = drill::send(ground.as_ref(), dst, length).await;
                    ToController::DrillResult(drill::report(id, &outcome))
                });
            }
        }
    }

    /// Where orders for a perimeter are carried out, if this node is in it.
    fn ground(&self, perimeter: &Name) -> Option<Ground> {
        let segment = self.session.netmap()?.segments.get(perimeter)?;
        Some(Ground {
            addresses: segment.addresses,
            prefixes: segment.prefixes.clone(),
        })
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
