//! Why something can be reached from a node, or not: asked by the person at it.
//!
//! **Invariant:** a node is told about itself and the members of its own perimeters alone, by what holds now.

use ringfence_control::{AskWhy, ToNode, WhyAnswer};

use super::Session;
use crate::core::wall_now;

impl Session {
    pub(super) async fn answer_why(&mut self, asked: AskWhy) -> anyhow::Result<()> {
        let AskWhy { id, question } = asked;
        let node = self.node;
        let answer = self
            .context
            .core
            .with(move |core| core.controller().why(node, &question, wall_now()))
            .await?;
        let (report, why) = match answer {
            Ok(report) => (Some(Box::new(report)), String::new()),
            Err(error) => (
                None,
                format!("{error} in a perimeter of this machine: `ringfence status` shows who is"),
            ),
        };
        let answer = WhyAnswer { id, report, why };
        self.sender.send(&ToNode::WhyAnswer(answer)).await?;
        Ok(())
    }
}
