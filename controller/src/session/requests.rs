//! What others in the controller have a node asked, and told, over its connection.

use anyhow::Result;
use ringfence_control::{DRILL_SINCE, DrillReport, ToNode};
use ringfence_transport::CloseReason;

use super::{Next, Session};
use crate::sessions::SessionRequest;

impl Session {
    pub(super) async fn handle_request(&mut self, request: SessionRequest) -> Result<Next> {
        match request {
            SessionRequest::Probe(order, answer) => {
                self.unanswered.probes.wait(order.id, answer);
                self.sender.send(&ToNode::Probe(order)).await?;
            }
            SessionRequest::Drill(order, answer) => {
                let id = order.id;
                self.unanswered.drills.wait(id, answer);
                if self.capability < DRILL_SINCE {
                    self.unanswered.drills.hear(id, DrillReport::too_old(id));
                } else {
                    self.sender.send(&ToNode::Drill(order)).await?;
                }
            }
            SessionRequest::AskSeen(question, answer) => {
                self.unanswered.questions.wait(question.id, answer);
                self.sender.send(&ToNode::AskSeen(question)).await?;
            }
            SessionRequest::Candidates(candidates) => self.tell_peer(candidates).await?,
            SessionRequest::Replaced => {
                self.close(CloseReason::Done, "a newer connection of this node has come");
                return Ok(Next::End);
            }
        }
        Ok(Next::Continue)
    }
}
