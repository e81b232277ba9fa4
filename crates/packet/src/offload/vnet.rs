//! The header that stands before every packet of a TUN device with offloads (`struct virtio_net_hdr`).

/// The fields of a `struct virtio_net_hdr`, which a TUN device writes and reads in the machine's own byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`Self::NEEDS_CHECKSUM`] and [`Self::CHECKSUM_VALID`].
    pub flags: u8,
    /// What must be cut, [`Self::GSO_NONE`] for a plain packet.
    pub gso_type: u8,
    /// How much of the packet is headers. Linux gives a hint only: it may cover data as well.
    pub header_bytes: u16,
    /// Payload of every segment but the last.
    pub gso_bytes: u16,
    /// Where the transport header starts, and with it what its checksum covers.
    pub checksum_start: u16,
    /// Where the checksum stands, counted from `checksum_start`.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// A packet that is complete as it stands.
    pub const NONE: Self = Self {
        flags: 0,
        gso_type: Self::GSO_NONE,
        header_bytes: 0,
        gso_bytes: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };

    /// The checksum field holds only the sum of the pseudo header.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// The checksum has been verified.
    pub const CHECKSUM_VALID: u8 = 2;

    /// Nothing to cut.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCP_V4: u8 = 1;
    /// UDP to be fragmented by IP; not supported, and never negotiated.
    pub const GSO_UDP_FRAGMENTS: u8 = 3;
    /// TCP over IPv6.
    pub const GSO_TCP_V6: u8 = 4;
    /// UDP datagrams of one size, over IPv4 or IPv6.
    pub const GSO_UDP_DATAGRAMS: u8 = 5;
    /// Beside a TCP type: the segments carry explicit congestion notification (CWR on the first only).
    pub const GSO_ECN: u8 = 0x80;

    /// Reads the header.
    pub fn decode(bytes: &[u8; VNET_HEADER_BYTES]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_bytes: field(2),
            gso_bytes: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        }
    }

    /// Writes the header.
    pub fn encode(&self) -> [u8; VNET_HEADER_BYTES] {
        let mut bytes = [0; VNET_HEADER_BYTES];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.header_bytes.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_bytes.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}

/// Length of a [`VnetHeader`] on the device.
pub const VNET_HEADER_BYTES: usize = 10;
