//! The arguments of `why`.

use std::str::FromStr;

use clap::Args;
use ringfence_policy::Service;

use super::SocketArg;

/// `ringfence why`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence why db-1:5432\n  ringfence why 100.64.0.7:udp/53\n  ringfence why db-1:icmp --json | jq .posture"
)]
pub(crate) struct WhyArgs {
    /// What is to be reached: a member's name or address, and a TCP port, udp/PORT or icmp
    #[arg(value_name = "TO:PORT")]
    pub target: Target,
    #[command(flatten)]
    pub socket: SocketArg,
}

/// Somebody, and something of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub to: String,
    pub service: Service,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An IPv6 address has colons too, and stands in brackets or before the last of them.
        let (to, port) = text
            .rsplit_once(':')
            .ok_or("write it as NAME:PORT, as in db-1:5432 or db-1:udp/53")?;
        let to = to
            .strip_prefix('[')
            .and_then(|to| to.strip_suffix(']'))
            .unwrap_or(to);
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let service = if is_number {
            format!("tcp/{port}")
        } else {
            port.to_owned()
        };
        if to.is_empty() {
            return Err("before the colon stands whom to reach, as in db-1:5432".to_owned());
        }
        Ok(Self {
            to: to.to_owned(),
            service: service.parse().map_err(|error| format!("{port}: {error}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_somebody_and_a_port() {
        for (text, to, service) in [
            ("db:5432", "db", "tcp/5432"),
            ("node:db:udp/53", "node:db", "udp/53"),
            ("100.64.0.7:icmp", "100.64.0.7", "icmp"),
            ("[fd00::7]:22", "fd00::7", "tcp/22"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.to.as_str(), target.service),
                (to, service.parse().unwrap()),
                "{text}"
            );
        }
        for wrong in ["db", ":22", "db:", "db:http"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
