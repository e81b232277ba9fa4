//! Who is on stage: the controller, a laptop with a person at it, an identity provider, and the database.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use ringfence_e2e::{Mesh, Node, Office, Postgres, Script};
use ringfence_lab::{Host, Lab, Serving};

use crate::directory::Directory;

/// The perimeter of the database.
pub(crate) const PAYMENTS: &str = "payments-db";

/// Everyone, running.
pub(crate) struct Cast {
    pub(crate) db: Node,
    pub(crate) directory: Directory,
    pub(crate) office: Office,
}

/// What runs on the database's machine, until it is dropped.
pub(crate) struct Servers {
    _postgres: Postgres,
    _metrics: Serving,
}

impl Cast {
    pub(crate) fn enter(lab: &Lab) -> Result<Self> {
        let mesh = Mesh::start_in(lab.clone(), LOG)?;
        let mut office = Office::open_in(mesh, Script::Honest, firewall_up)?;
        let db = office.mesh.node("db", &["role=db"])?;
        let directory = Directory::open(&office.mesh)?;
        Ok(Self {
            db,
            directory,
            office,
        })
    }

    /// Starts what the database's machine serves, on its overlay addresses alone.
    pub(crate) fn serve(&self) -> Result<Servers> {
        let overlay = self.db.overlay(PAYMENTS)?;
        let metrics = self.db.host().serve(overlay.v4(METRICS_PORT))?;
        let postgres = Postgres::start_on(self.db.host(), &format!("{},{}", overlay.v4, overlay.v6))?;
        Ok(Servers {
            _postgres: postgres,
            _metrics: metrics,
        })
    }

    /// Runs `ringfence` as the administrator does, in the example's folder; gives what it printed, the receipt too.
    pub(crate) fn administrator(&self, args: &[&str]) -> Result<String> {
        let output = self.office.mesh.cli(args)?.current_dir(FOLDER).run()?;
        let text = output.stdout + &output.stderr;
        ensure!(output.status.success(), "ringfence {}: {text}", args.join(" "));
        Ok(text)
    }

    /// The person's machine.
    pub(crate) fn laptop(&self) -> &Host {
        self.office.laptop.host()
    }

    /// The database inside its perimeter.
    pub(crate) fn database(&self) -> Result<IpAddr> {
        Ok(self.db.overlay(PAYMENTS)?.v4.into())
    }

    /// Its metrics, for which a login will do.
    pub(crate) fn metrics(&self) -> Result<SocketAddr> {
        Ok(self.db.overlay(PAYMENTS)?.v4(METRICS_PORT))
    }
}

/// Switches the laptop's firewall on.
pub(crate) fn firewall_up(laptop: &Host) -> Result<()> {
    let rules = "table inet guard { chain in { type filter hook input priority 0; policy accept; tcp dport 23 drop\n}\n}";
    laptop.command("nft").args(["-f", "-"]).input(rules).text()?;
    Ok(())
}

/// Switches it off.
pub(crate) fn firewall_down(laptop: &Host) -> Result<()> {
    laptop
        .command("nft")
        .args(["delete", "table", "inet", "guard"])
        .text()?;
    Ok(())
}

/// Where the policies are.
pub(crate) const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

const METRICS_PORT: u16 = 9100;
const LOG: &str = "info";
