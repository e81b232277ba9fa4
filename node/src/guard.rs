//! Keeps the underlay from reaching overlay addresses around the tunnel.
//!
//! Linux takes a packet for any of its addresses on any interface (the weak host model, RFC 1122 section 3.3.4.2): a
//! neighbour on the LAN who routes an overlay address to this host would reach its services in clear, past every rule.
//! A host that forwards has the opposite hole: what comes in with an overlay address as its source and is routed on
//! into a perimeter would wear this node's identity there (IPv6 forwards it even when the address is the host's own).
//! One nftables chain before routing drops what came in elsewhere than through a segment's device or loopback and is
//! for the segment's address, or from its prefixes. The kernel removes the table with the socket that owns it, also
//! after SIGKILL.
//!
//! **Invariant:** the rules change in one transaction: at no moment is a segment's address unguarded.

use std::io;

use ipnetwork::IpNetwork;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use ringfence_dataplane::SegmentFacts;

/// The guard's table, which lives as long as this value.
pub(crate) struct Guard {
    socket: Socket,
    table: String,
    sequence: u32,
}

impl Guard {
    /// A guard with no rules yet. `port` tells the tables of several nodes on one host apart.
    pub(crate) fn new(port: u16) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            table: format!("ringfence-{port}"),
            sequence: 0,
        })
    }

    /// Guards exactly the addresses of `segments` from now on.
    pub(crate) fn set<'a>(&mut self, segments: impl IntoIterator<Item = &'a SegmentFacts>) -> io::Result<()> {
        let mut batch = Batch::new(&self.table, self.sequence);
        for segment in segments {
            for address in segment.addresses.both() {
                batch.drop_elsewhere(&segment.interface, Field::Destination, address.into());
            }
            for prefix in segment.prefixes.iter() {
                batch.drop_elsewhere(&segment.interface, Field::Source, prefix);
            }
        }
        self.sequence = self.sequence.wrapping_add(batch.messages);
        self.socket.send_to(&batch.finish(), &SocketAddr::new(0, 0), 0)?;
        self.read_refusals()
    }

    /// The kernel has answered by the time the batch is sent: an error for each message it refused.
    fn read_refusals(&self) -> io::Result<()> {
        let mut refusal = Ok(());
        let mut buffer = Vec::with_capacity(ANSWER_BYTES_MAX);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return refusal,
                Err(error) => return Err(error),
            }
            if let (Some(errno), Ok(())) = (errno_of(&buffer), &refusal) {
                refusal = Err(io::Error::from_raw_os_error(errno));
            }
        }
    }
}

/// One transaction of nftables, as netlink messages.
struct Batch<'a> {
    table: &'a str,
    bytes: Vec<u8>,
    sequence: u32,
    messages: u32,
}

/// Which address of a packet a rule looks at.
#[derive(Clone, Copy)]
enum Field {
    Source,
    Destination,
}

impl Field {
    /// Where it is in the header of the prefix's family.
    fn offset(self, prefix: IpNetwork) -> u32 {
        match (self, prefix) {
            (Self::Source, IpNetwork::V4(_)) => 12,
            (Self::Destination, IpNetwork::V4(_)) => 16,
            (Self::Source, IpNetwork::V6(_)) => 8,
            (Self::Destination, IpNetwork::V6(_)) => 24,
        }
    }
}

/// Attributes of a message, one after the other.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl<'a> Batch<'a> {
    /// The table and chain, made where they are missing, and without their old rules.
    fn new(table: &'a str, sequence: u32) -> Self {
        let mut batch = Self {
            table,
            bytes: Vec::new(),
            sequence,
            messages: 0,
        };
        batch.message(BATCH_BEGIN, 0, &Attributes::default());
        let owned = Attributes::default().text(1, table).number(2, TABLE_OWNED);
        batch.message(NEW_TABLE, CREATE, &owned);
        let hook = Attributes::default()
            .number(1, PREROUTING)
            .number(2, PRIORITY_RAW);
        let chain = Attributes::default()
            .text(1, table)
            .text(3, CHAIN)
            .nested(4, &hook)
            .number(5, ACCEPT)
            .text(7, "filter");
        batch.message(NEW_CHAIN, CREATE, &chain);
        let all = Attributes::default().text(1, table).text(2, CHAIN);
        batch.message(DELETE_RULE, 0, &all);
        batch
    }

    /// `iifname != interface iifname != lo ip daddr prefix counter drop`, or the same with `saddr`.
    fn drop_elsewhere(&mut self, interface: &str, field: Field, prefix: IpNetwork) {
        let (family, address, mask) = match prefix {
            IpNetwork::V4(v4) => (IPV4, v4.network().octets().to_vec(), v4.mask().octets().to_vec()),
            IpNetwork::V6(v6) => (IPV6, v6.network().octets().to_vec(), v6.mask().octets().to_vec()),
        };
        let expressions = Attributes::default()
            .expression("meta", &load_meta(META_FAMILY))
            .expression("cmp", &compare(EQUAL, &[family]))
            .expression(
                "payload",
                &load_network_header(field.offset(prefix), address.len()),
            )
            .expression("bitwise", &keep_bits(&mask))
            .expression("cmp", &compare(EQUAL, &address))
            .expression("meta", &load_meta(META_INPUT_NAME))
            .expression("cmp", &compare(NOT_EQUAL, &interface_bytes(interface)))
            .expression("cmp", &compare(NOT_EQUAL, &interface_bytes("lo")))
            .expression("counter", &Attributes::default())
            .expression("immediate", &drop_verdict());
        let rule = Attributes::default()
            .text(1, self.table)
            .text(2, CHAIN)
            .nested(4, &expressions);
        self.message(NEW_RULE, CREATE | APPEND, &rule);
    }

    fn finish(mut self) -> Vec<u8> {
        self.message(BATCH_END, 0, &Attributes::default());
        self.bytes
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        let length = MESSAGE_HEADER_BYTES + attributes.0.len();
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes
            .extend((self.sequence.wrapping_add(self.messages)).to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        // The marks of a batch name the subsystem; what is in it the family, both IPv4 and IPv6.
        let (family, resource) = match kind {
            BATCH_BEGIN | BATCH_END => (0, SUBSYSTEM),
            _ => (FAMILY_INET, 0),
        };
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(&attributes.0);
        self.messages = self.messages.wrapping_add(1);
    }
}

impl Attributes {
    fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        let length = ATTRIBUTE_HEADER_BYTES + value.len();
        self.0.extend((length as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        self.raw(kind | NESTED, &inner.0)
    }

    fn expression(self, name: &str, data: &Self) -> Self {
        self.nested(1, &Self::default().text(1, name).nested(2, data))
    }
}

fn load_meta(key: u32) -> Attributes {
    Attributes::default().number(1, REGISTER).number(2, key)
}

fn load_network_header(offset: u32, length: usize) -> Attributes {
    let header = Attributes::default()
        .number(1, REGISTER)
        .number(2, NETWORK_HEADER);
    header.number(3, offset).number(4, length as u32)
}

/// `register = register & mask`.
fn keep_bits(mask: &[u8]) -> Attributes {
    let register = Attributes::default().number(1, REGISTER).number(2, REGISTER);
    register
        .number(3, mask.len() as u32)
        .nested(4, &Attributes::default().raw(1, mask))
        .nested(5, &Attributes::default().raw(1, &vec![0; mask.len()]))
}

fn compare(operator: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default().raw(1, value);
    Attributes::default()
        .number(1, REGISTER)
        .number(2, operator)
        .nested(3, &data)
}

fn drop_verdict() -> Attributes {
    let verdict = Attributes::default().number(1, DROP);
    let data = Attributes::default().nested(2, &verdict);
    Attributes::default().number(1, REGISTER_VERDICT).nested(2, &data)
}

fn interface_bytes(interface: &str) -> [u8; libc::IFNAMSIZ] {
    let mut bytes = [0; libc::IFNAMSIZ];
    for (to, from) in bytes.iter_mut().zip(interface.bytes()) {
        *to = from;
    }
    bytes
}

/// The error in an answer; `None` if it is an acknowledgement.
fn errno_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*answer.get(4..6)?.first_chunk()?);
    let code = i32::from_ne_bytes(*answer.get(16..20)?.first_chunk()?);
    (i32::from(kind) == libc::NLMSG_ERROR && code != 0).then_some(code.saturating_neg())
}

// Numbers of linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
const MESSAGE_HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const REQUEST: u16 = 0x001;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = (SUBSYSTEM << 8) + 3;
const NEW_RULE: u16 = (SUBSYSTEM << 8) + 6;
const DELETE_RULE: u16 = (SUBSYSTEM << 8) + 8;
const FAMILY_INET: u8 = 1;
/// The table goes with the socket that made it, and nobody else can change it.
const TABLE_OWNED: u32 = 2;
const PREROUTING: u32 = 0;
/// Before connection tracking.
const PRIORITY_RAW: u32 = (-300_i32).cast_unsigned();
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const META_INPUT_NAME: u32 = 6;
const META_FAMILY: u32 = 15;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const NETWORK_HEADER: u32 = 1;

const CHAIN: &str = "underlay";
const ANSWER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mut bytes: &[u8]) -> Vec<(u16, usize)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_ne_bytes(*bytes.first_chunk().unwrap()) as usize;
            found.push((u16::from_ne_bytes([bytes[4], bytes[5]]), length));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_batch_is_whole_messages_that_replace_the_old_rules() {
        let mut batch = Batch::new("ringfence-1", 7);
        batch.drop_elsewhere(
            "rf-payments-db",
            Field::Destination,
            "100.64.0.1".parse().unwrap(),
        );
        batch.drop_elsewhere("rf-payments-db", Field::Source, "fd00::/64".parse().unwrap());

        let found = messages(&batch.finish());

        let kinds: Vec<u16> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [
                BATCH_BEGIN,
                NEW_TABLE,
                NEW_CHAIN,
                DELETE_RULE,
                NEW_RULE,
                NEW_RULE,
                BATCH_END
            ]
        );
        assert!(found.iter().all(|(_, length)| length % 4 == 0));
    }

    #[test]
    fn an_acknowledgement_is_no_error() {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert_eq!(errno_of(&answer), None);

        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());

        assert_eq!(errno_of(&answer), Some(libc::EPERM));
        assert_eq!(errno_of(&[]), None);
    }
}
