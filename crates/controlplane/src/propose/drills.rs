//! Drills: begun and ended.

use ringfence_model::{AccessId, Name, NodeId};
use ringfence_policy::{PortRange, Service};

use crate::draft::Draft;
use crate::limit::{DRILL_LENGTH, DRILLS_MAX};
use crate::{Controller, Drill, DrillCommand, DrillEvent, DrillRefusal, Refusal};

pub(super) fn dispatch(
    draft: &mut Draft,
    controller: &Controller,
    command: DrillCommand,
) -> Result<(), Refusal> {
    match command {
        DrillCommand::Begin {
            perimeter,
            from,
            to,
            port,
        } => begin((draft, controller), perimeter, (from, to), port),
        DrillCommand::End { perimeter } => {
            if !draft.state.drills.contains_key(&perimeter) {
                return Err(DrillRefusal::None(perimeter).into());
            }
            end_where(draft, |drill| drill.perimeter == perimeter);
            Ok(())
        }
    }
}

fn begin(
    (draft, controller): (&mut Draft, &Controller),
    perimeter: Name,
    (from, to): (NodeId, NodeId),
    port: u16,
) -> Result<(), Refusal> {
    let members = draft.perimeter(&perimeter)?;
    if from == to {
        return Err(DrillRefusal::Alone.into());
    }
    for node in [from, to] {
        draft.node(node)?;
        if members.seat(node).is_none() {
            return Err(Refusal::NotMember { node, perimeter });
        }
    }
    let wanted = PortRange::new(port, port).map_err(|_| DrillRefusal::Port)?;
    let wanted = Service::Udp(wanted);
    if draft.state.drills.contains_key(&perimeter) {
        return Err(DrillRefusal::UnderWay(perimeter).into());
    }
    if draft.state.drills.len() >= DRILLS_MAX {
        return Err(Refusal::Limit {
            what: "drills at once",
            max: DRILLS_MAX,
        });
    }
    let compiled = controller.compiled(&perimeter);
    let opens = compiled.and_then(|compiled| compiled.opener(from, to, wanted));
    if let Some(rule) = opens {
        return Err(DrillRefusal::Open {
            perimeter,
            rule,
            port,
        }
        .into());
    }
    let id = AccessId(draft.state.last_access.0 + 1);
    if id > AccessId::MAX {
        return Err(Refusal::Limit {
            what: "requests for access ever made",
            max: AccessId::MAX.0 as usize,
        });
    }
    let drill = Drill {
        id,
        perimeter,
        from,
        to,
        port,
        until: draft.wall.saturating_add(DRILL_LENGTH).whole_second(),
    };
    draft.record(DrillEvent::DrillBegan { drill }.into());
    Ok(())
}

/// Ends whatever is meant. Takes away alone, so it cannot fail.
pub(super) fn end_where(draft: &mut Draft, meant: impl Fn(&Drill) -> bool) {
    let drills = draft.state.drills.values();
    let meant: Vec<Drill> = drills.filter(|drill| meant(drill)).cloned().collect();
    for before in meant {
        draft.record(DrillEvent::DrillEnded { before }.into());
    }
}
