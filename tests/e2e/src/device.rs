//! A machine that runs Debian's `wireguard-go` and nothing of ours, set up by `wg-quick` from what
//! `ringfence peer add` printed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ringfence_lab::{Host, Program, wait_until};
use serde_json::Value;

use crate::mesh::Mesh;
use crate::node::Overlay;

/// A device of a perimeter.
pub struct Device {
    host: Host,
    name: String,
    private_key: String,
    public_key: String,
    config: String,
}

impl Device {
    /// Makes a key on `host`, adds the device, and keeps the file that was printed; brings nothing up yet.
    ///
    /// # Errors
    /// When the controller refuses.
    pub fn add(mesh: &Mesh, host: &Host, name: &str, perimeter: &str, labels: &[&str]) -> Result<Self> {
        let private_key = host.command("wg").arg("genkey").text()?.trim().to_owned();
        let public_key = host.command("wg").arg("pubkey").input(&private_key).text()?;
        let public_key = public_key.trim().to_owned();
        let mut args = vec![
            "peer",
            "add",
            name,
            "--perimeter",
            perimeter,
            "--public-key",
            &public_key,
        ];
        for label in labels {
            args.extend(["--label", label]);
        }
        let config = mesh.cli(args)?.text()?;
        Ok(Self {
            host: host.clone(),
            name: name.to_owned(),
            private_key,
            public_key,
            config,
        })
    }

    /// The file as it was printed, without a private key.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its public key.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Its private key.
    pub fn private_key(&self) -> &str {
        &self.private_key
    }

    /// Its addresses in the perimeter, as the file gives them.
    ///
    /// # Errors
    /// When the file gives none.
    pub fn overlay(&self) -> Result<Overlay> {
        let line = self
            .config
            .lines()
            .find_map(|line| line.strip_prefix("Address = "));
        let (v4, v6) = line
            .and_then(|line| line.split_once(", "))
            .context("the file has addresses")?;
        Ok(Overlay {
            v4: v4.trim_end_matches("/32").parse()?,
            v6: v6.trim_end_matches("/128").parse()?,
        })
    }

    /// Brings the interface up, as the device's owner would.
    ///
    /// # Errors
    /// When `wg-quick` fails.
    pub fn up(&self) -> Result<()> {
        self.up_with(&self.private_key, str::to_owned)
    }

    /// Brings the interface up with another private key, or a file changed by `edit`.
    ///
    /// # Errors
    /// When `wg-quick` fails.
    pub fn up_with(&self, private_key: &str, edit: impl Fn(&str) -> String) -> Result<()> {
        let file = edit(&self.config).replace(PLACEHOLDER, private_key);
        self.host
            .command("sh")
            .args(["-c", &format!("umask 077; cat > /etc/wireguard/{INTERFACE}.conf")])
            .input(&file)
            .text()?;
        let log = self.log_path();
        // wireguard-go becomes a daemon and keeps what it was given: not our pipes, or reading them never ends.
        self.shell()
            .arg(format!(
                "wg-quick up {INTERFACE} >> {} 2>&1 < /dev/null",
                log.display()
            ))
            .run()
            .and_then(|output| {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                anyhow::ensure!(output.status.success(), "wg-quick up: {log}");
                self.settle()
            })
    }

    /// Waits until the kernel takes the IPv6 address as a source: it does so a moment after the link is up, and until
    /// then packets leave with an address of another interface, which nobody inside answers.
    fn settle(&self) -> Result<()> {
        let tentative = ["-6", "-o", "address", "show", "dev", INTERFACE, "tentative"];
        wait_until(Duration::from_secs(10), "the address to be usable", || {
            let shown = self.host.command("ip").args(tentative).text();
            shown.is_ok_and(|shown| shown.trim().is_empty())
        })?;
        Ok(())
    }

    /// Takes the interface down.
    ///
    /// # Errors
    /// When `wg-quick` fails.
    pub fn down(&self) -> Result<()> {
        self.host.command("wg-quick").args(["down", INTERFACE]).text()?;
        Ok(())
    }

    /// What `wg show <interface> <what>` prints.
    ///
    /// # Errors
    /// When there is no interface.
    pub fn wg(&self, what: &str) -> Result<String> {
        self.host.command("wg").args(["show", INTERFACE, what]).text()
    }

    /// When the latest handshake with any peer was, in seconds since 1970; 0 if there was none.
    ///
    /// # Errors
    /// When there is no interface.
    pub fn latest_handshake(&self) -> Result<u64> {
        let shown = self.wg("latest-handshakes")?;
        let times = shown
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
        Ok(times.max().unwrap_or(0))
    }

    /// Waits for the first handshake.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_handshake(&self, wait: Duration) -> Result<()> {
        wait_until(wait, "the device's handshake", || {
            self.latest_handshake().is_ok_and(|at| at > 0)
        })?;
        Ok(())
    }

    /// Itself as the controller lists it.
    ///
    /// # Errors
    /// When it is not listed.
    pub fn listed(&self, mesh: &Mesh) -> Result<Value> {
        let list = mesh.json(["peer", "ls"])?;
        let peers = list["peers"].as_array().context("a list of peers")?;
        let found = peers
            .iter()
            .find(|peer| peer["name"] == self.name.as_str())
            .cloned();
        found.with_context(|| format!("{} is not listed: {list}", self.name))
    }

    fn shell(&self) -> Program {
        let program = self.host.command("sh").arg("-c");
        program
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go")
            .env("LOG_LEVEL", "verbose")
    }

    fn log_path(&self) -> PathBuf {
        self.host.dir().join("wg-quick.txt")
    }
}

/// What `ringfence peer add` prints where the private key goes.
const PLACEHOLDER: &str = "REPLACE-WITH-THE-PRIVATE-KEY-OF-THIS-DEVICE";
const INTERFACE: &str = "wg0";
