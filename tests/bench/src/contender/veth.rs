//! The ceiling: the network itself, without a tunnel.

use anyhow::Result;

use super::{Contender, End, Kind, OUTER_LEFT, OUTER_RIGHT, Stage};

pub(super) fn bring_up(kind: Kind) -> Result<Contender> {
    let stage = Stage::new(kind)?;
    if kind == Kind::VethPlain {
        for (host, _) in stage.ends() {
            let ethtool = host.command("ethtool").args(["-K", "eth0"]);
            ethtool
                .args(OFFLOADS.iter().flat_map(|name| [name, "off"]))
                .text()?;
        }
    }
    let end = |host: &ringfence_lab::Host, address: &str| -> Result<End> {
        Ok(End {
            host: host.clone(),
            address: address.parse()?,
            pid: None,
        })
    };
    Ok(Contender {
        kind,
        version: "of the kernel".to_owned(),
        mtu_bytes: 1500,
        left: end(&stage.left, OUTER_LEFT)?,
        right: end(&stage.right, OUTER_RIGHT)?,
        _keep: Box::new(stage),
    })
}

const OFFLOADS: [&str; 4] = ["tso", "gso", "gro", "tx-udp-segmentation"];
