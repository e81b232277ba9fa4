//! Other programs that speak WireGuard, set up with `wg` as their users do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ringfence_e2e::{base64_of, public_key_of, random_bytes};
use ringfence_lab::{Host, Running, wait_until};

use super::{Contender, End, INNER, Kind, Stage, TUNNEL_MTU_BYTES, ip};
use crate::peers;

pub(super) fn bring_up(kind: Kind) -> Result<Contender> {
    let (name, args): (_, &[&str]) = match kind {
        Kind::Boringtun => (
            "boringtun-cli",
            &["--foreground", "--disable-drop-privileges", DEVICE],
        ),
        Kind::Gotatun => ("gotatun", &["--foreground", "--disable-drop-privileges", DEVICE]),
        _ => ("wireguard-go", &["--foreground", DEVICE]),
    };
    let program = peers::find(name)?;
    let stage = Stage::new(kind)?;
    let keys = [random_bytes::<32>()?, random_bytes::<32>()?];
    let mut running = Vec::new();
    for (at, (host, other)) in stage.ends().into_iter().enumerate() {
        let command = host.command(&program).args(args).current_dir(host.dir());
        let one = command.spawn("tunnel")?;
        wait_until(DEVICE_WAIT, "the tunnel's device", || {
            !one.is_running() || wg(host, &["show", DEVICE], "").is_ok()
        })?;
        configure(host, keys[at], keys[1 - at], other)
            .with_context(|| format!("{name}; its log:\n{}", one.log()))?;
        ip(host, &format!("addr add {}/24 dev {DEVICE}", INNER[at]))?;
        ip(host, &format!("link set {DEVICE} mtu {TUNNEL_MTU_BYTES} up"))?;
        running.push(one);
    }
    let end = |at: usize, host: &Host, running: &[Running]| -> Result<End> {
        Ok(End {
            host: host.clone(),
            address: INNER[at].parse()?,
            pid: Some(running[at].pid()),
        })
    };
    Ok(Contender {
        kind,
        version: peers::version(&program, "--version"),
        mtu_bytes: TUNNEL_MTU_BYTES,
        left: end(0, &stage.left, &running)?,
        right: end(1, &stage.right, &running)?,
        _keep: Box::new((running, stage)),
    })
}

fn configure(host: &Host, own: [u8; 32], other: [u8; 32], endpoint: &str) -> Result<()> {
    let config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\n[Peer]\nPublicKey = {}\n\
         AllowedIPs = 10.90.0.0/24\nEndpoint = {endpoint}:{PORT}\n",
        base64_of(own),
        public_key_of(other),
    );
    wg(host, &["setconf", DEVICE, "/dev/stdin"], &config)
}

fn wg(host: &Host, args: &[&str], input: &str) -> Result<()> {
    host.command("wg").args(args).input(input).text()?;
    Ok(())
}

const DEVICE: &str = "wg0";
const PORT: u16 = 51_820;
const DEVICE_WAIT: Duration = Duration::from_secs(10);
