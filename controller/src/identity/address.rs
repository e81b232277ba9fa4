//! Which addresses a URL given by a person may lead to (red line 9).
//!
//! **Invariant:** an address that is not known to be a public one is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far away URLs may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To public addresses alone.
    Public,
    /// To private ones too, because an administrator said so.
    Private,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    /// Of an organisation, or of this machine.
    Private,
    /// Of a link (where clouds keep their metadata), of many, of nobody.
    Never,
}

impl Reach {
    /// Whether it is far enough for this address.
    pub(super) fn covers(self, address: IpAddr) -> bool {
        match kind(address) {
            Kind::Public => true,
            Kind::Private => self == Self::Private,
            Kind::Never => false,
        }
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

/// By the special-purpose registry (RFC 6890).
fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127 | 10, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Kind::Private,
        (0 | 224..=255, _, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    if let Some(v4) = address.to_ipv4_mapped() {
        return kind_v4(v4);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => Kind::Private,
        // NAT64 (RFC 6052): it leads to the IPv4 address that it ends with.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            kind_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Teredo and other protocol assignments, documentation, 6to4: some carry an IPv4 address in them.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] => Kind::Never,
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_are_reached_either_way() {
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(Reach::Public.covers(parse(public)), "{public}");
            assert!(Reach::Private.covers(parse(public)), "{public}");
        }
    }

    #[test]
    fn private_addresses_take_an_administrators_word() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd77::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ];
        for address in private {
            assert!(!Reach::Public.covers(parse(address)), "{address}");
            assert!(Reach::Private.covers(parse(address)), "{address}");
        }
    }

    #[test]
    fn nobodys_word_opens_metadata_and_the_rest() {
        let never = [
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1::1",
            "2001:db8::1",
            "::10.0.0.1",
        ];
        for address in never {
            assert!(!Reach::Private.covers(parse(address)), "{address}");
        }
    }
}
