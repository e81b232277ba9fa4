//! One inner packet: what is read from it, and what is answered to it.

use std::net::IpAddr;

use ringfence_packet::{
    Flow, Malformed, Packet, Position, Protocol, administratively_prohibited, echo_reply, packet_too_big,
    tcp_reset_answering,
};

use crate::inner;

pub(crate) fn run(input: &[u8]) {
    let parsed = Packet::parse(input);
    let answers = answers(input);
    let Ok(packet) = parsed else {
        assert!(answers.is_empty(), "what is malformed is not answered");
        return;
    };
    assert!(packet.bytes.len() <= input.len());
    assert_eq!(
        Packet::parse(packet.bytes),
        Ok(packet),
        "trimming changes nothing"
    );
    assert_eq!(packet.payload().len(), packet.bytes.len() - packet.header_bytes);
    if let Position::Later(fragment) = packet.position {
        assert!(fragment.start > 0 && fragment.start < fragment.end);
        assert_eq!((packet.flow.src_port, packet.flow.dst_port), (0, 0));
        assert!(packet.tcp.is_none() && packet.icmp.is_none());
        assert!(
            answers.is_empty(),
            "RFC 1122 3.2.2: no answer to a later fragment"
        );
    }
    for answer in answers {
        let back = match Packet::parse(&answer) {
            Ok(back) => back,
            // A peer takes an error about a flow only, and these have none.
            Err(Malformed::Quote) if !is_flow(packet.flow) => continue,
            Err(error) => panic!("what we write ourselves is well formed: {error}"),
        };
        assert_eq!(back.bytes.len(), answer.len());
        assert_eq!(back.flow.dst, packet.flow.src, "an answer goes to who asked");
    }
}

/// Whether an ICMP error can name it. The other family's ICMP is one more protocol that nobody knows.
fn is_flow(flow: Flow) -> bool {
    match flow.protocol {
        Protocol::TCP | Protocol::UDP => true,
        Protocol::ICMP => flow.src.is_ipv4(),
        Protocol::ICMPV6 => flow.src.is_ipv6(),
        Protocol(_) => false,
    }
}

fn answers(input: &[u8]) -> Vec<Vec<u8>> {
    let from: [IpAddr; 2] = [inner::OURS.v4.into(), inner::OURS.v6.into()];
    let errors = from.into_iter().flat_map(|from| {
        [
            administratively_prohibited(input, from),
            packet_too_big(input, from, 1280),
        ]
    });
    let errors = errors.flatten().inspect(|error| {
        // RFC 4443 2.4 (c); RFC 1812 4.3.2.3 for IPv4.
        assert!(error.len() <= 1280);
        assert!(
            tcp_reset_answering(error).is_none() && administratively_prohibited(error, from[0]).is_none(),
            "an ICMP error is never answered"
        );
    });
    let resets = tcp_reset_answering(input).inspect(|reset| {
        assert!(tcp_reset_answering(reset).is_none(), "a reset is never answered");
    });
    let replies = echo_reply(input).inspect(|reply| {
        assert!(echo_reply(reply).is_none(), "an echo reply is never answered");
    });
    errors.chain(resets).chain(replies).collect()
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    inner::samples()
}
