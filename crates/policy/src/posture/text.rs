//! `posture.toml` to [`PostureFile`]: every mistake is found in one run, and each says where it is.
//!
//! **Invariant:** the checks that come out depend on the text alone, and are bounded by the constants below.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringfence_model::Name;
use toml::de::{DeTable, DeValue};

use super::makers::read_makers;
use super::{Check, CheckMode, Comparison, FactKind, FactName, NativeFact, PostureFile, Version, Wanted};
use crate::diagnostic::PolicyErrors;
use crate::reader::{Reader, Value, optional, read_each, read_word, shorten};
use crate::text::read_tree;

impl PostureFile {
    /// Reads a posture file. `file` is the name to put in messages.
    ///
    /// # Errors
    /// Every mistake in the text, in file order.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyErrors> {
        let mut reader = Reader::new(file, text);
        let root = read_tree(&mut reader, text, POSTURE_BYTES_MAX);
        let read = root.and_then(|root| {
            let (checks, makers) = (read_checks(&mut reader, &root), read_makers(&mut reader, &root));
            checks.zip(makers)
        });
        reader.finish()?;
        let (checks, tpm_makers) = read.expect("a part that could not be read has left an error");
        Ok(Self { checks, tpm_makers })
    }
}

fn read_checks<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Option<Vec<Check>> {
    reader.known_keys(root, "a posture file", &["check", "tpm"]);
    let mut lines: BTreeMap<Name, u32> = BTreeMap::new();
    let checks = read_each(reader, root, "check", CHECKS_MAX, |reader, value, _| {
        let check = read_check(reader, value)?;
        if let Some(line) = lines.insert(check.name.clone(), check.place.line) {
            let message = format!("there are two checks {}: the first is on line {line}", check.name);
            reader.error(value.span(), message);
        }
        Some(check)
    })?;
    too_many_lookups(reader, &checks);
    Some(checks)
}

/// Nodes look at so many files, processes and scripts, and no more.
fn too_many_lookups(reader: &mut Reader<'_>, checks: &[Check]) {
    let mut named = BTreeSet::new();
    for check in checks {
        for comparison in &check.comparisons {
            if matches!(
                comparison.fact,
                FactName::Process(_) | FactName::File(_) | FactName::Script(_)
            ) && named.insert(&comparison.fact)
                && named.len() == LOOKUPS_MAX + 1
            {
                let span = check.place.offset..check.place.offset + check.place.length;
                let message = format!("the checks name more than {LOOKUPS_MAX} files, processes and scripts");
                reader.error(span, message);
                return;
            }
        }
    }
}

fn read_check<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Check> {
    let fields = reader.fields(value, "[[check]]", &KEYS)?;
    let name = reader
        .required(&fields, "name")
        .and_then(|value| reader.parsed(value, "name", Name::parse));
    let description = optional(&fields, "description", String::new(), |value| {
        reader.text(value, "description", DESCRIPTION_CHARS_MAX)
    });
    let mode = optional(&fields, "mode", CheckMode::default(), |value| {
        let words = [CheckMode::Enforce, CheckMode::Report].map(|mode| (mode.as_str(), mode));
        read_word(reader, value, "mode", &words)
    });
    let max_age = optional(&fields, "max_age", MAX_AGE_DEFAULT, |value| {
        reader.duration(value, "max_age", MAX_AGE_MIN..=MAX_AGE_MAX)
    });
    let mut comparisons = Some(Vec::new());
    let mut asks = false;
    for group in GROUPS {
        if let Some(value) = fields.optional(group) {
            asks = true;
            let read = read_group(reader, group, value);
            comparisons = comparisons.zip(read).map(|(mut all, read)| {
                all.extend(read);
                all
            });
        }
    }
    let misspelt = KEYS.iter().any(|key| fields.is_misspelt(key));
    if !asks && !misspelt || comparisons.as_ref().is_some_and(|all| asks && all.is_empty()) {
        let help = "write what must be true, as in disk.encrypted = true";
        reader.error_with_help(fields.span.clone(), "the check asks for nothing", help);
    }
    if comparisons
        .as_ref()
        .is_some_and(|all| all.len() > COMPARISONS_MAX)
    {
        let message = format!("the check asks for more than {COMPARISONS_MAX} things");
        reader.error(fields.span.clone(), message);
    }
    Some(Check {
        name: name?,
        place: reader.place(fields.span.clone()),
        description: description?,
        mode: mode?,
        max_age: max_age?,
        comparisons: comparisons?,
    })
}

/// `os.version`, `process.auditd`: all that is asked of one group of facts.
fn read_group<'t>(
    reader: &mut Reader<'t>,
    group: &'static str,
    value: &Value<'t>,
) -> Option<Vec<Comparison>> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong_type(value, group, "a table");
        return None;
    };
    let known: Vec<&'static str> = NativeFact::ALL
        .iter()
        .filter_map(|native| native.as_str().split_once('.'))
        .filter_map(|(of, word)| (of == group).then_some(word))
        .collect();
    if !known.is_empty() {
        reader.known_keys(table, group, &known);
    }
    let mut comparisons = Some(Vec::new());
    for (key, value) in table {
        let word = key.get_ref().as_ref();
        if !known.is_empty() && !known.contains(&word) {
            comparisons = None;
            continue;
        }
        let fact = match read_fact_name(group, word) {
            Ok(fact) => fact,
            Err(why) => {
                reader.error(key.span(), why);
                comparisons = None;
                continue;
            }
        };
        let wanted = read_wanted(reader, &fact, value);
        comparisons = comparisons.zip(wanted).map(|(mut all, wanted)| {
            all.push(Comparison { fact, wanted });
            all
        });
    }
    comparisons
}

fn read_fact_name(group: &str, word: &str) -> Result<FactName, String> {
    match group {
        "process" => FactName::process(word).map_err(|error| error.to_string()),
        "file" => FactName::file(word).map_err(|error| error.to_string()),
        "script" | "custom" => Name::parse(word)
            .map(if group == "script" {
                FactName::Script
            } else {
                FactName::Custom
            })
            .map_err(|error| format!("{:?}: {error}", shorten(word))),
        _ => format!("{group}.{word}")
            .parse()
            .map_err(|error: super::FactWordError| error.to_string()),
    }
}

/// What a fact of this name must be.
fn read_wanted<'t>(reader: &mut Reader<'t>, fact: &FactName, value: &Value<'t>) -> Option<Wanted> {
    let key = shorten(&fact.to_string()).to_owned();
    match (fact.kind(), value.get_ref()) {
        (Some(FactKind::Bool) | None, DeValue::Boolean(wanted)) => Some(Wanted::Bool(*wanted)),
        (Some(FactKind::Bool), _) => {
            reader.wrong_type(value, &key, "true or false");
            None
        }
        (Some(FactKind::Text), _) | (None, DeValue::String(_) | DeValue::Array(_)) => {
            read_words(reader, fact, &key, value)
        }
        (Some(FactKind::Version), DeValue::String(_)) => {
            let version = read_version(reader, value, &key);
            version.map(|exact| Wanted::Versions {
                min: Some(exact.clone()),
                max: Some(exact),
            })
        }
        (None, DeValue::Integer(_)) => {
            let number = read_number(reader, value, &key);
            number.map(|exact| Wanted::Numbers {
                min: Some(exact),
                max: Some(exact),
            })
        }
        (Some(FactKind::Time), DeValue::Table(_)) => read_max_age(reader, value),
        (Some(FactKind::Version) | None, DeValue::Table(table)) => {
            if fact.kind().is_none() && table.contains_key("max_age") {
                return read_max_age(reader, value);
            }
            read_range(reader, fact, &key, value)
        }
        (Some(FactKind::Time), _) => {
            let help = "write { max_age = \"30d\" }";
            reader.error_with_help(value.span(), format!("{key} is a moment: say how long ago"), help);
            None
        }
        (Some(FactKind::Version), _) => {
            let help = "write \"12\", { min = \"12\" } or { min = \"12\", max = \"13\" }";
            reader.error_with_help(value.span(), format!("{key} is a version"), help);
            None
        }
        (None, _) => {
            let help = "write true, \"text\", 5, { min = 1, max = 5 } or { max_age = \"1d\" }";
            reader.error_with_help(value.span(), format!("{key} cannot be that"), help);
            None
        }
    }
}

/// One text, or a list of those that will do.
fn read_words<'t>(reader: &mut Reader<'t>, fact: &FactName, key: &str, value: &Value<'t>) -> Option<Wanted> {
    let of_file = matches!(fact, FactName::File(_));
    let read = |reader: &mut Reader<'t>, value: &Value<'t>| {
        let text = reader.text(value, key, WORD_CHARS_MAX)?;
        if of_file && !is_hash(&text) {
            let help = "write \"sha256:\" and 64 of 0-9 and a-f, as sha256sum prints them";
            reader.error_with_help(value.span(), format!("{key}: that is no hash of a file"), help);
            return None;
        }
        Some(text)
    };
    let words = if value.get_ref().is_array() {
        reader.list(value, key, WORDS_MAX, |reader, item| read(reader, item))?
    } else {
        vec![read(reader, value)?]
    };
    if words.is_empty() {
        reader.error(value.span(), format!("{key}: nothing is in an empty list"));
        return None;
    }
    Some(Wanted::OneOf(words))
}

fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_digit))
}

/// `{ min = …, max = … }`: of versions if they are texts, else of numbers.
fn read_range<'t>(reader: &mut Reader<'t>, fact: &FactName, key: &str, value: &Value<'t>) -> Option<Wanted> {
    let keys: &[&'static str] = match fact.kind() {
        None => &["min", "max", "max_age"],
        Some(_) => &["min", "max"],
    };
    let fields = reader.fields(value, "a range", keys)?;
    let (min, max) = (fields.optional("min"), fields.optional("max"));
    let Some(either) = min.or(max) else {
        if !fields.is_misspelt("min") && !fields.is_misspelt("max") && !fields.is_misspelt("max_age") {
            let message = format!("{key}: a range needs min or max");
            reader.error(fields.span.clone(), message);
        }
        return None;
    };
    let of_versions = fact.kind().is_some() || either.get_ref().as_str().is_some();
    let given = [("min", min), ("max", max)];
    let wanted = if of_versions {
        let [min, max] = read_ends(reader, given, read_version)?;
        Wanted::Versions { min, max }
    } else {
        let [min, max] = read_ends(reader, given, read_number)?;
        Wanted::Numbers { min, max }
    };
    if wanted.is_empty_range() {
        reader.error(
            value.span(),
            format!("{key}: min is above max, so nothing passes"),
        );
        return None;
    }
    Some(wanted)
}

/// The two ends of a range, as far as they are given.
fn read_ends<'t, T>(
    reader: &mut Reader<'t>,
    given: [(&'static str, Option<&Value<'t>>); 2],
    read: impl Fn(&mut Reader<'t>, &Value<'t>, &str) -> Option<T>,
) -> Option<[Option<T>; 2]> {
    let mut ends = [None, None];
    for (end, (key, value)) in ends.iter_mut().zip(given) {
        if let Some(value) = value {
            *end = Some(read(reader, value, key)?);
        }
    }
    Some(ends)
}

fn read_version<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<Version> {
    reader.parsed(value, key, |text| {
        Version::parse_exact(text).ok_or_else(|| {
            format!(
                "{:?} is not a version: write numbers, as in \"12.1\"",
                shorten(text)
            )
        })
    })
}

fn read_number<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<i64> {
    let DeValue::Integer(digits) = value.get_ref() else {
        reader.wrong_type(value, key, "a whole number");
        return None;
    };
    let number = i64::from_str_radix(digits.as_str(), digits.radix());
    if number.is_err() {
        reader.error(value.span(), format!("{key}: the number is too large"));
    }
    number.ok()
}

fn read_max_age<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Wanted> {
    let fields = reader.fields(value, "a moment", &["max_age"])?;
    let max_age = reader.required(&fields, "max_age")?;
    reader
        .duration(max_age, "max_age", MAX_AGE_MIN..=SINCE_MAX)
        .map(Wanted::MaxAge)
}

impl Wanted {
    fn is_empty_range(&self) -> bool {
        match self {
            Self::Numbers {
                min: Some(min),
                max: Some(max),
            } => min > max,
            Self::Versions {
                min: Some(min),
                max: Some(max),
            } => min > max,
            Self::Bool(_)
            | Self::OneOf(_)
            | Self::MaxAge(_)
            | Self::Numbers { .. }
            | Self::Versions { .. } => false,
        }
    }
}

/// Groups of facts, in the order they are shown.
const GROUPS: [&str; 13] = [
    "os", "kernel", "boot", "disk", "firewall", "ssh", "time", "tpm", "node", "process", "file", "script",
    "custom",
];
const KEYS: [&str; 17] = [
    "name",
    "description",
    "mode",
    "max_age",
    "os",
    "kernel",
    "boot",
    "disk",
    "firewall",
    "ssh",
    "time",
    "tpm",
    "node",
    "process",
    "file",
    "script",
    "custom",
];

/// The longest posture file.
pub const POSTURE_BYTES_MAX: usize = 128 * 1024;
/// The most `[[check]]` of a mesh.
pub const CHECKS_MAX: usize = 64;
/// The most that one check asks for.
pub const COMPARISONS_MAX: usize = 32;

/// Files, processes and scripts that a node looks at.
const LOOKUPS_MAX: usize = 64;
const WORDS_MAX: usize = 32;
const WORD_CHARS_MAX: usize = 100;
const DESCRIPTION_CHARS_MAX: usize = 300;
const MAX_AGE_DEFAULT: Duration = Duration::from_mins(5);
const MAX_AGE_MIN: Duration = Duration::from_secs(10);
const MAX_AGE_MAX: Duration = Duration::from_hours(24);
const SINCE_MAX: Duration = Duration::from_hours(24 * 365 * 5);
