//! What an allow rule opens: `tcp/5432`, `udp/1000-2000`, `icmp` or `any`.
//!
//! **Invariant:** a [`PortRange`] is never empty and never holds port 0, so a rule that parses opens something.

use std::fmt;
use std::str::FromStr;

use ringfence_packet::Protocol;
use serde::{Deserialize, Serialize};

/// What an allow rule opens: written `tcp/5432`, `udp/1000-2000`, `icmp` (echo, both families) or `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Service {
    /// TCP to these ports.
    Tcp(PortRange),
    /// UDP to these ports.
    Udp(PortRange),
    /// ICMP and ICMPv6 echo.
    Icmp,
    /// TCP and UDP to every port, and echo.
    Any,
}

/// Destination ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is not a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Neither `icmp` nor `any` nor `protocol/ports`.
    #[error("{0:?} is not a service: write tcp/5432, udp/1000-2000, icmp or any")]
    Shape(String),
    /// A protocol that policy does not know.
    #[error("{0:?} is not a protocol: use tcp or udp (or icmp and any, which take no ports)")]
    Protocol(String),
    /// `icmp/…` or `any/…`.
    #[error("{0} takes no ports: write {0} alone")]
    PortsNotTaken(&'static str),
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port: use a number from 1 to 65535")]
    Port(String),
    /// A range that runs backwards.
    #[error("the port range {0}-{1} runs backwards: write {1}-{0}")]
    Backwards(u16, u16),
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// Ports `first` to `last`.
    ///
    /// # Errors
    /// If `first` is 0 or comes after `last`.
    pub fn new(first: u16, last: u16) -> Result<Self, ServiceError> {
        if first == 0 || last == 0 {
            return Err(ServiceError::Port("0".to_owned()));
        }
        if first > last {
            return Err(ServiceError::Backwards(first, last));
        }
        Ok(Self { first, last })
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` is one of these.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Both as one range, if nothing lies between them. `later` does not start before this one.
    pub(crate) fn joined(self, later: Self) -> Option<Self> {
        let touches = later.first <= self.last.saturating_add(1);
        touches.then_some(Self {
            first: self.first,
            last: self.last.max(later.last),
        })
    }

    /// What is left below and above `hole`.
    pub(crate) fn without(self, hole: Self) -> [Option<Self>; 2] {
        if !self.meets(hole) {
            return [Some(self), None];
        }
        let below = (self.first < hole.first).then(|| Self {
            first: self.first,
            last: hole.first - 1,
        });
        let above = (self.last > hole.last).then(|| Self {
            first: hole.last + 1,
            last: self.last,
        });
        [below, above]
    }

    const fn is_within(self, other: Self) -> bool {
        other.first <= self.first && self.last <= other.last
    }

    const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Service {
    /// Whether a conversation of `protocol` to `port` is part of this service. ICMP stands for echo, its port is
    /// not looked at.
    pub fn covers(self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Tcp(ports) => protocol == Protocol::TCP && ports.contains(port),
            Self::Udp(ports) => protocol == Protocol::UDP && ports.contains(port),
            Self::Icmp => is_icmp(protocol),
            Self::Any => protocol == Protocol::TCP || protocol == Protocol::UDP || is_icmp(protocol),
        }
    }

    /// Whether everything `other` opens is opened by this too.
    pub fn contains(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Tcp(_) | Self::Udp(_) | Self::Icmp | Self::Any) | (Self::Icmp, Self::Icmp) => {
                true
            }
            (Self::Tcp(ours), Self::Tcp(theirs)) | (Self::Udp(ours), Self::Udp(theirs)) => {
                theirs.is_within(ours)
            }
            (Self::Tcp(_) | Self::Udp(_) | Self::Icmp, _) => false,
        }
    }

    /// Whether some conversation belongs to both.
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) | (Self::Icmp, Self::Icmp) => true,
            (Self::Tcp(ours), Self::Tcp(theirs)) | (Self::Udp(ours), Self::Udp(theirs)) => ours.meets(theirs),
            (Self::Tcp(_) | Self::Udp(_) | Self::Icmp, _) => false,
        }
    }
}

fn is_icmp(protocol: Protocol) -> bool {
    protocol == Protocol::ICMP || protocol == Protocol::ICMPV6
}

fn parse_ports(text: &str) -> Result<PortRange, ServiceError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange::new(parse_port(first)?, parse_port(last)?)
}

fn parse_port(text: &str) -> Result<u16, ServiceError> {
    // `u16::from_str` alone would take "+22" and "0022": one service has one spelling.
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let port = if plain { text.parse().ok() } else { None };
    port.ok_or_else(|| ServiceError::Port(text.to_owned()))
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let Some((protocol, ports)) = text.split_once('/') else {
            return match text {
                "icmp" => Ok(Self::Icmp),
                "any" => Ok(Self::Any),
                _ => Err(ServiceError::Shape(text.to_owned())),
            };
        };
        match protocol {
            "tcp" => Ok(Self::Tcp(parse_ports(ports)?)),
            "udp" => Ok(Self::Udp(parse_ports(ports)?)),
            "icmp" => Err(ServiceError::PortsNotTaken("icmp")),
            "any" => Err(ServiceError::PortsNotTaken("any")),
            _ => Err(ServiceError::Protocol(protocol.to_owned())),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(ports) => write!(f, "tcp/{ports}"),
            Self::Udp(ports) => write!(f, "udp/{ports}"),
            Self::Icmp => f.write_str("icmp"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl TryFrom<String> for Service {
    type Error = ServiceError;

    fn try_from(text: String) -> Result<Self, ServiceError> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(text: &str) -> Service {
        text.parse().unwrap()
    }

    #[test]
    fn each_service_covers_what_it_says() {
        assert!(service("tcp/5432").covers(Protocol::TCP, 5432));
        assert!(!service("tcp/5432").covers(Protocol::TCP, 5433));
        assert!(!service("tcp/5432").covers(Protocol::UDP, 5432));
        assert!(
            service("udp/10-20").covers(Protocol::UDP, 10) && service("udp/10-20").covers(Protocol::UDP, 20)
        );
        assert!(!service("udp/10-20").covers(Protocol::UDP, 21));
        assert!(service("icmp").covers(Protocol::ICMPV6, 7) && service("icmp").covers(Protocol::ICMP, 0));
        assert!(service("any").covers(Protocol::TCP, 1) && service("any").covers(Protocol::ICMP, 0));
        assert!(!service("any").covers(Protocol(47), 0), "any is not GRE");
    }

    #[test]
    fn odd_services_say_why() {
        let error = |text: &str| text.parse::<Service>().unwrap_err().to_string();

        assert!(error("5432").contains("write tcp/5432"));
        assert!(error("sctp/1").contains("\"sctp\" is not a protocol"));
        assert!(error("tcp/").contains("not a port"));
        assert!(error("tcp/0").contains("not a port"));
        assert!(error("tcp/65536").contains("not a port"));
        assert!(error("tcp/+22").contains("not a port"));
        assert!(error("tcp/1-2-3").contains("not a port"));
        assert!(error("tcp/20-10").contains("write 10-20"));
        assert!(error("icmp/8").contains("takes no ports"));
        assert!(error("TCP/22").contains("not a protocol"));
    }

    fn any_service() -> impl Strategy<Value = Service> {
        let range =
            || (1..=40_u16, 1..=40_u16).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
        prop_oneof![
            range().prop_map(Service::Tcp),
            range().prop_map(Service::Udp),
            Just(Service::Icmp),
            Just(Service::Any),
        ]
    }

    proptest! {
        #[test]
        fn a_service_reads_back_as_written(wanted in any_service()) {
            prop_assert_eq!(service(&wanted.to_string()), wanted);
        }

        #[test]
        fn any_text_is_refused_or_read_without_panic(text in ".{0,20}") {
            let _ = text.parse::<Service>();
        }

        #[test]
        fn contains_and_overlaps_agree_with_covers(a in any_service(), b in any_service()) {
            // 60 lies outside every generated range: it stands for the ports that only `any` covers.
            let points = [Protocol::TCP, Protocol::UDP, Protocol::ICMP]
                .into_iter()
                .flat_map(|protocol| (1..=60).map(move |port| (protocol, port)));
            let contained = points.clone().filter(|&(p, n)| b.covers(p, n)).all(|(p, n)| a.covers(p, n));
            let common = points.clone().any(|(p, n)| a.covers(p, n) && b.covers(p, n));

            prop_assert_eq!(a.contains(b), contained);
            prop_assert_eq!(a.overlaps(b), common);
        }
    }
}
