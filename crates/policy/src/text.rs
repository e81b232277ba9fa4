//! Policy text to [`Policy`]: every mistake is found in one run, and each says where it is.
//!
//! **Invariant:** the policy that comes out depends on the text alone, and is bounded by the constants below.

mod allow;
mod expectation;
mod members;

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence_model::{Name, RuleId};
use toml::de::DeTable;

use self::allow::read_rule;
pub use self::allow::{RULES_MAX, SERVICES_MAX};
pub use self::expectation::EXPECTATIONS_MAX;
use self::expectation::read_expectation;
pub use self::members::GROUPS_MAX;
use self::members::read_members;
use crate::diagnostic::PolicyErrors;
use crate::lint;
use crate::policy::{BreakGlass, Checked, Criticality, Policy};
use crate::reader::{Reader, Value, optional, read_each, read_word, shorten};

impl Policy {
    /// Reads a policy file. `file` is the name to put in messages.
    ///
    /// # Errors
    /// Every mistake in the text, in file order.
    pub fn parse(file: &str, text: &str) -> Result<Checked, PolicyErrors> {
        let mut reader = Reader::new(file, text);
        let root = read_tree(&mut reader, text, TEXT_BYTES_MAX);
        let policy = root.and_then(|root| read_policy(&mut reader, file, &root));
        reader.finish()?;
        let policy = policy.expect("a part that could not be read has left an error");
        let warnings = lint::warnings(&policy);
        Ok(Checked { policy, warnings })
    }
}

/// The tree of a file of at most `bytes_max` bytes.
pub(crate) fn read_tree<'t>(reader: &mut Reader<'t>, text: &'t str, bytes_max: usize) -> Option<DeTable<'t>> {
    if text.len() > bytes_max {
        let message = format!(
            "the file has {} bytes: at most {bytes_max} are allowed",
            text.len()
        );
        reader.error(0..0, message);
        return None;
    }
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
    file.clone_into(&mut policy.file);
    policy.groups = groups.collect::<Option<_>>()?;
    policy.rules = rules?;
    policy.expectations = expectations?;
    Some(policy)
}

/// The perimeter's own facts, in a policy that is empty otherwise.
fn read_perimeter<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Policy> {
    let keys = [
        "name",
        "description",
        "owners",
        "criticality",
        "review",
        "lease",
        "break_glass",
    ];
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
    let break_glass = optional(&fields, "break_glass", BreakGlass::default(), |value| {
        let words = BreakGlass::ALL.map(|each| (each.as_str(), each));
        read_word(reader, value, "break_glass", &words)
    });
    Some(Policy {
        file: String::new(),
        name: name?,
        description: description?,
        owners: owners?,
        criticality: criticality?,
        review: review?,
        lease: lease?,
        break_glass: break_glass?,
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

/// The longest policy file: [`RULES_MAX`] rules of the shortest kind, and with them a request of 1 MiB.
pub const TEXT_BYTES_MAX: usize = 768 * 1024;

const OWNERS_MAX: usize = 32;
const OWNER_CHARS_MAX: usize = 254;
const DESCRIPTION_CHARS_MAX: usize = 1000;

const LEASE_DEFAULT: Duration = Duration::from_mins(10);
const LEASE_MIN: Duration = Duration::from_secs(10);
const LEASE_MAX: Duration = Duration::from_hours(24);
const REVIEW_MIN: Duration = Duration::from_hours(24);
const REVIEW_MAX: Duration = Duration::from_hours(24 * 365 * 10);

/// How the TOML parser words it.
const DUPLICATE_KEY: &str = "duplicate key";
