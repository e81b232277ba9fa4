//! The log in SQLite: one file, one writer, `synchronous=FULL`.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use ringfence_model::{Revision, UnixMillis};

use super::reserve::Reserve;
use super::{Entry, Loaded, Log, StoreError, StoredSnapshot};

/// The log in one SQLite file.
pub struct SqliteLog {
    connection: Connection,
    path: String,
    reserve: Reserve,
}

impl SqliteLog {
    /// Makes a new, empty store, readable by its owner alone.
    ///
    /// # Errors
    /// If the file exists or the database cannot be written.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        // SQLite would make the file with the umask's rights: make it first, with ours.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| StoreError::Database(format!("{}: {error}", path.display())))?;
        let mut log = Self::connect(path)?;
        log.in_transaction(|transaction| {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", FORMAT_VERSION)
        })?;
        Ok(log)
    }

    /// Opens a store and checks that it is sound and ours.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Format`]; the file is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Damaged {
                path: path.display().to_string(),
                why: "the file is missing".to_owned(),
            });
        }
        is_database(path)?;
        let log = Self::connect(path)?;
        log.check()?;
        Ok(log)
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        let text = path.display().to_string();
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // FULL: a change answered 2xx survives a power cut (red line 10).
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(Self {
                connection,
                path: text,
                reserve: Reserve::beside(path),
            }),
            Err(error) => Err(translate(&text, &error)),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let number = |name: &str| -> Result<i64, StoreError> {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
                .map_err(|error| translate(&self.path, &error))
        };
        if number("application_id")? != APPLICATION_ID {
            return Err(self.damaged("it was not made by ringfence-controller"));
        }
        let found = number("user_version")?;
        if !(1..=FORMAT_VERSION).contains(&found) {
            return Err(StoreError::Format {
                path: self.path.clone(),
                found,
                supported: FORMAT_VERSION,
            });
        }
        let verdict: String = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(|error| translate(&self.path, &error))?;
        if verdict != "ok" {
            return Err(self.damaged(&verdict));
        }
        Ok(())
    }

    fn damaged(&self, why: &str) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let run = || -> rusqlite::Result<T> {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|error| translate(&path, &error))
    }

    fn query<P: rusqlite::Params>(&self, sql: &str, params: P) -> Result<Vec<Entry>, StoreError> {
        let run = || -> rusqlite::Result<Vec<Entry>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(params, read_entry)?.collect()
        };
        run().map_err(|error| translate(&self.path, &error))
    }
}

/// SQLite takes an empty file for a new database, and would write into it.
fn is_database(path: &Path) -> Result<(), StoreError> {
    let damaged = |why: String| StoreError::Damaged {
        path: path.display().to_string(),
        why,
    };
    let mut head = [0; MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) if head == *MAGIC => Ok(()),
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(damaged(error.to_string())),
        Ok(()) | Err(_) => Err(damaged("it is no database".to_owned())),
    }
}

impl Log for SqliteLog {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let snapshot = self
            .connection
            .query_row(
                "SELECT term, n, body FROM snapshot ORDER BY term DESC, n DESC LIMIT 1",
                [],
                |row| {
                    Ok(StoredSnapshot {
                        revision: read_revision(row)?,
                        body: row.get(2)?,
                    })
                },
            )
            .optional()
            .map_err(|error| translate(&self.path, &error))?;
        let from = snapshot.as_ref().map_or(Revision::ZERO, |s| s.revision);
        let entries = self.query(
            "SELECT term, n, at, hash, body FROM change WHERE (term, n) > (?1, ?2) ORDER BY term, n",
            params![signed(from.term), signed(from.n)],
        )?;
        let newest = self
            .connection
            .query_row(
                "SELECT term, n, hash FROM change ORDER BY term DESC, n DESC LIMIT 1",
                [],
                |row| Ok((read_revision(row)?, row.get(2)?)),
            )
            .optional()
            .map_err(|error| translate(&self.path, &error))?;
        Ok(Loaded {
            snapshot,
            entries,
            newest,
        })
    }

    fn append(&mut self, expected: Revision, entry: &Entry) -> Result<(), StoreError> {
        let stale = self.in_transaction(|transaction| {
            let newest = transaction
                .query_row(
                    "SELECT term, n FROM change ORDER BY term DESC, n DESC LIMIT 1",
                    [],
                    read_revision,
                )
                .optional()?
                .unwrap_or(Revision::ZERO);
            if newest != expected {
                return Ok(Some(newest));
            }
            transaction.execute(
                "INSERT INTO change (term, n, at, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    signed(entry.revision.term),
                    signed(entry.revision.n),
                    signed(entry.at.0),
                    entry.hash,
                    entry.body
                ],
            )?;
            Ok(None)
        })?;
        match stale {
            None => {
                self.reserve.refill();
                Ok(())
            }
            Some(found) => Err(StoreError::Stale { expected, found }),
        }
    }

    fn save_snapshot(&mut self, snapshot: &StoredSnapshot) -> Result<(), StoreError> {
        self.in_transaction(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO snapshot (term, n, body) VALUES (?1, ?2, ?3)",
                params![
                    signed(snapshot.revision.term),
                    signed(snapshot.revision.n),
                    snapshot.body
                ],
            )?;
            // The one before stays, should this one turn out unreadable.
            transaction.execute(
                "DELETE FROM snapshot WHERE (term, n) NOT IN \
                 (SELECT term, n FROM snapshot ORDER BY term DESC, n DESC LIMIT 2)",
                [],
            )?;
            Ok(())
        })
    }

    fn entries_since(&mut self, since: UnixMillis, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut entries = self.query(
            "SELECT term, n, at, hash, body FROM change WHERE at >= ?1 ORDER BY term DESC, n DESC LIMIT ?2",
            params![signed(since.0), limit],
        )?;
        entries.reverse();
        Ok(entries)
    }

    fn visit_all(&mut self, visit: &mut dyn FnMut(&Entry) -> bool) -> Result<(), StoreError> {
        let mut run = || -> rusqlite::Result<()> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT term, n, at, hash, body FROM change ORDER BY term, n")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if !visit(&read_entry(row)?) {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|error| translate(&self.path, &error))
    }

    fn reader(&self) -> Result<Box<dyn Log>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match Connection::open_with_flags(&self.path, flags) {
            Ok(connection) => Ok(Box::new(Self {
                connection,
                path: self.path.clone(),
                reserve: Reserve::at(Path::new(&self.path)),
            })),
            Err(error) => Err(translate(&self.path, &error)),
        }
    }

    fn release_reserve(&mut self) -> bool {
        self.reserve.release()
    }

    fn admin_token_hash(&mut self) -> Result<Option<[u8; 32]>, StoreError> {
        self.connection
            .query_row("SELECT hash FROM admin_token WHERE name = 'admin'", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| translate(&self.path, &error))
    }

    fn set_admin_token_hash(&mut self, hash: &[u8; 32]) -> Result<(), StoreError> {
        self.in_transaction(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO admin_token (name, hash) VALUES ('admin', ?1)",
                params![hash],
            )?;
            Ok(())
        })
    }
}

fn read_revision(row: &rusqlite::Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision {
        term: row.get::<_, i64>(0)?.cast_unsigned(),
        n: row.get::<_, i64>(1)?.cast_unsigned(),
    })
}

fn read_entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        revision: read_revision(row)?,
        at: UnixMillis(row.get::<_, i64>(2)?.cast_unsigned()),
        hash: row.get(3)?,
        body: row.get(4)?,
    })
}

/// SQLite's integers are signed; ours count from zero and stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn translate(path: &str, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        // A full disk shows as a failed write when it is the journal that does not fit.
        Some(ErrorCode::SystemIoFailure) if disk_is_full(path) => StoreError::Full,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        },
        _ => StoreError::Database(format!("{path}: {error}")),
    }
}

fn disk_is_full(path: &str) -> bool {
    let directory = Path::new(path).parent().unwrap_or_else(|| Path::new("."));
    rustix::fs::statvfs(directory).is_ok_and(|stat| stat.f_bavail * stat.f_frsize < FULL_BELOW_BYTES)
}

/// How every SQLite file begins (its format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// "RFNC".
const APPLICATION_ID: i64 = 0x5246_4e43;
const FORMAT_VERSION: i64 = 1;
const FULL_BELOW_BYTES: u64 = 64 * 1024;

const SCHEMA: &str = "
CREATE TABLE change (
    term INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    hash BLOB    NOT NULL CHECK (length(hash) = 32),
    body TEXT    NOT NULL,
    PRIMARY KEY (term, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_at ON change (at);
CREATE TRIGGER change_is_append_only_update BEFORE UPDATE ON change
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER change_is_append_only_delete BEFORE DELETE ON change
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TABLE snapshot (
    term INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    body BLOB    NOT NULL,
    PRIMARY KEY (term, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE admin_token (
    name TEXT PRIMARY KEY,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        Entry {
            revision: Revision { term: 1, n },
            at: UnixMillis(1_000 * n),
            hash: [u8::try_from(n).unwrap(); 32],
            body: format!("{{\"n\":{n}}}"),
        }
    }

    fn store() -> (tempfile::TempDir, std::path::PathBuf, SqliteLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let log = SqliteLog::create(&path).unwrap();
        (dir, path, log)
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let (_dir, path, mut log) = store();
        log.append(Revision::ZERO, &entry(1)).unwrap();
        log.append(entry(1).revision, &entry(2)).unwrap();
        drop(log);

        let loaded = SqliteLog::open(&path).unwrap().load().unwrap();

        assert_eq!(loaded.entries, [entry(1), entry(2)]);
    }

    #[test]
    fn a_stale_writer_is_refused_and_writes_nothing() {
        let (_dir, _path, mut log) = store();
        log.append(Revision::ZERO, &entry(1)).unwrap();

        let refused = log.append(Revision::ZERO, &entry(2));

        assert!(matches!(refused, Err(StoreError::Stale { .. })));
        assert_eq!(log.load().unwrap().entries, [entry(1)]);
    }

    #[test]
    fn a_start_reads_the_snapshot_and_what_came_after() {
        let (_dir, _path, mut log) = store();
        log.append(Revision::ZERO, &entry(1)).unwrap();
        let snapshot = StoredSnapshot {
            revision: entry(1).revision,
            body: b"state".to_vec(),
        };
        log.save_snapshot(&snapshot).unwrap();
        log.append(entry(1).revision, &entry(2)).unwrap();

        let loaded = log.load().unwrap();

        assert_eq!(loaded.snapshot, Some(snapshot));
        assert_eq!(loaded.entries, [entry(2)]);
    }

    #[test]
    fn entries_cannot_be_altered_or_removed() {
        let (_dir, _path, mut log) = store();
        log.append(Revision::ZERO, &entry(1)).unwrap();

        assert!(
            log.connection
                .execute("UPDATE change SET body = 'x'", [])
                .is_err()
        );
        assert!(log.connection.execute("DELETE FROM change", []).is_err());
    }

    #[test]
    fn a_full_disk_refuses_the_change_and_keeps_what_was() {
        let (_dir, path, mut log) = store();
        log.append(Revision::ZERO, &entry(1)).unwrap();
        log.connection.pragma_update(None, "max_page_count", 1).unwrap();
        let big = Entry {
            body: "x".repeat(1 << 20),
            ..entry(2)
        };

        assert!(matches!(
            log.append(entry(1).revision, &big),
            Err(StoreError::Full)
        ));
        drop(log);
        assert_eq!(
            SqliteLog::open(&path).unwrap().load().unwrap().entries,
            [entry(1)]
        );
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        std::fs::write(
            &path,
            "this is not a database, and long enough to be looked at as one".repeat(40),
        )
        .unwrap();
        let before = std::fs::read(&path).unwrap();

        assert!(matches!(SqliteLog::open(&path), Err(StoreError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert!(matches!(
            SqliteLog::open(&dir.path().join("missing.sqlite")),
            Err(StoreError::Damaged { .. })
        ));
    }

    #[test]
    fn a_store_of_a_later_version_is_refused() {
        let (_dir, path, log) = store();
        log.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(log);

        assert!(matches!(
            SqliteLog::open(&path),
            Err(StoreError::Format { found: 99, .. })
        ));
    }
}
