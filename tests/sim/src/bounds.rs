//! No queue, table or map grows without end, and nobody's keys stay behind: what the cores hold, against their bounds.

use ringfence_model::TableSize;

use crate::violation::Violation;
use crate::world::World;

impl World {
    /// Whether every table of every core keeps its bound.
    ///
    /// # Errors
    /// The first that does not.
    pub(crate) fn check_bounds(&self) -> Result<(), Violation> {
        for machine in 0..self.machines.len() {
            self.check_bounds_of(machine)?;
        }
        let Some(core) = self.controller.core.as_ref() else {
            return Ok(());
        };
        check(core.controller.tables(), || "the controller".to_owned())
    }

    /// The same for one machine.
    ///
    /// # Errors
    /// The first that does not.
    pub(crate) fn check_bounds_of(&self, machine: usize) -> Result<(), Violation> {
        let Some(agent) = self.machines[machine].agent.as_ref() else {
            return Ok(());
        };
        check(agent.dataplane.tables(), || format!("m{machine}")).map_err(|violation| violation.of(machine))
    }
}

fn check(tables: Vec<TableSize>, who: impl Fn() -> String) -> Result<(), Violation> {
    let Some(table) = tables.into_iter().find(|table| !table.is_bounded()) else {
        return Ok(());
    };
    let TableSize { table, len, max } = table;
    Err(Violation::new(
        "bounds",
        format!("{} holds {len} {table}, at most {max}", who()),
    ))
}
