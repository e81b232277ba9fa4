//! The two that are measured over a bad network: our tunnel, and plain TCP, each with a cable of its own in between.

use anyhow::Result;
use ringfence_e2e::{Cable, Faults, Mesh};
use ringfence_lab::{Host, Lab, Network};

use super::{Contender, End, Kind, LOG, OUTER_LEFT, OUTER_RIGHT, ringfence};

/// A contender whose ends have a cable between them, which is laid anew for each kind of fault.
pub(crate) struct Cabled {
    pub(crate) contender: Contender,
    between: Host,
    cable: Option<Cable>,
}

impl Cabled {
    /// Two nodes under their controller, or with [`Kind::Veth`] nothing but the network.
    pub(crate) fn bring_up(kind: Kind) -> Result<Self> {
        let lab = Lab::new(&format!("{}-cable", kind.name()))?;
        if kind == Kind::Veth {
            plain(lab)
        } else {
            tunnel(kind, lab)
        }
    }

    /// Lays another cable.
    pub(crate) fn relay(&mut self, faults: Faults) -> Result<()> {
        if let Some(cable) = self.cable.take() {
            cable.end("passed")?;
        }
        self.cable = Some(Cable::lay(&self.between, faults)?);
        Ok(())
    }
}

fn tunnel(kind: Kind, lab: Lab) -> Result<Cabled> {
    let mut mesh = Mesh::start_in(lab, LOG)?;
    let (between, far) = host_between(mesh.lab(), mesh.lan())?;
    let left = mesh.lab().host("left")?;
    left.join(&far, &["10.77.0.200/24", "fd77::200/64"])?;
    let right = mesh.bare_host("right")?;
    for host in [mesh.host(), &left, &right] {
        Cable::plug(host)?;
    }
    let cable = Cable::lay(&between, Faults::default())?;
    Ok(Cabled {
        contender: ringfence::between(kind, mesh, [&left, &right], None)?,
        between,
        cable: Some(cable),
    })
}

fn plain(lab: Lab) -> Result<Cabled> {
    let lan = lab.network("lan")?;
    let (between, far) = host_between(&lab, &lan)?;
    let end = |name: &str, network: &Network, address: &str| -> Result<End> {
        let host = lab.host(name)?;
        host.join(network, &[&format!("{address}/24")])?;
        Cable::plug(&host)?;
        Ok(End {
            host,
            address: address.parse()?,
            pid: None,
        })
    };
    let (left, right) = (end("left", &far, OUTER_LEFT)?, end("right", &lan, OUTER_RIGHT)?);
    let contender = Contender {
        kind: Kind::Veth,
        version: String::new(),
        mtu_bytes: 1500,
        left,
        right,
        _keep: Box::new((lab, lan, far)),
    };
    Ok(Cabled {
        contender,
        between,
        cable: None,
    })
}

/// A host with a plug in `lan`, and one in a network beyond.
fn host_between(lab: &Lab, lan: &Network) -> Result<(Host, Network)> {
    let between = lab.host("cable")?;
    between.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    let far = lab.network("far")?;
    between.join(lan, &[])?;
    between.join(&far, &[])?;
    Ok((between, far))
}
