//! How full every table of a controller is: for whoever watches one, and for tests that run one for long.

use std::collections::BTreeMap;

use ringfence_model::TableSize;

use crate::Controller;
use crate::address::{V4_BLOCKS, V6_SUBNETS};
use crate::limit::{
    ACCESS_REQUESTS_MAX, ACCOUNTS_MAX, API_TOKENS_MAX, DEVICES_MAX, DIRECTORY_GROUPS_MAX,
    DIRECTORY_MEMBERSHIPS_MAX, DIRECTORY_PEOPLE_MAX, DRILLS_MAX, JWTS_REMEMBERED_MAX, LOCKS_MAX, NODES_MAX,
    PERIMETERS_MAX, PROVIDERS_MAX, TOKENS_MAX, USERS_MAX, WORKLOAD_ISSUERS_MAX,
};
use crate::perimeter::Perimeter;
use crate::posture::{FACTS_GIVEN_MAX, PostureState};
use crate::state::State;
use crate::workload::WorkloadState;

impl Controller {
    /// How full each table is; of those that each perimeter has, the fullest.
    pub fn tables(&self) -> Vec<TableSize> {
        // A new field must say here whether it is a table.
        let Self {
            state,
            views,
            presence,
            receipts,
            pace,
            began_at: _,
            reports,
            silence,
        } = self;
        let nodes = state.nodes.len();
        let mut tables = vec![
            TableSize::new("compiled perimeters", views.len(), state.perimeters.len()),
            TableSize::new("nodes heard of", presence.len(), nodes),
            TableSize::new("nodes that made entries of the log", pace.len(), nodes),
        ];
        tables.push(TableSize::new("nodes that may lapse", silence.len(), nodes));
        tables.extend(reports.tables(nodes));
        tables.extend(receipts.tables());
        tables.extend(state.tables());
        tables
    }
}

impl State {
    fn tables(&self) -> Vec<TableSize> {
        // A new field must say here whether it is a table.
        let Self {
            mesh: _,
            revision: _,
            head: _,
            policy_revision: _,
            nodes,
            devices,
            perimeters,
            tokens,
            users,
            sessions,
            access,
            last_access: _,
            drills,
            api_tokens,
            locks,
            providers,
            accounts,
            directories,
            names,
            keys,
            v4_blocks,
            v6_subnets,
            refusals: _,
            posture,
            workloads,
        } = self;
        let seats = perimeters.values().flat_map(|perimeter| perimeter.seats.values());
        let people = directories.values().map(|directory| directory.people.len());
        let directory_groups = directories.values().map(|directory| directory.groups.len());
        let memberships = directories.values().map(|directory| directory.memberships());
        let keys_held = seats.filter(|seat| seat.key.is_some()).count();
        let mut tables = vec![
            TableSize::new("nodes", nodes.len(), NODES_MAX),
            TableSize::new("devices", devices.len(), DEVICES_MAX),
            TableSize::new("perimeters", perimeters.len(), PERIMETERS_MAX),
            TableSize::new("join tokens", tokens.len(), TOKENS_MAX),
            TableSize::new("people", users.len(), USERS_MAX),
            TableSize::new("sessions of people", sessions.len(), nodes.len()),
            TableSize::new("requests for access", access.len(), ACCESS_REQUESTS_MAX),
            TableSize::new("drills", drills.len(), DRILLS_MAX),
            TableSize::new("API tokens", api_tokens.len(), API_TOKENS_MAX),
            TableSize::new("locks", locks.len(), LOCKS_MAX),
            TableSize::new("identity providers", providers.len(), PROVIDERS_MAX),
            TableSize::new("local accounts", accounts.len(), ACCOUNTS_MAX),
            TableSize::new("directories", directories.len(), providers.len()),
            TableSize::new("people in directories", people.sum(), DIRECTORY_PEOPLE_MAX),
            TableSize::new(
                "groups in directories",
                directory_groups.sum(),
                DIRECTORY_GROUPS_MAX,
            ),
            TableSize::new(
                "memberships in directories",
                memberships.sum(),
                DIRECTORY_MEMBERSHIPS_MAX,
            ),
            TableSize::new("names", names.len(), nodes.len() + devices.len()),
            TableSize::new("WireGuard keys", keys.len(), keys_held + devices.len()),
            TableSize::new("IPv4 blocks", v4_blocks.len(), V4_BLOCKS as usize),
            TableSize::new("IPv6 subnets", v6_subnets.len(), V6_SUBNETS as usize),
        ];
        let of_perimeters = perimeters.values().flat_map(|perimeter| perimeter.tables());
        tables.extend(TableSize::fullest(of_perimeters));
        tables.extend(posture.tables(nodes.len()));
        tables.extend(workloads.tables());
        tables
    }
}

impl PostureState {
    fn tables(&self, nodes: usize) -> Vec<TableSize> {
        let Self {
            source: _,
            passed,
            given,
            tpms,
        } = self;
        let most = given.values().map(BTreeMap::len).max().unwrap_or(0);
        vec![
            TableSize::new("nodes that pass checks", passed.len(), nodes),
            TableSize::new("nodes with a TPM", tpms.len(), nodes),
            TableSize::new("nodes with given facts", given.len(), nodes),
            TableSize::new("given facts of a node", most, FACTS_GIVEN_MAX),
        ]
    }
}

impl WorkloadState {
    fn tables(&self) -> [TableSize; 2] {
        let Self { issuers, used } = self;
        [
            TableSize::new("workload issuers", issuers.len(), WORKLOAD_ISSUERS_MAX),
            TableSize::new("platforms' tokens remembered", used.len(), JWTS_REMEMBERED_MAX),
        ]
    }
}

impl Perimeter {
    fn tables(&self) -> [TableSize; 2] {
        [
            TableSize::new("seats of a perimeter", self.seats.len(), NODES_MAX + DEVICES_MAX),
            TableSize::new("IPv4 blocks of a perimeter", self.v4.len(), V4_BLOCKS as usize),
        ]
    }
}
