//! Where the secrets of local accounts lie: a database of its own beside the log, readable by its owner alone.
//!
//! **Invariant:** a row counts for the generation of credentials that the log names, and for no other. An account is
//! invited or set up, never both; an invitation wipes what was there before. A code and a recovery code are spent in the
//! statement that finds them unspent.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use ringfence_model::{Name, NodeId, UnixMillis};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use zeroize::Zeroizing;

/// The database.
pub(super) struct Vault(Connection);

/// Credentials: an account's name, and their generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Whose.
    pub(super) name: Name,
    /// Which.
    pub(super) generation: u64,
}

/// What is kept of them.
pub(super) struct Held {
    /// The hash of the secret that they are set up by, and until when that counts.
    pub(super) invitation: Option<(Vec<u8>, UnixMillis)>,
    /// The password's hash, once set up.
    pub(super) password: Option<Zeroizing<String>>,
    /// The secret of the second factor.
    pub(super) factor: Option<Zeroizing<Vec<u8>>>,
}

/// What a person chose and has.
pub(super) struct Chosen {
    /// The password's hash.
    pub(super) password: Zeroizing<String>,
    /// The step whose code proved the second factor: it is spent.
    pub(super) step: u64,
    /// The hashes of the recovery codes.
    pub(super) recovery: Vec<[u8; 32]>,
}

impl Vault {
    /// Opens it; makes it, if it is not there.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        // SQLite would make the file with the umask's rights: make it first, with ours.
        let made = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(file);
        made.with_context(|| file.display().to_string())?;
        if fs::metadata(file)?.mode() & 0o077 != 0 {
            bail!("{} can be read by others: run `chmod 600` on it", file.display());
        }
        Self::on(Connection::open(file)?)
    }

    /// One that is gone at the end.
    pub(super) fn in_memory() -> anyhow::Result<Self> {
        Self::on(Connection::open_in_memory()?)
    }

    fn on(connection: Connection) -> anyhow::Result<Self> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What was deleted is overwritten: an old password's hash is nobody's business.
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// Has credentials be set up by the secret of this hash. Those before, of whatever generation, are gone.
    pub(super) fn invite(
        &mut self,
        of: &Credentials,
        hash: &[u8; 32],
        until: UnixMillis,
    ) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        forget(&transaction, &of.name)?;
        transaction.execute(
            "INSERT INTO account (name, generation, invitation, invited_until) VALUES (?1, ?2, ?3, ?4)",
            params![
                of.name.as_str(),
                of.generation.cast_signed(),
                hash.as_slice(),
                stored(until.0)
            ],
        )?;
        transaction.commit()
    }

    /// Forgets the credentials of a name.
    pub(super) fn forget(&mut self, name: &Name) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        forget(&transaction, name)?;
        transaction.commit()
    }

    /// What is kept of credentials.
    pub(super) fn held(&self, of: &Credentials) -> rusqlite::Result<Option<Held>> {
        let sql = "SELECT invitation, invited_until, password, factor FROM account \
                   WHERE name = ?1 AND generation = ?2";
        let key = params![of.name.as_str(), of.generation.cast_signed()];
        self.0.query_row(sql, key, read).optional()
    }

    /// Keeps the second factor of an account that is being set up; the one before counts no more.
    pub(super) fn set_factor(&mut self, of: &Credentials, factor: &[u8]) -> rusqlite::Result<bool> {
        let sql = "UPDATE account SET factor = ?3 \
                   WHERE name = ?1 AND generation = ?2 AND invitation IS NOT NULL";
        let values = params![of.name.as_str(), of.generation.cast_signed(), factor];
        Ok(self.0.execute(sql, values)? == 1)
    }

    /// Sets an account up; its invitation counts no more. `false` if it was set up meanwhile.
    pub(super) fn set_up(&mut self, of: &Credentials, chosen: &Chosen) -> rusqlite::Result<bool> {
        let transaction = self.0.transaction()?;
        let changed = transaction.execute(
            "UPDATE account SET password = ?3, step = ?4, invitation = NULL, invited_until = 0 \
             WHERE name = ?1 AND generation = ?2 AND invitation IS NOT NULL AND factor IS NOT NULL",
            params![
                of.name.as_str(),
                of.generation.cast_signed(),
                chosen.password.as_str(),
                stored(chosen.step)
            ],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        for hash in &chosen.recovery {
            let values = params![of.name.as_str(), hash.as_slice()];
            transaction.execute("INSERT INTO recovery (name, hash) VALUES (?1, ?2)", values)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Spends the code of a step; `false` if that or a later one was spent before.
    pub(super) fn spend_step(&mut self, of: &Credentials, step: u64) -> rusqlite::Result<bool> {
        let sql = "UPDATE account SET step = ?3 \
                   WHERE name = ?1 AND generation = ?2 AND step < ?3 AND password IS NOT NULL";
        let values = params![of.name.as_str(), of.generation.cast_signed(), stored(step)];
        Ok(self.0.execute(sql, values)? == 1)
    }

    /// Spends a recovery code; `false` if there is none of this hash.
    pub(super) fn spend_recovery(&mut self, of: &Credentials, hash: &[u8; 32]) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM recovery WHERE name = ?1 AND hash = ?3 AND EXISTS \
                   (SELECT 1 FROM account WHERE name = ?1 AND generation = ?2 AND password IS NOT NULL)";
        let values = params![of.name.as_str(), of.generation.cast_signed(), hash.as_slice()];
        Ok(self.0.execute(sql, values)? == 1)
    }

    /// Whether somebody has logged in at a node by the credentials that a name has now.
    pub(super) fn is_familiar(&self, name: &Name, node: NodeId) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM familiar WHERE name = ?1 AND node = ?2";
        let values = params![name.as_str(), node.0.cast_signed()];
        Ok(self.0.query_row(sql, values, |_| Ok(())).optional()?.is_some())
    }

    /// Remembers where somebody has logged in: the last few nodes of each.
    pub(super) fn note_node(&mut self, name: &Name, node: NodeId, wall: UnixMillis) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO familiar (name, node, at) VALUES (?1, ?2, ?3)",
            params![name.as_str(), node.0.cast_signed(), stored(wall.0)],
        )?;
        transaction.execute(
            "DELETE FROM familiar WHERE name = ?1 AND node NOT IN \
             (SELECT node FROM familiar WHERE name = ?1 ORDER BY at DESC, node LIMIT ?2)",
            params![name.as_str(), FAMILIAR_NODES_MAX as u32],
        )?;
        transaction.commit()
    }
}

fn forget(connection: &Connection, name: &Name) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM recovery WHERE name = ?1",
        "DELETE FROM familiar WHERE name = ?1",
        "DELETE FROM account WHERE name = ?1",
    ] {
        connection.execute(sql, [name.as_str()])?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Held> {
    let invitation: Option<Vec<u8>> = row.get(0)?;
    let until: i64 = row.get(1)?;
    let until = UnixMillis(u64::try_from(until).unwrap_or(0));
    Ok(Held {
        invitation: invitation.map(|hash| (hash, until)),
        password: row.get::<_, Option<String>>(2)?.map(Zeroizing::new),
        factor: row.get::<_, Option<Vec<u8>>>(3)?.map(Zeroizing::new),
    })
}

/// SQLite's numbers have a sign, and these are compared.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Machines that are remembered of each person.
pub(super) const FAMILIAR_NODES_MAX: usize = 16;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS account (
    name          TEXT PRIMARY KEY,
    generation    INTEGER NOT NULL,
    invitation    BLOB,
    invited_until INTEGER NOT NULL DEFAULT 0,
    password      TEXT,
    factor        BLOB,
    step          INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recovery (
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (name, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS familiar (
    name TEXT NOT NULL,
    node INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    PRIMARY KEY (name, node)
) STRICT, WITHOUT ROWID;
";
