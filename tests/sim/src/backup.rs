//! An operator restores the controller from a backup.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringfence_controlplane::{Actor, Command, Controller};

use crate::controller::Effect;
use crate::disk::Log;
use crate::link::End;
use crate::spec::Spec;
use crate::violation::Violation;
use crate::world::World;

/// A copy of the controller's directory, with the oracle's reading of it.
#[derive(Clone)]
pub(crate) struct Backup {
    log: Log,
    specs: BTreeMap<usize, Rc<Spec>>,
}

impl World {
    /// Goes back to an older state, as an operator who restores a backup does, and starts a new term.
    pub(crate) fn restore_controller(&mut self) -> Result<(), Violation> {
        if self.controller.core.is_none() || self.controller.log.len() < 8 {
            return Ok(());
        }
        // A new term is a time: whoever restores a backup looks at the clock first.
        self.set_controller_clock(self.oracle.clock_ahead_ms());
        self.controller.core = None;
        self.drop_ends(End::Controller, |_| true);
        let backup = self.choose_backup();
        let kept = backup.log.len();
        self.current = backup.specs.get(&kept).map(Rc::clone).unwrap_or_default();
        self.controller.log = backup.log.clone();
        self.controller.specs = backup.specs.clone();
        self.controller.backup = Some(backup);
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
        let mut controller = self.controller.log.load()?;
        self.start_term(&mut controller)?;
        self.start_controller()
    }

    /// The backup that was restored last once more, or one made some changes ago.
    fn choose_backup(&mut self) -> Backup {
        if let Some(backup) = self.controller.backup.take()
            && self.dice.chance(0.5)
        {
            self.say("controller is set back to the same backup once more".to_owned());
            return backup;
        }
        let lost = self.dice.number(1..self.controller.log.len() as u64 / 2) as usize;
        self.say(format!("controller is set back by {lost} changes"));
        let mut log = self.controller.log.clone();
        log.truncate(log.len() - lost);
        let specs = self.controller.specs.range(..=log.len());
        Backup {
            specs: specs.map(|(at, spec)| (*at, Rc::clone(spec))).collect(),
            log,
        }
    }

    /// Whatever was restored before, one new term is newer than all that nodes may have heard of.
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
        let newest = self.oracle.newest();
        if change.revision <= newest {
            return Err(Violation::new(
                "terms",
                format!("a new term starts at {}, not after {newest}", change.revision),
            ));
        }
        self.interpret(controller, &change, &Effect::Nothing)
    }
}
