//! Many packets in one system call: what the kernel's segmentation offload hands over is cut into packets, and packets
//! that belong together are put into one (virtio 1.2 section 5.1.6).
//!
//! [`SuperPacket`] is a read from a TUN device with its [`VnetHeader`], [`Run`] a write to one.
//!
//! **Invariant:** cutting a [`Run`] again gives the packets it was made of; a packet that is not certain to survive
//! that, or whose checksum is wrong, is never joined to another.

mod conversation;
mod run;
mod segment;
mod split;
mod vnet;

pub use run::{RUN_SEGMENTS_MAX, Run};
pub use split::{BadOffload, SPLIT_SEGMENTS_MAX, SuperPacket};
pub use vnet::{VNET_HEADER_BYTES, VnetHeader};

/// The transport protocols that can be cut and joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where in its header the checksum stands.
    fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// The sum of the pseudo header's addresses and protocol; the length is still to be added.
fn pseudo_sum(ip_header: &[u8], transport: Transport) -> u32 {
    let addresses = if ip_header[0] >> 4 == 4 {
        &ip_header[12..20]
    } else {
        &ip_header[8..40]
    };
    u32::from(crate::checksum::ones_sum(addresses)) + u32::from(transport.protocol())
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Gives an IP header the length of its packet, and IPv4 its checksum.
fn set_ip_length(ip_header: &mut [u8], packet_bytes: usize) {
    if ip_header[0] >> 4 == 4 {
        write_u16(ip_header, IPV4_LENGTH_AT, packet_bytes as u16);
        write_u16(ip_header, IPV4_CHECKSUM_AT, 0);
        let sum = crate::checksum(0, ip_header);
        write_u16(ip_header, IPV4_CHECKSUM_AT, sum);
    } else {
        write_u16(
            ip_header,
            IPV6_LENGTH_AT,
            (packet_bytes - crate::ipv6::HEADER_BYTES) as u16,
        );
    }
}

const IPV4_LENGTH_AT: usize = 2;
const IPV6_LENGTH_AT: usize = 4;
const UDP_LENGTH_AT: usize = 4;
const IPV4_CHECKSUM_AT: usize = 10;
const IPV4_DONT_FRAGMENT: u16 = 0x4000;
const TCP_FLAGS_AT: usize = 13;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

#[cfg(test)]
mod tests;
