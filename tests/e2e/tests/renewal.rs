//! A certificate that grows old is replaced in place, while the node goes on.

use std::time::Duration;

use ringfence_e2e::{Mesh, Node, NodeOptions, at, binary};
use ringfence_lab::wait_until;

/// Two thirds of a day, and an hour.
const LATER: &str = "+17h";

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_day_for_the_same_identity() {
    let mut mesh = Mesh::start("renewal").unwrap();
    let host = mesh.bare_host("db").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();
    let node = Node::enroll(&host, "db", &token, NodeOptions::default()).unwrap();
    let read = |name: &str| std::fs::read(node.state_dir().join(name)).unwrap();
    let (certificate, identity) = (read("certificate.pem"), read("identity.pem"));

    // Seventeen hours on, by the wall clocks alone. The controller's decides, for it judges the certificate.
    mesh.stop_controller().unwrap();
    mesh.set_clock(LATER);
    mesh.start_controller().unwrap();
    let running = at(&host, LATER)
        .env("RINGFENCE_LOG", "info")
        .arg(binary("ringfence-node").unwrap())
        .arg("run")
        .arg("--state-dir")
        .arg(node.state_dir())
        .arg("--socket")
        .arg(node.socket())
        .spawn("aged")
        .unwrap();

    wait_until(Duration::from_secs(20), "another certificate on disk", || {
        read("certificate.pem") != certificate
    })
    .unwrap_or_else(|error| panic!("{error}; its log:\n{}", running.log()));
    assert_eq!(
        read("identity.pem"),
        identity,
        "a renewal makes nobody somebody else"
    );
    let audit = mesh.json(["audit", "--since", "48h"]).unwrap();
    let issued = audit["entries"].as_array().unwrap().iter();
    assert_eq!(
        issued
            .filter(|entry| entry["method"] == "certificate.record")
            .count(),
        2
    );
    assert_eq!(mesh.json(["node", "show", "db"]).unwrap()["connected"], true);
}
