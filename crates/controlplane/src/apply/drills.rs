//! Events of drills, applied.

use super::{Misfit, NO_NODE, NO_PERIMETER, ensure};
use crate::DrillEvent;
use crate::state::State;

impl State {
    pub(super) fn apply_drill_event(&mut self, event: &DrillEvent) -> Result<(), Misfit> {
        match event {
            DrillEvent::DrillBegan { drill } => {
                self.perimeters.get(&drill.perimeter).ok_or(NO_PERIMETER)?;
                self.nodes.get(&drill.from).ok_or(NO_NODE)?;
                self.nodes.get(&drill.to).ok_or(NO_NODE)?;
                ensure(drill.id > self.last_access, "its number was given before")?;
                self.last_access = drill.id;
                let before = self.drills.insert(drill.perimeter.clone(), drill.clone());
                ensure(before.is_none(), "its perimeter has one already")
            }
            DrillEvent::DrillEnded { before } => {
                let gone = self.drills.remove(&before.perimeter);
                ensure(gone.is_some(), "there is no such drill")
            }
        }
    }
}
