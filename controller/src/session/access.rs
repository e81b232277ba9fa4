//! Access on request, asked for by the person at a node.
//!
//! **Invariant:** it is asked for in the name of the person whose session is bound to this node, for this node alone.

use ringfence_control::{AccessAnswer, AccessErrand, AccessWish, AskAccess, ToNode};
use ringfence_controlplane::{AccessCommand, Actor, Command, Refusal, Urgency};
use ringfence_model::{AccessId, NodeId};

use super::Session;
use crate::core::{CommitError, Core};

impl Session {
    pub(super) async fn answer_access(&mut self, question: AskAccess) -> anyhow::Result<()> {
        let node = self.node;
        let answer = self
            .context
            .core
            .with(move |core| answer(core, node, question))
            .await?;
        self.sender.send(&ToNode::AccessAnswer(answer)).await?;
        Ok(())
    }
}

fn answer(core: &mut Core, node: NodeId, question: AskAccess) -> AccessAnswer {
    let done = match question.errand {
        AccessErrand::List => Ok(None),
        AccessErrand::Request(wish) => request(core, node, wish).map(Some),
        AccessErrand::End(access) => end(core, node, access).map(|()| None),
    };
    let controller = core.controller();
    let (access, why) = match done {
        Ok(Some(asked)) => (
            controller.access_view_of(asked).into_iter().collect(),
            String::new(),
        ),
        Ok(None) => (controller.access_views_of_person_at(node), String::new()),
        Err(why) => (Vec::new(), why),
    };
    AccessAnswer {
        id: question.id,
        access,
        why,
    }
}

fn request(core: &mut Core, node: NodeId, wish: AccessWish) -> Result<AccessId, String> {
    let length = wish.length();
    let asked_for = format!("{} of perimeter {}", wish.to, wish.perimeter);
    let command = Command::Access(AccessCommand::Request {
        node,
        perimeter: wish.perimeter,
        to: wish.to,
        services: wish.ports,
        length,
        reason: wish.reason,
        urgency: if wish.break_glass {
            Urgency::BreakGlass
        } else {
            Urgency::Ordinary
        },
    });
    let change = core.commit(&Actor::node(node, "access"), &command);
    let change = change.map_err(|error| match error {
        // Which perimeters there are is nothing that a node is told.
        CommitError::Refused(Refusal::NoPerimeter(_) | Refusal::NoSuchGroup { .. }) => {
            format!("there is nothing to ask for that is called {asked_for}")
        }
        other => other.to_string(),
    })?;
    let asked = change.access_requested();
    asked.ok_or_else(|| "nothing was asked for".to_owned())
}

fn end(core: &mut Core, node: NodeId, access: AccessId) -> Result<(), String> {
    let command = Command::Access(AccessCommand::End { access });
    match core.commit(&Actor::node(node, "access"), &command) {
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
