//! Nebula: not WireGuard, but the fastest of its kind in userspace, and it filters too.

use std::fs;
use std::path::Path;

use anyhow::Result;
use ringfence_lab::{Host, Running};

use super::{Contender, End, INNER, Kind, Stage, TUNNEL_MTU_BYTES};
use crate::peers;

pub(super) fn bring_up(kind: Kind) -> Result<Contender> {
    let (program, cert) = (peers::find("nebula")?, peers::find("nebula-cert")?);
    let stage = Stage::new(kind)?;
    let folder = stage.lab.dir().to_owned();
    let sign = |args: &[&str]| stage.left.command(&cert).args(args).current_dir(&folder).text();
    sign(&["ca", "-name", "bench"])?;
    let mut running = Vec::new();
    for (at, (host, other)) in stage.ends().into_iter().enumerate() {
        sign(&["sign", "-name", host.name(), "-ip", &format!("{}/24", INNER[at])])?;
        let path = host.dir().join("config.yml");
        fs::write(&path, config(kind, &folder, host, (INNER[1 - at], other)))?;
        running.push(host.command(&program).arg("-config").arg(path).spawn("tunnel")?);
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
        version: peers::version(&program, "-version"),
        mtu_bytes: TUNNEL_MTU_BYTES,
        left: end(0, &stage.left, &running)?,
        right: end(1, &stage.right, &running)?,
        _keep: Box::new((running, stage)),
    })
}

/// Everything that is not needed is left at its default.
fn config(kind: Kind, folder: &Path, host: &Host, (inner, outer): (&str, &str)) -> String {
    let folder = folder.display();
    let name = host.name();
    let cipher = match kind {
        Kind::NebulaAes => "aes",
        _ => "chachapoly",
    };
    format!(
        "pki:\n  ca: {folder}/ca.crt\n  cert: {folder}/{name}.crt\n  key: {folder}/{name}.key\n\
         static_host_map:\n  \"{inner}\": [\"{outer}:{PORT}\"]\n\
         lighthouse:\n  am_lighthouse: false\n\
         listen:\n  host: 0.0.0.0\n  port: {PORT}\n\
         cipher: {cipher}\n\
         tun:\n  dev: nebula0\n  mtu: {TUNNEL_MTU_BYTES}\n\
         firewall:\n  outbound:\n    - {ANY}\n  inbound:\n    - {ANY}\n"
    )
}

const ANY: &str = "{ port: any, proto: any, host: any }";
const PORT: u16 = 4242;
