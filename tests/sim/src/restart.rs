//! A machine's agent goes on with the netmap on its disk.

use std::time::Duration;

use ringfence_control::NodeSession;
use ringfence_dataplane::Restored;
use ringfence_model::UnixMillis;

use crate::oracle::View;
use crate::violation::Violation;
use crate::world::World;

impl World {
    pub(crate) fn restore(
        &mut self,
        machine: usize,
        netmap: ringfence_control::Netmap,
        since_word: Duration,
    ) -> Result<(), Violation> {
        let wall_ms = self.machines[machine].wall_ms(self.now);
        let acked = self.acked.get(&(machine, netmap.node)).copied();
        // What a disk that lies has lost nobody can answer for: its lease is as old as it is.
        if acked > Some(netmap.revision) && !self.machines[machine].disk.has_forgotten {
            let what = format!(
                "m{machine} acknowledged {acked:?} and came back with {}",
                netmap.revision
            );
            return Err(Violation::new("acknowledgement", what).of(machine));
        }
        let (node, revision, now) = (netmap.node, netmap.revision, self.instant());
        let restored = Restored {
            since_word,
            wall: UnixMillis(wall_ms),
        };
        let agent = self.agent(machine);
        agent.session = NodeSession::new(netmap.mesh.clone(), node, Some(netmap.clone()));
        if let Err(error) = agent.dataplane.restore(netmap, restored, now) {
            return Err(Violation::new("restore", format!("m{machine}: {error}")).of(machine));
        }
        let view = View {
            node,
            revision,
            wall_ms,
            since: self.now,
            word_us: self
                .now
                .as_micros()
                .cast_signed()
                .saturating_sub(since_word.as_micros().cast_signed()),
        };
        self.oracle.enforced(machine, view);
        Ok(())
    }
}
