//! A cable between two networks that is as bad as it is told to be: a program that carries frame by frame.
//!
//! What hosts send over it must be frames of a link's size with whole checksums: [`Cable::plug`] sees to that.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ringfence_lab::{Host, Running, wait_until};

/// A cable that carries.
pub struct Cable {
    running: Running,
}

/// What it does to frames that are long enough to be data. The default does nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of a thousand frames, how many are lost.
    pub lost: u32,
    /// How many are sent twice.
    pub doubled: u32,
    /// How many are held back until [`Self::overtaken_by`] others have passed.
    pub held: u32,
    /// By how many one that is held back is overtaken.
    pub overtaken_by: u32,
    /// How long every frame takes, long or short, one way.
    pub delay_us: u32,
    /// The UDP or TCP port whose frames suffer; all of them if `None`.
    pub to_port: Option<u16>,
}

impl Cable {
    /// Lays one between `eth0` and `eth1` of a host that does nothing else.
    ///
    /// # Errors
    /// When the program does not start; the error has its log.
    pub fn lay(between: &Host, faults: Faults) -> Result<Self> {
        let Faults {
            lost,
            doubled,
            held,
            overtaken_by,
            delay_us,
            to_port,
        } = faults;
        let port = u32::from(to_port.unwrap_or(0));
        let words = [lost, doubled, held, overtaken_by, delay_us, port].map(|word| word.to_string());
        let python = between
            .command("/usr/bin/python3")
            .args(["-c", include_str!("cable.py")])
            .args(&words);
        let running = python.spawn(&format!("cable-{}", words.join("-")))?;
        wait_until(WAIT, "the cable to be laid", || running.log().contains("ready"))?;
        Ok(Self { running })
    }

    /// Makes a host send over its `eth0` what a cable carries: no frame longer than the link's, none without its
    /// checksum.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn plug(host: &Host) -> Result<()> {
        let features = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        host.command("ethtool")
            .args(["-K", "eth0"])
            .args(features)
            .text()?;
        Ok(())
    }

    /// Ends it and gives how many frames suffered `what`: `lost`, `doubled`, `held`, or simply `passed`.
    ///
    /// # Errors
    /// When it does not end, or does not say.
    pub fn end(self, what: &str) -> Result<u64> {
        self.running.terminate();
        self.running.wait(WAIT)?;
        let log = self.running.log();
        let counts = log.lines().last().unwrap_or_default().split(' ');
        let mut pairs = counts.filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(name, _)| *name == what);
        let (_, count) = found.with_context(|| format!("the cable says {log}"))?;
        Ok(count.parse()?)
    }
}

const WAIT: Duration = Duration::from_secs(10);
