//! NAT routers in the words of RFC 4787, by nftables. IPv4 only: IPv6 is routed, not translated.

use std::fmt::Write;

/// How a router translates what leaves by its outside link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Mapping and filtering endpoint-independent, for UDP: whoever sends to a mapped port reaches the host behind it.
    EndpointIndependent,
    /// What most routers do: mapping endpoint-independent as long as ports do not clash, filtering address- and
    /// port-dependent.
    Masquerade,
    /// Mapping and filtering address- and port-dependent: another port for every destination.
    AddressAndPortDependent,
}

/// The rule set of a router that translates on `outside`.
pub(crate) fn ruleset(outside: &[(String, Nat)]) -> String {
    let (mut post, mut pre, mut forward) = (String::new(), String::new(), String::new());
    for (link, nat) in outside {
        match nat {
            Nat::EndpointIndependent => {
                let _ = writeln!(
                    post,
                    "oifname {link} meta l4proto udp update @mappings {{ udp sport timeout 300s : ip saddr }}"
                );
                let _ = writeln!(post, "oifname {link} masquerade");
                let _ = writeln!(
                    pre,
                    "iifname {link} meta l4proto udp dnat to udp dport map @mappings"
                );
                let _ = writeln!(forward, "iifname {link} ct state new meta l4proto != udp drop");
            }
            Nat::Masquerade => {
                let _ = writeln!(post, "oifname {link} masquerade");
                let _ = writeln!(forward, "iifname {link} ct state new drop");
            }
            Nat::AddressAndPortDependent => {
                let _ = writeln!(post, "oifname {link} masquerade fully-random");
                let _ = writeln!(forward, "iifname {link} ct state new drop");
            }
        }
    }
    format!(
        "table ip lab\ndelete table ip lab\ntable ip lab {{\n\
         map mappings {{ type inet_service : ipv4_addr; flags dynamic, timeout; size {MAPPINGS_MAX}; }}\n\
         chain post {{ type nat hook postrouting priority srcnat;\n{post}}}\n\
         chain pre {{ type nat hook prerouting priority dstnat;\n{pre}}}\n\
         chain forward {{ type filter hook forward priority filter;\n{forward}}}\n}}\n"
    )
}

const MAPPINGS_MAX: u32 = 4096;
