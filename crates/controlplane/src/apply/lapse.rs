//! Who is silent for too long, and who is there again.

use super::{Misfit, ensure};
use crate::LapseEvent;
use crate::state::State;

impl State {
    pub(super) fn apply_lapse_event(&mut self, event: &LapseEvent) -> Result<(), Misfit> {
        let is_lapsed = matches!(event, LapseEvent::MembersLapsed { .. });
        let (perimeter, nodes) = event.subjects();
        let perimeter = self.perimeter_mut(perimeter)?;
        for node in nodes {
            let seat = perimeter.seats.get_mut(node);
            let seat = seat.ok_or(Misfit::Impossible("who lapses has a seat"))?;
            ensure(seat.is_lapsed != is_lapsed, "it has lapsed, or returned, already")?;
            seat.is_lapsed = is_lapsed;
        }
        Ok(())
    }
}
