//! What a machine's agent writes to its state directory besides netmaps: keys, and when the controller spoke.

use std::time::Duration;

use ringfence_model::Name;

use crate::files::WRITE_STEPS;
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// Loads or makes a segment's key.
    pub(crate) fn give_key(&mut self, machine: usize, boot: u64, perimeter: &Name) -> Result<(), Violation> {
        if self.machines[machine].agent_of(boot).is_none() {
            return Ok(());
        }
        let (fresh, now) = (self.dice.bytes(), self.instant());
        // A key that a full disk does not take lasts until the next start.
        let steps = if self.dice.chance(self.swarm.faults.disk_full) {
            0
        } else {
            WRITE_STEPS
        };
        let key = self.machines[machine].disk.key(perimeter, fresh, steps);
        self.agent(machine).dataplane.set_key(perimeter, key, now);
        self.drain(machine)
    }

    /// Writes down that the controller spoke, unless that was done a moment ago.
    pub(crate) fn save_word(&mut self, machine: usize, at_once: bool) {
        let now = self.now;
        let moment = self.machines[machine].moment(now);
        let agent = self.agent(machine);
        if at_once
            || agent
                .word_saved
                .is_none_or(|saved| now >= saved + WORD_SAVE_EVERY)
        {
            agent.word_saved = Some(now);
            let steps = self.steps(if at_once { 1.0 } else { RARELY });
            self.machines[machine].disk.save_word(moment, steps);
            if steps < WRITE_STEPS {
                self.crash(machine, "while it writes the controller's word down");
            }
        }
    }

    /// How many steps of a write are done: all, or those before the process dies over it.
    pub(crate) fn steps(&mut self, share: f64) -> usize {
        if self.dice.chance(self.swarm.faults.crash_at_step * share) {
            self.dice.place(WRITE_STEPS)
        } else {
            WRITE_STEPS
        }
    }
}

/// Words are written down so often that a node that often died over one would do little else.
const RARELY: f64 = 0.05;
/// As node/src/control.rs has it.
const WORD_SAVE_EVERY: Duration = Duration::from_secs(5);
