//! `[[allow]]`: the rules of a policy, with what they require.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ringfence_model::{Name, RuleId, UnixMillis};
use toml::de::DeValue;

use super::members::{Groups, read_group_name};
use crate::diagnostic::Place;
use crate::hours::{Hours, HoursError};
use crate::policy::AllowRule;
use crate::reader::{Reader, Value, nearest, optional, shorten};
use crate::require::Requirement;
use crate::service::{Service, ServiceError};

pub(super) fn read_rule<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    id: RuleId,
    groups: &Groups,
) -> Option<AllowRule> {
    let keys = ["from", "to", "ports", "reason", "require", "expires"];
    let fields = reader.fields(value, "[[allow]]", &keys)?;
    let from = reader
        .required(&fields, "from")
        .and_then(|value| read_group_name(reader, value, "from", groups));
    let to = reader
        .required(&fields, "to")
        .and_then(|value| read_group_name(reader, value, "to", groups));
    let services = reader
        .required(&fields, "ports")
        .and_then(|value| read_services(reader, value));
    let reason = optional(&fields, "reason", None, |value| {
        reader.text(value, "reason", REASON_CHARS_MAX).map(Some)
    });
    let require = optional(&fields, "require", None, |value| {
        read_requirement(reader, value).map(Some)
    });
    let expires = optional(&fields, "expires", None, |value| {
        read_time(reader, value, "expires").map(Some)
    });
    let (require, checks_at) = require?.unzip();
    Some(AllowRule {
        id,
        place: reader.place(fields.span.clone()),
        from: from?,
        to: to?,
        services: services?,
        reason: reason?,
        require,
        checks_at: checks_at.unwrap_or_default(),
        expires: expires?,
    })
}

fn read_services<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Vec<Service>> {
    let services = reader.list(value, "ports", SERVICES_MAX, |reader, item| {
        read_service(reader, item, "ports")
    })?;
    if services.is_empty() {
        reader.error(
            value.span(),
            "ports is empty: a rule that opens nothing is a mistake",
        );
        return None;
    }
    Some(services)
}

pub(super) fn read_service<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<Service> {
    let text = reader.string(value, key)?;
    let error = match text.parse() {
        Ok(service) => return Some(service),
        Err(error) => error,
    };
    let guess = match &error {
        ServiceError::Shape(_) if text.parse::<u16>().is_ok_and(|port| port > 0) => {
            Some(format!("tcp/{text}"))
        }
        ServiceError::Shape(_) => nearest(text, ["icmp", "any"].into_iter()).map(str::to_owned),
        // `5432/tcp` and `TCP/5432` are what other tools write.
        ServiceError::Protocol(_) => {
            let lower = text.to_ascii_lowercase();
            let turned = lower
                .split_once('/')
                .map(|(ports, protocol)| format!("{protocol}/{ports}"));
            [Some(lower), turned]
                .into_iter()
                .flatten()
                .find(|guess| guess.parse::<Service>().is_ok())
        }
        ServiceError::PortsNotTaken(_) | ServiceError::Port(_) | ServiceError::Backwards(..) => None,
    };
    match guess {
        Some(guess) => reader.error_with_help(
            value.span(),
            format!("{key}: {error}"),
            format!("did you mean {guess}?"),
        ),
        None => reader.error(value.span(), format!("{key}: {error}")),
    }
    None
}

/// What is required, and where each check of it is named.
fn read_requirement<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<(Requirement, Vec<Place>)> {
    let fields = reader.fields(value, "require", &["mfa", "posture", "hours", "source"])?;
    let mfa = optional(&fields, "mfa", None, |value| {
        reader.duration(value, "mfa", MFA_MIN..=MFA_MAX).map(Some)
    });
    let posture = optional(&fields, "posture", Vec::new(), |value| {
        reader.list(value, "posture", POSTURES_MAX, |reader, item| {
            let check = reader.parsed(item, "posture", Name::parse)?;
            Some((check, reader.place(item.span())))
        })
    });
    let hours = optional(&fields, "hours", None, |value| {
        read_hours(reader, value).map(Some)
    });
    let source = optional(&fields, "source", Vec::new(), |value| {
        reader.list(value, "source", SOURCES_MAX, |reader, item| {
            reader.parsed(item, "source", parse_prefix)
        })
    });
    let (posture, checks_at) = posture?.into_iter().unzip();
    let requirement = Requirement {
        mfa: mfa?,
        posture,
        hours: hours?,
        source: source?,
    };
    if requirement == Requirement::default() {
        reader.error_with_help(
            fields.span,
            "require asks for nothing",
            "give it mfa, posture, hours or source, or delete it",
        );
        return None;
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = requirement.posture.iter().find(|posture| !seen.insert(*posture)) {
        reader.error(fields.span, format!("posture {twice} is given twice"));
        return None;
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = requirement.source.iter().find(|prefix| !seen.insert(*prefix)) {
        reader.error(fields.span, format!("source {twice} is given twice"));
        return None;
    }
    Some((requirement, checks_at))
}

/// A prefix of addresses, or one address. It must be written as it is meant: what has more digits than its prefix asks
/// about is likely a slip, and IPv4 in the clothes of IPv6 is asked about as IPv4.
fn parse_prefix(text: &str) -> Result<IpNetwork, String> {
    let shown = shorten(text);
    let Ok(prefix) = text.parse::<IpNetwork>() else {
        return Err(format!(
            "{shown:?} is no prefix: write 10.1.0.0/16 or 2001:db8::/32"
        ));
    };
    if prefix.ip() != prefix.network() {
        let (network, length) = (prefix.network(), prefix.prefix());
        return Err(format!(
            "{shown:?} has digits after its prefix: write {network}/{length}"
        ));
    }
    if prefix.ip().to_canonical() != prefix.ip() {
        return Err(format!(
            "{shown:?} is IPv4 written as IPv6: write the IPv4 prefix"
        ));
    }
    Ok(prefix)
}

fn read_hours<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Hours> {
    let text = reader.string(value, "hours")?;
    match text.parse() {
        Ok(hours) => return Some(hours),
        Err(error @ HoursError::Zone { nearest: Some(_), .. }) => {
            let HoursError::Zone {
                nearest: Some(nearest),
                ..
            } = &error
            else {
                return None;
            };
            reader.error_with_help(
                value.span(),
                format!("hours: {error}"),
                format!("did you mean {nearest}?"),
            );
        }
        Err(error) => reader.error(value.span(), format!("hours: {error}")),
    }
    None
}

fn read_time(reader: &mut Reader<'_>, value: &Value<'_>, key: &str) -> Option<UnixMillis> {
    let example = "write it as 2027-01-01T00:00:00Z, without quotes";
    let DeValue::Datetime(time) = value.get_ref() else {
        reader.error_with_help(value.span(), format!("{key} must be a time"), example);
        return None;
    };
    if time.date.is_none() || time.time.is_none() || time.offset.is_none() {
        let message = format!("{key} must be a date, a time and a zone: {time} is not one moment everywhere");
        reader.error_with_help(value.span(), message, example);
        return None;
    }
    let Ok(moment) = time.to_string().parse::<jiff::Timestamp>() else {
        reader.error_with_help(value.span(), format!("{key}: {time} is no time"), example);
        return None;
    };
    // What lies before 1970 has expired all the same.
    Some(UnixMillis(u64::try_from(moment.as_millisecond()).unwrap_or(0)))
}

/// The most `[[allow]]` of a policy.
pub const RULES_MAX: usize = 10_000;
/// The most ports of an `[[allow]]`.
pub const SERVICES_MAX: usize = 64;

const POSTURES_MAX: usize = 16;
const SOURCES_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 300;
const MFA_MIN: Duration = Duration::from_mins(1);
const MFA_MAX: Duration = Duration::from_hours(24 * 30);
