//! The arguments of `explain`.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use ringfence_control::api::AsIf;
use ringfence_model::{Name, UnixMillis};
use ringfence_policy::Service;

use super::duration;
use crate::when;

/// `ringfence explain`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence explain --from node:web-1 --to node:db-1 --port tcp/5432\n  ringfence explain --from node:laptop --to node:db-1 --port tcp/5432 --as-if group=dba,mfa=0s,posture=healthy-laptop\n  ringfence explain --from node:web-2 --to node:db-1 --port tcp/5432 --as-if label.role=web"
)]
pub(crate) struct ExplainArgs {
    /// Who would open the conversation: node:NAME
    #[arg(long, value_name = "node:A")]
    pub from: String,
    /// Towards whom: node:NAME
    #[arg(long, value_name = "node:B")]
    pub to: String,
    /// What: tcp/5432, udp/53, icmp
    #[arg(long, value_name = "PORT")]
    pub port: Service,
    /// Only in this perimeter
    #[arg(long)]
    pub perimeter: Option<Name>,
    /// As it was then, by the log: 2026-11-30T09:00:00+01:00, or how long ago: 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub at: Option<UnixMillis>,
    /// What would be said if this were known of A: user=ADDRESS, group=NAME, mfa=AGE, posture=CHECK, source=ADDRESS,
    /// label.KEY=VALUE, time=2026-11-30T09:00:00+01:00
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub as_if: Vec<Supposition>,
}

/// One thing that is supposed.
#[derive(Clone, Debug)]
pub(crate) enum Supposition {
    User(String),
    Group(String),
    FactorAge(u64),
    Posture(Name),
    Source(IpAddr),
    Label(String, String),
    Time(UnixMillis),
}

impl FromStr for Supposition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("write it as KEY=VALUE, one of {KEYS}"))?;
        let wrong = |error: &dyn std::fmt::Display| format!("{key}: {error}");
        Ok(match key {
            "user" => Self::User(value.to_owned()),
            "group" => Self::Group(value.to_owned()),
            "mfa" => {
                let age = duration(value)?.as_millis();
                Self::FactorAge(u64::try_from(age).unwrap_or(u64::MAX))
            }
            "posture" => Self::Posture(Name::parse(value).map_err(|error| wrong(&error))?),
            "source" => Self::Source(value.parse().map_err(|error| wrong(&error))?),
            "time" => {
                let time: Timestamp = value.parse().map_err(|error| wrong(&error))?;
                let ms = u64::try_from(time.as_millisecond()).map_err(|_| wrong(&"it is before 1970"))?;
                Self::Time(UnixMillis(ms))
            }
            _ => match key.strip_prefix("label.") {
                Some(label) => Self::Label(label.to_owned(), value.to_owned()),
                None => return Err(format!("{key} is none of {KEYS}")),
            },
        })
    }
}

/// A moment, or how long ago it was.
fn moment(text: &str) -> Result<UnixMillis, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        let ms = u64::try_from(time.as_millisecond()).map_err(|_| "it is before 1970".to_owned())?;
        return Ok(UnixMillis(ms));
    }
    let ago = humantime::parse_duration(text);
    let ago =
        ago.map_err(|_| "write a time as in 2026-11-30T09:00:00+01:00, or how long ago as in 2h".to_owned())?;
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    Ok(UnixMillis(when::now().0.saturating_sub(ago)))
}

/// All of them together; `None` if nothing is supposed.
///
/// # Errors
/// If a label is none.
pub(crate) fn as_if(suppositions: Vec<Supposition>) -> Result<Option<AsIf>, String> {
    if suppositions.is_empty() {
        return Ok(None);
    }
    let mut all = AsIf::default();
    for supposition in suppositions {
        match supposition {
            Supposition::User(address) => all.user = Some(address),
            Supposition::Group(group) => all.groups.push(group),
            Supposition::FactorAge(ms) => all.mfa_ms = Some(ms),
            Supposition::Posture(check) => all.posture.push(check),
            Supposition::Source(source) => all.source = Some(source),
            Supposition::Label(key, value) => {
                let added = all.labels.add(&key, &value);
                added.map_err(|error| format!("label.{key}={value}: {error}"))?;
            }
            Supposition::Time(time) => all.time_ms = Some(time),
        }
    }
    Ok(Some(all))
}

const KEYS: &str = "user, group, mfa, posture, source, label.KEY, time";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Option<AsIf>, String> {
        let suppositions: Result<Vec<Supposition>, String> = texts.iter().map(|text| text.parse()).collect();
        as_if(suppositions?)
    }

    #[test]
    fn suppositions_add_up() {
        assert_eq!(parsed(&[]), Ok(None));

        let all = parsed(&[
            "user=alice@example.com",
            "group=dba",
            "group=ops",
            "mfa=10m",
            "posture=healthy",
            "source=10.1.2.3",
            "label.role=web",
            "time=2026-11-30T09:00:00+01:00",
        ]);

        let all = all.unwrap().unwrap();
        assert_eq!(all.groups, ["dba", "ops"]);
        assert_eq!(
            (all.mfa_ms, all.labels.value("role")),
            (Some(600_000), Some("web"))
        );
        assert_eq!(all.time_ms, Some(UnixMillis(1_796_025_600_000)));
    }

    #[test]
    fn what_is_none_says_what_there_is() {
        for (text, part) in [
            ("dba", "KEY=VALUE"),
            ("role=dba", "none of user, group"),
            ("mfa=long", "write it as in 90s"),
            ("source=office", "source: "),
            ("label.=x", "label.=x: "),
            ("time=noon", "time: "),
        ] {
            let error = parsed(&[text]).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
