//! Our own: a controller, two enrolled nodes, and a policy that allows what is measured and nothing else.

use std::path::Path;

use anyhow::Result;
use ringfence_e2e::{Allow, Mesh, Node, NodeOptions, binary, perimeter};
use ringfence_lab::{Host, Lab};

use super::{Contender, End, Kind, LOG};
use crate::measure::{ECHO_PORT, IPERF_PORT, UDP_PORT};
use crate::peers;

pub(super) fn bring_up(kind: Kind, program: Option<&Path>) -> Result<Contender> {
    let mut mesh = Mesh::start_in(Lab::new(kind.name())?, LOG)?;
    let (left, right) = (mesh.bare_host("left")?, mesh.bare_host("right")?);
    between(kind, mesh, [&left, &right], program)
}

/// Our own in a lab of another name, under another policy for the perimeter `bench` and the roles `left` and `right`.
pub(super) fn bring_up_under(lab: &str, policy: &str) -> Result<Contender> {
    let mut mesh = Mesh::start_in(Lab::new(lab)?, LOG)?;
    let (left, right) = (mesh.bare_host("left")?, mesh.bare_host("right")?);
    between_under(policy, Kind::Ringfence, mesh, [&left, &right], None)
}

/// Runs nodes on two hosts of the mesh and has them know each other.
pub(super) fn between(
    kind: Kind,
    mesh: Mesh,
    [left, right]: [&Host; 2],
    program: Option<&Path>,
) -> Result<Contender> {
    between_under(&policy(), kind, mesh, [left, right], program)
}

fn between_under(
    policy: &str,
    kind: Kind,
    mesh: Mesh,
    [left, right]: [&Host; 2],
    program: Option<&Path>,
) -> Result<Contender> {
    let node = |host, name: &str| {
        let options = NodeOptions {
            program: program.map(Path::to_owned),
            ..NodeOptions::default()
        };
        mesh.node_on(host, name, &[&format!("role={name}")], options)
    };
    let (left, right) = (node(left, "left")?, node(right, "right")?);
    mesh.apply_and_wait(policy)?;
    left.wait_peer(PERIMETER, "right")?;
    let version = match program {
        Some(path) => peers::version(path, "--version"),
        None => peers::version(&binary("ringfence-node")?, "--version"),
    };
    let contender = Contender {
        kind,
        version,
        mtu_bytes: mtu_bytes(&left)?,
        left: end(&left)?,
        right: end(&right)?,
        _keep: Box::new((left, right, mesh)),
    };
    Ok(contender)
}

fn end(node: &Node) -> Result<End> {
    Ok(End {
        host: node.host().clone(),
        address: node.overlay(PERIMETER)?.v4.into(),
        pid: Some(node.running().pid()),
    })
}

/// The MTU of its device, as the kernel has it.
fn mtu_bytes(node: &Node) -> Result<u16> {
    let segment = node.segment(PERIMETER)?;
    let interface = segment["interface"].as_str().unwrap_or_default();
    let path = format!("/sys/class/net/{interface}/mtu");
    Ok(node.host().command("cat").arg(path).text()?.trim().parse()?)
}

fn policy() -> String {
    let ports = [
        format!("tcp/{IPERF_PORT}"),
        format!("tcp/{ECHO_PORT}"),
        format!("udp/{UDP_PORT}"),
        "icmp".to_owned(),
    ];
    let rules: Vec<Allow> = ports
        .iter()
        .map(|port| Allow {
            from: "left",
            to: "right",
            // The helper for tests takes literals; four short strings a run may stay for its length.
            port: String::leak(port.clone()),
        })
        .collect();
    perimeter(
        PERIMETER,
        "1h",
        &[("left", "role=left"), ("right", "role=right")],
        &rules,
    )
}

const PERIMETER: &str = "bench";
