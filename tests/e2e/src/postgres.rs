//! A real PostgreSQL on a host, and `psql` sessions to it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ringfence_lab::{Host, Program, Running, wait_until};

/// A database server with one table, `ledger`.
pub struct Postgres {
    _running: Running,
}

/// A `psql` that stays connected.
pub struct Session {
    running: Running,
}

impl Postgres {
    /// Makes a database in the host's folder and serves it on all its addresses, port 5432.
    ///
    /// # Errors
    /// When Debian's PostgreSQL is not installed or does not start; the error holds its log.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_on(host, "*")
    }

    /// The same on these addresses only, joined by commas.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(host: &Host, addresses: &str) -> Result<Self> {
        let bin = programs()?;
        let data = host.dir().join("postgres");
        std::fs::create_dir_all(&data)?;
        host.command("chown").arg("postgres:").arg(&data).text()?;
        // The host's folder is root's own: let the server's user pass through, not look around.
        host.command("chmod").arg("a+x").arg(host.dir()).text()?;
        host.command(bin.join("initdb"))
            .as_user("postgres")
            .current_dir(&data)
            .args(["--auth=trust", "--no-sync", "--username=postgres", "-D", "db"])
            .text()?;
        let running = host
            .command(bin.join("postgres"))
            .as_user("postgres")
            .current_dir(&data)
            .args(["-D", "db", "-c", "fsync=off", "-c"])
            .arg(format!("listen_addresses={addresses}"))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", data.display()))
            .spawn("postgres")?;
        // Whoever is let through by Ringfence is let in: this test is about the network.
        let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
        std::fs::write(data.join("db/pg_hba.conf"), rules)?;
        running.wait_for_log("ready to accept connections", START_WAIT)?;
        running.signal(ringfence_lab::Signal::HUP);
        let socket = data.display().to_string();
        wait_until(START_WAIT, "the database to take a table", || {
            psql(
                host,
                &socket,
                "CREATE TABLE IF NOT EXISTS ledger AS SELECT 42 AS amount",
            )
            .and_then(Program::text)
            .is_ok()
        })
        .with_context(|| running.log())?;
        Ok(Self { _running: running })
    }

    /// One query from `host` over the network; the answer alone.
    ///
    /// # Errors
    /// When there is none within a few seconds.
    pub fn query(host: &Host, server: IpAddr, sql: &str) -> Result<String> {
        let answer = psql(host, &server.to_string(), sql)?.timeout(QUERY_WAIT).text()?;
        Ok(answer.trim().to_owned())
    }
}

impl Session {
    /// Opens a `psql` session and waits until it has answered once.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(host: &Host, server: IpAddr, name: &str) -> Result<Self> {
        let running = host
            .command(programs()?.join("psql"))
            .args(connection(&server.to_string()))
            .args(["--quiet", "--no-align", "--tuples-only"])
            .interactive()
            .spawn(name)?;
        running.say("SELECT 'session ' || 'open';\n")?;
        running.wait_for_log("session open", START_WAIT)?;
        // A query that would run for an hour: the server's end of the connection is alive, and so is the client's.
        running.say("SELECT pg_sleep(3600);\n")?;
        Ok(Self { running })
    }

    /// Waits until `psql` has noticed that its connection is gone.
    ///
    /// # Errors
    /// When it has not in time.
    pub fn wait_cut(&self, timeout: Duration) -> Result<Instant> {
        self.running
            .wait_for_log("server closed the connection", timeout)
            .or_else(|first| {
                if self.running.log().contains("could not receive data from server") {
                    Ok(Duration::ZERO)
                } else {
                    Err(first)
                }
            })?;
        Ok(Instant::now())
    }

    /// Whether it is still connected.
    pub fn is_open(&self) -> bool {
        self.running.is_running() && !self.log().contains("server")
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

fn psql(host: &Host, server: &str, sql: &str) -> Result<Program> {
    let program = host.command(programs()?.join("psql")).args(connection(server));
    Ok(program.args(["--no-align", "--tuples-only", "-c", sql]))
}

fn connection(server: &str) -> [String; 2] {
    let target = format!("host={server} port=5432 user=postgres dbname=postgres connect_timeout=3");
    ["--no-psqlrc".to_owned(), target]
}

/// Where Debian keeps the server's programs: not on the PATH.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .context("Debian's postgresql is not installed: run scripts/setup.sh")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .context("there is no server in /usr/lib/postgresql: run scripts/setup.sh")
}

const START_WAIT: Duration = Duration::from_secs(20);
const QUERY_WAIT: Duration = Duration::from_secs(6);
