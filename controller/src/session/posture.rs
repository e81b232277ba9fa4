//! What a node is to look up about its machine, and what comes of what it says.
//!
//! **Invariant:** a node is judged by its newest report, at most [`JUDGED_EVERY`] later; one that reports all the time
//! costs no more than that.

use std::time::{Duration, Instant};

use anyhow::Result;
use ringfence_control::{POSTURE_SINCE, PostureOrder, PostureReport, ToNode};
use ringfence_controlplane::{Actor, Command, Controller, PostureCommand, Refusal};
use ringfence_policy::TpmNeeds;

use super::{Next, Session};
use crate::core::{CommitError, Core, wall_now};

/// How one connection stands to posture.
#[derive(Default)]
pub(super) struct Posture {
    /// Whether the node knows of it.
    understood: bool,
    /// What it was told to look up.
    told: PostureOrder,
    judged_at: Option<Instant>,
    /// The newest report, if it came too soon after the last.
    waiting: Option<PostureReport>,
}

impl Posture {
    pub(super) fn of(capability: u32) -> Self {
        Self {
            understood: capability >= POSTURE_SINCE,
            ..Self::default()
        }
    }

    /// When the report that waits is to be judged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting
            .as_ref()
            .and(self.judged_at)
            .map(|at| at + JUDGED_EVERY)
    }
}

/// What checks ask of a node, and of its TPM.
pub(super) struct Orders {
    posture: PostureOrder,
    tpm: TpmNeeds,
}

impl Orders {
    pub(super) fn of(controller: &Controller) -> Self {
        Self {
            posture: controller.posture_order(),
            tpm: controller.tpm_needs(),
        }
    }
}

impl Session {
    /// Tells the node what to look up, if that is news, and has its TPM prove itself as is asked for.
    pub(super) async fn order(&mut self, orders: Orders) -> Result<()> {
        self.order_tpm(orders.tpm);
        let order = orders.posture;
        if self.posture.understood && self.posture.told != order {
            self.sender.send(&ToNode::PostureOrder(order.clone())).await?;
            self.posture.told = order;
        }
        Ok(())
    }

    pub(super) async fn take_posture(&mut self, report: PostureReport) -> Result<()> {
        let now = Instant::now();
        let is_soon = self.posture.judged_at.is_some_and(|at| now < at + JUDGED_EVERY);
        if is_soon {
            self.posture.waiting = Some(report);
            return Ok(());
        }
        self.judge_posture(report, now).await
    }

    pub(super) async fn take_late_posture(&mut self) -> Result<Next> {
        if let Some(report) = self.posture.waiting.take() {
            self.judge_posture(report, Instant::now()).await?;
        }
        Ok(Next::Continue)
    }

    async fn judge_posture(&mut self, report: PostureReport, now: Instant) -> Result<()> {
        self.posture.judged_at = Some(now);
        self.posture.waiting = None;
        let (node, connection) = (self.node, self.connection);
        let judged = self.context.core.with(move |core| {
            let news =
                core.note(|controller| controller.posture_reported(node, connection, &report, wall_now()));
            if news { judge(core, node) } else { Ok(()) }
        });
        if let Err(error) = judged.await?
            && self.is_worth_telling()
        {
            tracing::error!(node = %self.node, %error, "what a node's posture comes to cannot be recorded");
        }
        Ok(())
    }
}

fn judge(core: &mut Core, node: ringfence_model::NodeId) -> Result<(), CommitError> {
    let actor = Actor::system("posture", "report");
    match core.commit(&actor, &Command::Posture(PostureCommand::Judge { node })) {
        // A node past its pace gains nothing for now.
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// How often one node is judged at most.
const JUDGED_EVERY: Duration = Duration::from_millis(200);
