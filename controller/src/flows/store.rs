//! Flow records in SQLite: each stored once by its name, bounded by count and age.
//!
//! **Invariant:** a batch is stored whole or not at all, and durable before it is acknowledged; a record that comes
//! again is recognised by node, stream and number. The node is the one that proved itself, never one that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_control::{FlowRecords, FlowReport};
use ringfence_model::{Name, NodeId, UnixMillis};
use rusqlite::types::Value;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
};

/// The records of all nodes.
pub struct FlowStore {
    connection: Connection,
    path: PathBuf,
    /// Who was ever in which perimeter.
    members: BTreeSet<(NodeId, Name)>,
    /// How many records each node has here.
    held: BTreeMap<NodeId, u64>,
    kept_max: u64,
    /// How many records each node may still bring now.
    allowance: BTreeMap<NodeId, Allowance>,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// Who told it.
    pub node: NodeId,
    /// What it told.
    pub report: FlowReport,
}

/// Records of a node that are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLoss {
    /// Whose.
    pub node: NodeId,
    /// Dropped at the node, because they came faster than they could be told.
    pub lost: u64,
    /// Refused here: told of perimeters that the node was never in.
    pub refused: u64,
}

/// Which records are asked for.
#[derive(Clone, Debug, Default)]
pub struct FlowFilter {
    /// Only in these perimeters.
    pub perimeters: Option<BTreeSet<Name>>,
    /// Only those that this node told, or whose peer it is.
    pub node: Option<NodeId>,
    /// Only those that ended then or later.
    pub since: UnixMillis,
    /// The newest so many.
    pub limit: usize,
}

/// The records that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Oldest first.
    pub rows: Vec<FlowRow>,
    /// Whether the limit cut off older ones.
    pub truncated: bool,
}

/// Why a batch is not stored. The node keeps it.
#[derive(Debug, thiserror::Error)]
pub enum FlowTakeError {
    /// Too many records, or numbers beyond any.
    #[error("the batch is over its bounds")]
    Bounds,
    /// More than a node may bring in that time.
    #[error("the node brings more than {RECORDS_PER_SECOND} a second")]
    TooFast,
    /// What is left of the disk is for changes of policy.
    #[error("the disk is all but full")]
    Full,
    /// The database said no.
    #[error("the flow records cannot be written: {0}")]
    Database(#[from] rusqlite::Error),
}

#[derive(Clone, Copy)]
struct Allowance {
    records: u64,
    at: UnixMillis,
}

impl FlowStore {
    /// Opens the records in `path`; makes the file, readable by its owner alone, if there is none.
    ///
    /// # Errors
    /// If it is not ours, or cannot be read.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let open = || -> anyhow::Result<Self> {
            // SQLite would make the file with the umask's rights: make it first, with ours.
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)?;
            Self::over(Connection::open(path)?, path)
        };
        open().with_context(|| path.display().to_string())
    }

    /// Records that end with the process.
    ///
    /// # Errors
    /// If the database says no.
    pub fn in_memory() -> anyhow::Result<Self> {
        Self::over(Connection::open_in_memory()?, Path::new("."))
    }

    fn over(connection: Connection, path: &Path) -> anyhow::Result<Self> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: what was acknowledged survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                connection.execute_batch(SCHEMA)?;
                connection.pragma_update(None, "user_version", FORMAT_VERSION)?;
            }
            FORMAT_VERSION => {}
            other => anyhow::bail!("it has format {other}, this version reads {FORMAT_VERSION}"),
        }
        let mut store = Self {
            connection,
            path: path.to_owned(),
            members: BTreeSet::new(),
            held: BTreeMap::new(),
            kept_max: RECORDS_KEPT_MAX,
            allowance: BTreeMap::new(),
        };
        store.read_facts()?;
        Ok(store)
    }

    /// Stores the records of a batch that are not here yet. Gives the number up to which all of the stream's are here,
    /// refused or lost for good.
    ///
    /// # Errors
    /// [`FlowTakeError`]; nothing was stored.
    pub fn take(
        &mut self,
        node: NodeId,
        batch: &FlowRecords,
        wall: UnixMillis,
    ) -> Result<u64, FlowTakeError> {
        let through = batch.through().filter(|through| i64::try_from(*through).is_ok());
        let Some(through) = through.filter(|_| batch.records.len() <= FlowRecords::RECORDS_MAX) else {
            return Err(FlowTakeError::Bounds);
        };
        self.spend(node, batch.records.len() as u64, wall)?;
        if self.free_bytes() < FREE_BYTES_MIN {
            return Err(FlowTakeError::Full);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = stream_through(&transaction, node, batch.stream)?;
        if through <= known {
            return Ok(known);
        }
        let (mut stored, mut refused) = (0, 0);
        for (number, report) in (batch.first..).zip(&batch.records) {
            if number < known {
                continue;
            }
            if self.members.contains(&(node, report.perimeter.clone())) {
                stored += insert(&transaction, (node, batch.stream, number), report, wall)?;
            } else {
                refused += 1;
            }
        }
        let lost = batch.first.saturating_sub(known);
        note_stream(&transaction, node, batch.stream, through, wall)?;
        note_loss(&transaction, FlowLoss { node, lost, refused })?;
        transaction.commit()?;
        *self.held.entry(node).or_default() += stored;
        if lost > 0 || refused > 0 {
            tracing::warn!(%node, lost, refused, "flow records of a node are missing");
        }
        self.make_room(wall)?;
        Ok(through)
    }

    /// From now on `node` may tell of flows in these perimeters.
    pub fn note_member(&mut self, node: NodeId, perimeters: Vec<Name>) {
        for perimeter in perimeters {
            if self.members.contains(&(node, perimeter.clone())) {
                continue;
            }
            let written = self.connection.execute(
                "INSERT OR IGNORE INTO member (node, perimeter) VALUES (?1, ?2)",
                params![node.0.cast_signed(), perimeter.as_str()],
            );
            if let Err(error) = written {
                tracing::warn!(%node, %perimeter, %error, "a membership was not written down: it counts until a restart");
            }
            self.members.insert((node, perimeter));
        }
    }

    /// The newest records that `filter` asks for.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn find(&self, filter: &FlowFilter, wall: UnixMillis) -> rusqlite::Result<Found> {
        let mut sql = "SELECT node, body FROM flow WHERE closed_at >= ? AND stored_at >= ?".to_owned();
        let mut values = vec![signed(filter.since.0), signed(oldest_kept(wall))];
        if let Some(perimeters) = &filter.perimeters {
            let places = vec!["?"; perimeters.len()].join(", ");
            sql.push_str(&format!(" AND perimeter IN ({places})"));
            values.extend(perimeters.iter().map(|name| Value::Text(name.to_string())));
        }
        if let Some(node) = filter.node {
            sql.push_str(" AND (node = ? OR peer = ?)");
            values.extend([
                Value::Integer(node.0.cast_signed()),
                Value::Integer(node.0.cast_signed()),
            ]);
        }
        // One more than asked for tells whether there are older ones.
        sql.push_str(" ORDER BY closed_at DESC, id DESC LIMIT ?");
        values.push(signed(filter.limit as u64 + 1));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            let node = NodeId(row.get::<_, i64>(0)?.cast_unsigned());
            let body: String = row.get(1)?;
            Ok((node, body))
        })?;
        let mut found = Found::default();
        for row in rows {
            let (node, body) = row?;
            // Written by a later version: not ours to show.
            if let Ok(report) = serde_json::from_str(&body) {
                found.rows.push(FlowRow { node, report });
            }
        }
        found.truncated = found.rows.len() > filter.limit;
        found.rows.truncate(filter.limit);
        found.rows.reverse();
        Ok(found)
    }

    /// What is missing, by node.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn losses(&self) -> rusqlite::Result<Vec<FlowLoss>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT node, lost, refused FROM loss WHERE lost > 0 OR refused > 0 ORDER BY node",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(FlowLoss {
                node: NodeId(row.get::<_, i64>(0)?.cast_unsigned()),
                lost: row.get::<_, i64>(1)?.cast_unsigned(),
                refused: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })?;
        rows.collect()
    }

    fn read_facts(&mut self) -> anyhow::Result<()> {
        let mut statement = self.connection.prepare("SELECT node, perimeter FROM member")?;
        let members = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        for member in members {
            let (node, perimeter) = member?;
            self.members
                .insert((NodeId(node.cast_unsigned()), Name::parse(&perimeter)?));
        }
        let mut statement = self
            .connection
            .prepare("SELECT node, count(*) FROM flow GROUP BY node")?;
        let held = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        for node in held {
            let (node, count) = node?;
            self.held
                .insert(NodeId(node.cast_unsigned()), count.cast_unsigned());
        }
        Ok(())
    }

    fn spend(&mut self, node: NodeId, records: u64, wall: UnixMillis) -> Result<(), FlowTakeError> {
        let full = Allowance {
            records: RECORDS_BURST,
            at: wall,
        };
        let allowance = self.allowance.entry(node).or_insert(full);
        let seconds = wall.0.saturating_sub(allowance.at.0) / 1000;
        let earned = seconds.saturating_mul(RECORDS_PER_SECOND);
        allowance.records = allowance.records.saturating_add(earned).min(RECORDS_BURST);
        allowance.at.0 += seconds * 1000;
        allowance.records = allowance
            .records
            .checked_sub(records)
            .ok_or(FlowTakeError::TooFast)?;
        Ok(())
    }

    /// Removes what is too old, and while there are too many the oldest of the node that has most: a flood costs only
    /// those who flood.
    fn make_room(&mut self, wall: UnixMillis) -> rusqlite::Result<()> {
        let aged = "DELETE FROM flow WHERE id IN (SELECT id FROM flow ORDER BY id LIMIT ?1) AND stored_at < ?2 RETURNING node";
        self.remove(aged, [signed(REMOVED_AT_ONCE), signed(oldest_kept(wall))])?;
        while self.held.values().sum::<u64>() > self.kept_max {
            let Some((node, _)) = self.held.iter().max_by_key(|(_, count)| **count) else {
                return Ok(());
            };
            let oldest = "DELETE FROM flow WHERE id IN (SELECT id FROM flow WHERE node = ?2 ORDER BY id LIMIT ?1) RETURNING node";
            let node = Value::Integer(node.0.cast_signed());
            if self.remove(oldest, [signed(REMOVED_AT_ONCE), node])? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn remove(&mut self, sql: &str, values: [Value; 2]) -> rusqlite::Result<u64> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let gone: Vec<i64> = statement
            .query_map(params_from_iter(values), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for node in &gone {
            if let Some(count) = self.held.get_mut(&NodeId(node.cast_unsigned())) {
                *count = count.saturating_sub(1);
            }
        }
        Ok(gone.len() as u64)
    }

    fn free_bytes(&self) -> u64 {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        // What cannot be measured is tried.
        rustix::fs::statvfs(directory).map_or(u64::MAX, |stat| stat.f_bavail * stat.f_frsize)
    }
}

fn stream_through(transaction: &Transaction<'_>, node: NodeId, stream: u64) -> rusqlite::Result<u64> {
    let known: Option<i64> = transaction
        .prepare_cached("SELECT through FROM stream WHERE node = ?1 AND stream = ?2")?
        .query_row(params![node.0.cast_signed(), stream.cast_signed()], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(known.unwrap_or(0).cast_unsigned())
}

fn insert(
    transaction: &Transaction<'_>,
    (node, stream, number): (NodeId, u64, u64),
    report: &FlowReport,
    wall: UnixMillis,
) -> rusqlite::Result<u64> {
    let mut report = report.clone();
    // Its clock is not ours: what has not happened yet is happening now.
    report.closed_at = report.closed_at.min(wall);
    report.opened_at = report.opened_at.min(report.closed_at);
    let body = serde_json::to_string(&report)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let stored = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO flow (node, stream, number, perimeter, peer, closed_at, stored_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            node.0.cast_signed(),
            stream.cast_signed(),
            signed(number),
            report.perimeter.as_str(),
            report.peer.0.cast_signed(),
            signed(report.closed_at.0),
            signed(wall.0),
            body
        ])?;
    Ok(stored as u64)
}

fn note_stream(
    transaction: &Transaction<'_>,
    node: NodeId,
    stream: u64,
    through: u64,
    wall: UnixMillis,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO stream (node, stream, through, used_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            node.0.cast_signed(),
            stream.cast_signed(),
            signed(through),
            signed(wall.0)
        ])?;
    // Even then nothing is stored twice: the name of a record is unique.
    transaction
        .prepare_cached(
            "DELETE FROM stream WHERE node = ?1 AND stream NOT IN
             (SELECT stream FROM stream WHERE node = ?1 ORDER BY used_at DESC, rowid DESC LIMIT ?2)",
        )?
        .execute(params![node.0.cast_signed(), STREAMS_PER_NODE_MAX])?;
    Ok(())
}

fn note_loss(transaction: &Transaction<'_>, loss: FlowLoss) -> rusqlite::Result<()> {
    if loss.lost == 0 && loss.refused == 0 {
        return Ok(());
    }
    // A node may name any number: what it says of its own losses must not overflow ours.
    let bounded = |count: u64| signed(count.min(1 << 32));
    transaction
        .prepare_cached(
            "INSERT INTO loss (node, lost, refused) VALUES (?1, ?2, ?3) ON CONFLICT (node) DO UPDATE SET
             lost = min(lost + excluded.lost, 1 << 52), refused = min(refused + excluded.refused, 1 << 52)",
        )?
        .execute(params![
            loss.node.0.cast_signed(),
            bounded(loss.lost),
            bounded(loss.refused)
        ])?;
    Ok(())
}

fn oldest_kept(wall: UnixMillis) -> u64 {
    wall.0.saturating_sub(KEPT_FOR.as_millis() as u64)
}

fn signed(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Records kept of all nodes together: some 500 MB of disk.
const RECORDS_KEPT_MAX: u64 = 1_000_000;
/// How long a record is kept.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);
/// A node that was cut off for long brings a whole spool at once…
const RECORDS_BURST: u64 = 2 * ringfence_control::FLOW_SPOOL_MAX as u64;
/// …and then so many a second.
const RECORDS_PER_SECOND: u64 = 1_000;
/// Runs of a node's process whose numbers are remembered.
const STREAMS_PER_NODE_MAX: i64 = 64;
/// Records removed at once: twice what a batch brings.
const REMOVED_AT_ONCE: u64 = 2 * FlowRecords::RECORDS_MAX as u64;
/// The disk's last room is for changes of policy.
const FREE_BYTES_MIN: u64 = 8 * 1024 * 1024;
const FORMAT_VERSION: i64 = 1;

const SCHEMA: &str = "
BEGIN IMMEDIATE;
CREATE TABLE flow (
    id        INTEGER PRIMARY KEY,
    node      INTEGER NOT NULL,
    stream    INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    perimeter TEXT    NOT NULL,
    peer      INTEGER NOT NULL,
    closed_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    UNIQUE (node, stream, number)
) STRICT;
CREATE INDEX flow_closed_at ON flow (closed_at);
CREATE INDEX flow_node ON flow (node);
CREATE TABLE stream (
    node    INTEGER NOT NULL,
    stream  INTEGER NOT NULL,
    through INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (node, stream)
) STRICT;
CREATE TABLE loss (
    node    INTEGER PRIMARY KEY,
    lost    INTEGER NOT NULL,
    refused INTEGER NOT NULL
) STRICT;
CREATE TABLE member (
    node      INTEGER NOT NULL,
    perimeter TEXT    NOT NULL,
    PRIMARY KEY (node, perimeter)
) STRICT, WITHOUT ROWID;
COMMIT;
";

#[cfg(test)]
mod tests;
