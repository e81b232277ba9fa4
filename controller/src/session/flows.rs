//! What a node tells of flows that ended, and for which perimeters it may.

use anyhow::Result;
use ringfence_control::{FlowRecords, FlowRecordsTaken, Netmap, ToNode};
use ringfence_model::Name;

use super::{Next, Session};
use crate::core::wall_now;

impl Session {
    /// Hands a batch to the flow records and goes on: a slow disk must not hold up the node's next netmap. A second
    /// batch before the answer is not taken, and comes again if it is an honest node's.
    pub(super) fn store_flows(&mut self, batch: FlowRecords) {
        if self.storing.is_empty() {
            let (flows, node) = (self.context.flows.clone(), self.node);
            self.storing
                .spawn(async move { flows.take(node, batch, wall_now()).await });
        }
    }

    pub(super) async fn acknowledge_flows(&mut self, taken: Option<FlowRecordsTaken>) -> Result<Next> {
        if let Some(taken) = taken {
            self.sender.send(&ToNode::FlowRecordsTaken(taken)).await?;
        }
        Ok(Next::Continue)
    }

    pub(super) fn note_membership(&mut self, netmap: &Netmap) {
        let news: Vec<Name> = netmap
            .segments
            .keys()
            .filter(|perimeter| !self.noted.contains(*perimeter))
            .cloned()
            .collect();
        if !news.is_empty() {
            self.noted.extend(news.iter().cloned());
            self.context.flows.note_member(self.node, news);
        }
    }
}
