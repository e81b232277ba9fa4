//! An operator restores the controller from a backup.

use std::rc::Rc;

use ringfence_controlplane::{Actor, Command, Controller};

use crate::controller::Effect;
use crate::link::End;
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// Goes back to an older state, as an operator who restores a backup does, and starts a new term.
    pub(crate) fn restore_controller(&mut self) -> Result<(), Violation> {
        if self.controller.core.is_none() || self.controller.log.len() < 8 {
            return Ok(());
        }
        let lost = self.dice.number(1..self.controller.log.len() as u64 / 2) as usize;
        self.controller.core = None;
        self.drop_ends(End::Controller, |_| true);
        let kept = self.controller.log.len() - lost;
        self.controller.log.truncate(kept);
        let mut controller = self.controller.log.load()?;
        self.current = self
            .controller
            .specs
            .get(&kept)
            .map(Rc::clone)
            .unwrap_or_default();
        let present: Vec<String> = self
            .controller
            .log
            .changes()
            .iter()
            .map(|change| change.actor.request_id.clone())
            .collect();
        self.controller
            .acknowledged
            .retain(|request| present.contains(request));
        self.say(format!("controller is set back by {lost} changes"));
        // A backup from before another restore knows nothing of that one's term: nodes then say that they are ahead,
        // and the operator starts a term once more.
        let newest = self.oracle.newest();
        while controller.revision() <= newest {
            self.start_term(&mut controller)?;
        }
        self.start_controller()
    }

    fn start_term(&mut self, controller: &mut Controller) -> Result<(), Violation> {
        let entropy = self.dice.bytes();
        let change = controller
            .propose(
                &Actor::system("operator", "restore"),
                Command::StartTerm,
                self.wall(),
                entropy,
            )
            .map_err(|refusal| Violation::new("terms", format!("no new term: {refusal}")))?;
        self.controller.log.append(&change);
        let applied = controller.apply(&change);
        applied.map_err(|error| Violation::new("log", format!("a new term does not apply: {error}")))?;
        if change.revision > self.oracle.newest() {
            return self.interpret(controller, &change, &Effect::Nothing);
        }
        self.controller
            .specs
            .insert(self.controller.log.len(), Rc::clone(&self.current));
        Ok(())
    }
}
