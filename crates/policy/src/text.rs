//! Policy text to [`Policy`]: every mistake is found in one run, and each says where it is.
//!
//! **Invariant:** the policy that comes out depends on the text alone, and is bounded by the constants below.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence_model::{Name, RuleId, Selector, UnixMillis};
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Place, PolicyErrors};
use crate::lint;
use crate::policy::{
    AllowRule, Checked, Criticality, Endpoint, Expectation, Group, GroupMembers, Policy, UserKey,
    UserSelector, Verdict,
};
use crate::reader::{Fields, Reader, Value, nearest, shorten};
use crate::require::{Hours, HoursError, Requirement};
use crate::service::{Service, ServiceError};

impl Policy {
    /// Reads a policy file. `file` is the name to put in messages.
    ///
    /// # Errors
    /// Every mistake in the text, in file order.
    pub fn parse(file: &str, text: &str) -> Result<Checked, PolicyErrors> {
        let mut reader = Reader::new(file, text);
        if text.len() > TEXT_BYTES_MAX {
            let message = format!(
                "the file has {} bytes: at most {TEXT_BYTES_MAX} are allowed",
                text.len()
            );
            reader.error(0..0, message);
        }
        let policy = if text.len() > TEXT_BYTES_MAX {
            None
        } else {
            read_tree(&mut reader, text).and_then(|root| read_policy(&mut reader, file, &root))
        };
        reader.finish()?;
        let policy = policy.expect("a part that could not be read has left an error");
        let warnings = lint::warnings(&policy);
        Ok(Checked { policy, warnings })
    }
}

fn read_tree<'t>(reader: &mut Reader<'t>, text: &'t str) -> Option<DeTable<'t>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    // Past a real syntax error the tree is guesswork; past a key given twice it is not.
    let mut is_sound = true;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message() == DUPLICATE_KEY {
            let name = text.get(span.clone()).unwrap_or_default();
            reader.error(span, format!("{} is given twice", shorten(name)));
        } else {
            is_sound = false;
            reader.error(span, error.message());
        }
    }
    is_sound.then(|| root.into_inner())
}

fn read_policy<'t>(reader: &mut Reader<'t>, file: &str, root: &DeTable<'t>) -> Option<Policy> {
    reader.known_keys(root, "a policy", &["perimeter", "members", "allow", "expect"]);
    let groups = read_members(reader, root);
    let rules = read_each(reader, root, "allow", RULES_MAX, |reader, value, index| {
        read_rule(reader, value, RuleId(index), &groups)
    });
    let expectations = read_each(reader, root, "expect", EXPECTATIONS_MAX, |reader, value, _| {
        read_expectation(reader, value, &groups)
    });
    let Some(perimeter) = root.get("perimeter") else {
        reader.error_with_help(
            0..0,
            "the file has no [perimeter]",
            "start it with [perimeter] and a name",
        );
        return None;
    };
    let mut policy = read_perimeter(reader, perimeter)?;
    let groups = groups.into_iter().map(|(name, group)| Some((name, group?)));
    policy.file = file.to_owned();
    policy.groups = groups.collect::<Option<_>>()?;
    policy.rules = rules?;
    policy.expectations = expectations?;
    Some(policy)
}

/// The perimeter's own facts, in a policy that is empty otherwise.
fn read_perimeter<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Policy> {
    let keys = ["name", "description", "owners", "criticality", "review", "lease"];
    let fields = reader.fields(value, "[perimeter]", &keys)?;
    let name = reader
        .required(&fields, "name")
        .and_then(|value| reader.parsed(value, "name", Name::parse));
    let description = optional(&fields, "description", String::new(), |value| {
        reader.text(value, "description", DESCRIPTION_CHARS_MAX)
    });
    let owners = optional(&fields, "owners", Vec::new(), |value| {
        reader.list(value, "owners", OWNERS_MAX, |reader, owner| {
            read_owner(reader, owner)
        })
    });
    let criticality = optional(&fields, "criticality", Criticality::default(), |value| {
        read_word(
            reader,
            value,
            "criticality",
            &Criticality::ALL.map(|each| (each.as_str(), each)),
        )
    });
    let review = optional(&fields, "review", None, |value| {
        reader
            .duration(value, "review", REVIEW_MIN..=REVIEW_MAX)
            .map(Some)
    });
    let lease = optional(&fields, "lease", LEASE_DEFAULT, |value| {
        reader.duration(value, "lease", LEASE_MIN..=LEASE_MAX)
    });
    Some(Policy {
        file: String::new(),
        name: name?,
        description: description?,
        owners: owners?,
        criticality: criticality?,
        review: review?,
        lease: lease?,
        groups: BTreeMap::new(),
        rules: Vec::new(),
        expectations: Vec::new(),
    })
}

fn read_owner<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<String> {
    let owner = reader.text(value, "owners", OWNER_CHARS_MAX)?;
    if owner.is_empty() || owner.contains(char::is_whitespace) {
        reader.error(
            value.span(),
            "owners: an owner is one word, as in \"alice@example.com\"",
        );
        return None;
    }
    Some(owner)
}

/// Groups by name. `None` in place of one that is broken, so that rules which name it are not errors as well.
type Groups = BTreeMap<Name, Option<Group>>;

fn read_members<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Groups {
    let mut groups = Groups::new();
    let Some(members) = root.get("members") else {
        return groups;
    };
    let Some(table) = members.get_ref().as_table() else {
        reader.wrong_type(members, "members", "a table");
        return groups;
    };
    if table.len() > GROUPS_MAX {
        let message = format!(
            "there are {} groups: at most {GROUPS_MAX} are allowed",
            table.len()
        );
        reader.error(members.span(), message);
        return groups;
    }
    for (key, value) in table {
        let place = reader.place(key.span());
        let group = read_group(reader, value, place);
        match Name::parse(key.get_ref()) {
            Ok(name) => {
                groups.insert(name, group);
            }
            Err(error) => reader.error(key.span(), format!("group {:?}: {error}", shorten(key.get_ref()))),
        }
    }
    groups
}

fn read_group<'t>(reader: &mut Reader<'t>, value: &Value<'t>, place: Place) -> Option<Group> {
    if let Some(selector) = value.get_ref().as_str() {
        let help = format!("write {{ nodes = \"{}\" }}", shorten(selector));
        reader.error_with_help(value.span(), "a group must be a table, not a string", help);
        return None;
    }
    let fields = reader.fields(value, "a group", &["nodes", "users"])?;
    let members = match (fields.optional("nodes"), fields.optional("users")) {
        (Some(nodes), None) => {
            let selector = reader.parsed(nodes, "nodes", str::parse::<Selector>);
            GroupMembers::Nodes(selector?)
        }
        (None, Some(users)) => GroupMembers::Users(reader.parsed(users, "users", read_users)?),
        (Some(_), Some(users)) => {
            let help = "make two groups and write an [[allow]] for each";
            reader.error_with_help(users.span(), "a group has either nodes or users, not both", help);
            return None;
        }
        (None, None) => {
            let help = "write nodes = \"key=value\" or users = \"group=name\"";
            reader.error_with_help(fields.span, "a group needs nodes or users", help);
            return None;
        }
    };
    Some(Group { members, place })
}

fn read_users(text: &str) -> Result<UserSelector, String> {
    let mut pairs = BTreeMap::new();
    for pair in text.split(',') {
        let shown = shorten(pair.trim());
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{shown:?} selects no users: write group=name or email=address"))?;
        let (key, value) = (key.trim(), value.trim());
        let known = match key {
            "group" => UserKey::Group,
            "email" => UserKey::Email,
            _ => {
                return Err(format!(
                    "{:?} is not known of users: use group or email",
                    shorten(key)
                ));
            }
        };
        let plain = value
            .chars()
            .all(|c| c.is_alphanumeric() || "._/@:+ -".contains(c));
        if value.is_empty() || value.len() > USER_VALUE_BYTES_MAX || !plain {
            return Err(format!("{:?} cannot be the value of {key}", shorten(value)));
        }
        if pairs.insert(known, value.to_owned()).is_some() {
            return Err(format!("{key} is given twice"));
        }
    }
    Ok(UserSelector(pairs))
}

/// Reads each `[[key]]`; `index` counts from 1.
fn read_each<'t, T>(
    reader: &mut Reader<'t>,
    root: &DeTable<'t>,
    key: &str,
    max: usize,
    mut read: impl FnMut(&mut Reader<'t>, &Value<'t>, u32) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(value) = root.get(key) else {
        return Some(Vec::new());
    };
    if value.get_ref().is_table() {
        let help = format!("write [[{key}]], with two brackets");
        reader.error_with_help(
            value.span(),
            format!("{key} is a list of tables, not a table"),
            help,
        );
        return None;
    }
    let mut index = 0;
    reader.list(value, key, max, |reader, item| {
        index += 1;
        read(reader, item, index)
    })
}

fn read_rule<'t>(
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
    Some(AllowRule {
        id,
        place: reader.place(fields.span.clone()),
        from: from?,
        to: to?,
        services: services?,
        reason: reason?,
        require: require?,
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

fn read_service<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<Service> {
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

fn read_requirement<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Requirement> {
    let fields = reader.fields(value, "require", &["mfa", "posture", "hours"])?;
    let mfa = optional(&fields, "mfa", None, |value| {
        reader.duration(value, "mfa", MFA_MIN..=MFA_MAX).map(Some)
    });
    let posture = optional(&fields, "posture", Vec::new(), |value| {
        reader.list(value, "posture", POSTURES_MAX, |reader, item| {
            reader.parsed(item, "posture", Name::parse)
        })
    });
    let hours = optional(&fields, "hours", None, |value| {
        read_hours(reader, value).map(Some)
    });
    let requirement = Requirement {
        mfa: mfa?,
        posture: posture?,
        hours: hours?,
    };
    if requirement == Requirement::default() {
        reader.error_with_help(
            fields.span,
            "require asks for nothing",
            "give it mfa, posture or hours, or delete it",
        );
        return None;
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = requirement.posture.iter().find(|posture| !seen.insert(*posture)) {
        reader.error(fields.span, format!("posture {twice} is given twice"));
        return None;
    }
    Some(requirement)
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
    match time.to_string().parse::<jiff::Timestamp>() {
        // What lies before 1970 has expired all the same.
        Ok(time) => Some(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0))),
        Err(_) => {
            reader.error_with_help(value.span(), format!("{key}: {time} is no time"), example);
            None
        }
    }
}

fn read_expectation<'t>(reader: &mut Reader<'t>, value: &Value<'t>, groups: &Groups) -> Option<Expectation> {
    let fields = reader.fields(value, "[[expect]]", &["from", "to", "port", "verdict"])?;
    let from = reader
        .required(&fields, "from")
        .and_then(|value| read_endpoint(reader, value, "from", groups));
    let to = reader
        .required(&fields, "to")
        .and_then(|value| read_endpoint(reader, value, "to", groups));
    let service = reader
        .required(&fields, "port")
        .and_then(|value| read_service(reader, value, "port"));
    let words = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
    let verdict = reader
        .required(&fields, "verdict")
        .and_then(|value| read_word(reader, value, "verdict", &words));
    let expectation = Expectation {
        place: reader.place(fields.span.clone()),
        from: from?,
        to: to?,
        service: service?,
        verdict: verdict?,
    };
    if matches!(&expectation.from, Endpoint::Node(_)) && expectation.from == expectation.to {
        reader.error(
            fields.span,
            "from and to are the same node: a perimeter does not stand between it and itself",
        );
        return None;
    }
    Some(expectation)
}

fn read_endpoint<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    key: &str,
    groups: &Groups,
) -> Option<Endpoint> {
    let text = reader.string(value, key)?;
    match text.strip_prefix("node:") {
        Some(_) => {
            let parse = |text: &str| Name::parse(text.trim_start_matches("node:"));
            reader.parsed(value, key, parse).map(Endpoint::Node)
        }
        None => read_group_name(reader, value, key, groups).map(Endpoint::Group),
    }
}

fn read_group_name<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    key: &str,
    groups: &Groups,
) -> Option<Name> {
    if value.get_ref().is_array() {
        let help = "write one [[allow]] for each group";
        reader.error_with_help(value.span(), format!("{key} is one group, not a list"), help);
        return None;
    }
    let text = reader.string(value, key)?;
    if let Some((name, _)) = groups.get_key_value(text) {
        return Some(name.clone());
    }
    let names = || groups.keys().map(Name::as_str);
    let help = match (nearest(text, names()), text.starts_with("node:")) {
        (_, true) => "rules are between groups: give the node a label and make a group of it".to_owned(),
        (Some(nearest), false) => format!("did you mean {nearest}?"),
        (None, false) if groups.is_empty() => "name it under [members]".to_owned(),
        (None, false) => format!("the groups are {}", names().collect::<Vec<_>>().join(", ")),
    };
    reader.error_with_help(
        value.span(),
        format!("{key}: there is no group {:?}", shorten(text)),
        help,
    );
    None
}

fn read_word<'t, T: Copy>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    key: &str,
    words: &[(&str, T)],
) -> Option<T> {
    let text = reader.string(value, key)?;
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*found);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match nearest(text, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("use one of {}", known.join(", ")),
    };
    reader.error_with_help(value.span(), format!("{key} cannot be {:?}", shorten(text)), help);
    None
}

/// `default` if the key is absent, what `read` makes of it otherwise.
fn optional<'r, 't, T>(
    fields: &Fields<'r, 't>,
    key: &str,
    default: T,
    read: impl FnOnce(&'r Value<'t>) -> Option<T>,
) -> Option<T> {
    fields.optional(key).map_or(Some(default), read)
}

/// The longest policy file. A file of every group and rule allowed fits.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// The most groups of a policy.
pub const GROUPS_MAX: usize = 256;
/// The most `[[allow]]` of a policy.
pub const RULES_MAX: usize = 512;
/// The most ports of an `[[allow]]`.
pub const SERVICES_MAX: usize = 64;
/// The most `[[expect]]` of a policy.
pub const EXPECTATIONS_MAX: usize = 512;

const OWNERS_MAX: usize = 32;
const OWNER_CHARS_MAX: usize = 254;
const POSTURES_MAX: usize = 16;
const DESCRIPTION_CHARS_MAX: usize = 1000;
const REASON_CHARS_MAX: usize = 300;
const USER_VALUE_BYTES_MAX: usize = 254;

const LEASE_DEFAULT: Duration = Duration::from_mins(10);
const LEASE_MIN: Duration = Duration::from_secs(10);
const LEASE_MAX: Duration = Duration::from_hours(24);
const REVIEW_MIN: Duration = Duration::from_hours(24);
const REVIEW_MAX: Duration = Duration::from_hours(24 * 365 * 10);
const MFA_MIN: Duration = Duration::from_mins(1);
const MFA_MAX: Duration = Duration::from_hours(24 * 30);

/// How the TOML parser words it.
const DUPLICATE_KEY: &str = "duplicate key";
