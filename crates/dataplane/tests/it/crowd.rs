//! As many conversations as the performance goals speak of, and a new revision.

use ringfence_dataplane::{DropReason, Event};
use ringfence_packet::{Flow, Protocol, udp_datagram};
use ringfence_policy::{CloseReason, Refusal};

use crate::mesh::Mesh;

/// Live conversations from the first host to the second.
struct Crowd {
    mesh: Mesh,
    flow: Flow,
    /// The rule that allows them, and one that allows none of them.
    theirs: u32,
    anothers: u32,
}

impl Crowd {
    fn new() -> Self {
        let mut mesh = Mesh::with_hosts("db", 2);
        let theirs = mesh.allow("db", 0, 1, "udp/1-9");
        let anothers = mesh.allow("db", 0, 1, "tcp/443");
        mesh.push();
        assert!(mesh.udp_arrives("db", 0, 1, 1), "there is a session");
        let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 1));
        let mut crowd = Self {
            mesh,
            flow,
            theirs,
            anothers,
        };
        for number in 0..FLOWS {
            let packet = crowd.packet(number);
            crowd.mesh.send(0, "db", &packet).unwrap();
            crowd.mesh.log.clear();
        }
        crowd.mesh.settle();
        crowd
    }

    fn packet(&self, number: u32) -> Vec<u8> {
        let flow = Flow {
            src_port: 40_000 - (number % 40_000) as u16,
            dst_port: (number / 40_000) as u16 + 1,
            ..self.flow
        };
        udp_datagram(flow, b"?")
    }
}

#[test]
fn no_packet_of_a_hundred_thousand_flows_passes_after_the_revision_that_ends_them() {
    let mut crowd = Crowd::new();
    crowd.mesh.deny("db", crowd.theirs);
    crowd.mesh.next_revision();

    for host in 0..2 {
        let (netmap, now) = (crowd.mesh.netmap(host), crowd.mesh.now);
        crowd.mesh.hosts[host]
            .dataplane
            .handle_netmap(netmap, now)
            .unwrap();
        let mut ended = 0;
        loop {
            while let Some(event) = crowd.mesh.hosts[host].dataplane.poll_event() {
                let is_end = matches!(event, Event::FlowClosed(flow) if flow.why == CloseReason::Revoked);
                ended += usize::from(is_end);
            }
            let dataplane = &mut crowd.mesh.hosts[host].dataplane;
            if dataplane.poll_timeout().is_none_or(|due| due > now) {
                break;
            }
            while dataplane.poll_tun().is_some() || dataplane.poll_transmit().is_some() {}
            dataplane.handle_timeout(now);
        }
        assert_eq!(ended, FLOWS as usize, "and each is told of");
    }
    let id = crowd.mesh.segment_id(0, "db");
    for number in [0, FLOWS / 2, FLOWS - 1] {
        let packet = crowd.packet(number);
        let sent = crowd.mesh.hosts[0]
            .dataplane
            .handle_tun(id, &packet, crowd.mesh.now);
        assert_eq!(sent, Err(DropReason::Refused(Refusal::NotAllowed)));
    }
}

#[test]
fn a_revision_that_is_about_others_ends_none_of_a_hundred_thousand_flows() {
    let mut crowd = Crowd::new();
    crowd.mesh.deny("db", crowd.anothers);
    crowd.mesh.next_revision();
    let (netmap, now) = (crowd.mesh.netmap(0), crowd.mesh.now);
    crowd.mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();

    let packet = crowd.packet(FLOWS / 2);
    assert_eq!(crowd.mesh.send(0, "db", &packet), Ok(()));
    assert!(
        !crowd
            .mesh
            .has_event(0, |event| matches!(event, Event::FlowClosed(_)))
    );
}

const FLOWS: u32 = 100_000;
