//! `workload.toml` to [`WorkloadIssuer`]: every mistake is found in one run, and each says where it is.
//!
//! **Invariant:** the issuer that comes out depends on the text alone, is bounded by the constants below, and has no rule
//! that leaves open who is meant.

use std::time::Duration;

use ringfence_model::{Labels, Name};
use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::claims::{DEPTH_MAX, Pattern};
use super::subject::{SUBJECT_CLAIMS, says_who};
use super::{ClaimPath, ClaimWanted, Condition, KeySource, NameTemplate, WorkloadIssuer, WorkloadRule};
use crate::diagnostic::PolicyErrors;
use crate::reader::{Fields, Reader, Value, optional, read_each, shorten};
use crate::text::read_tree;

impl WorkloadIssuer {
    /// Reads the file of an issuer. `file` is the name to put in messages.
    ///
    /// # Errors
    /// Every mistake in the text, in file order.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyErrors> {
        let mut reader = Reader::new(file, text);
        let root = read_tree(&mut reader, text, WORKLOAD_BYTES_MAX);
        let issuer = root.and_then(|root| read_file(&mut reader, &root));
        reader.finish()?;
        Ok(issuer.expect("a part that could not be read has left an error"))
    }
}

fn read_file<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Option<WorkloadIssuer> {
    reader.known_keys(root, "a workload file", &["issuer", "admit"]);
    let mut number = 0;
    let rules = read_each(reader, root, "admit", WORKLOAD_RULES_MAX, |reader, value, _| {
        number += 1;
        read_rule(reader, value, number)
    });
    let Some(issuer) = root.get("issuer") else {
        let help = "begin with [issuer], and in it name, url and audience";
        reader.error_with_help(0..0, "the file has no [issuer]", help);
        return None;
    };
    if rules.as_ref().is_some_and(Vec::is_empty) && !root.contains_key("admit") {
        let help = "write [[admit]] with claims = { sub = \"…\" } and labels = { role = \"…\" }";
        reader.error_with_help(
            issuer.span(),
            "the file lets nobody in: it has no [[admit]]",
            help,
        );
    }
    let fields = reader.fields(issuer, "[issuer]", &ISSUER_KEYS)?;
    let name = reader.required(&fields, "name");
    let name = name.and_then(|value| reader.parsed(value, "name", Name::parse));
    let keys = read_keys(reader, &fields);
    let is_discovered = keys == Some(KeySource::Discovery);
    let url = reader.required(&fields, "url").and_then(|value| {
        reader.parsed(value, "url", |text| match check_plain(text) {
            Ok(()) if is_discovered => check_url(text).map(|()| text.to_owned()),
            checked => checked.map(|()| text.to_owned()),
        })
    });
    let audience = reader.required(&fields, "audience").and_then(|value| {
        reader.parsed(value, "audience", |text| {
            check_plain(text).map(|()| text.to_owned())
        })
    });
    let ca_pem = optional(&fields, "ca", None, |value| read_ca(reader, value).map(Some));
    let allow_private_address = optional(&fields, "private_address", false, |value| {
        let is = value.get_ref().as_bool();
        if is.is_none() {
            reader.wrong_type(value, "private_address", "true or false");
        }
        is
    });
    let max_life = optional(&fields, "max_life", MAX_LIFE_DEFAULT, |value| {
        reader.duration(value, "max_life", MAX_LIFE_MIN..=MAX_LIFE_MAX)
    });
    if let Some(KeySource::Given(_)) = keys {
        for key in ["ca", "private_address"] {
            if let Some(value) = fields.optional(key) {
                let message = format!("{key} is of no use beside jwks: nothing is fetched");
                reader.error(value.span(), message);
            }
        }
    }
    Some(WorkloadIssuer {
        name: name?,
        url: url?,
        audience: audience?,
        keys: keys?,
        ca_pem: ca_pem?,
        allow_private_address: allow_private_address?,
        max_life: max_life?,
        rules: rules?,
    })
}

fn read_keys<'t>(reader: &mut Reader<'t>, fields: &Fields<'_, 't>) -> Option<KeySource> {
    match (fields.optional("jwks_url"), fields.optional("jwks")) {
        (Some(_), Some(given)) => {
            let help = "keep one: jwks for an issuer that cannot be reached";
            reader.error_with_help(given.span(), "the keys come from jwks_url and jwks", help);
            None
        }
        (Some(url), None) => reader.parsed(url, "jwks_url", |text| {
            check_plain(text)?;
            check_url(text)?;
            Ok::<_, &str>(KeySource::Url(text.to_owned()))
        }),
        (None, Some(given)) => reader.parsed(given, "jwks", |text| {
            check_keys(text)?;
            Ok::<_, String>(KeySource::Given(text.to_owned()))
        }),
        (None, None) => Some(KeySource::Discovery),
    }
}

fn check_plain(text: &str) -> Result<(), &'static str> {
    let is_plain = text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if is_plain && (1..=TEXT_BYTES_MAX).contains(&text.len()) {
        return Ok(());
    }
    Err("write 1 to 512 printable characters without spaces")
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("https://").unwrap_or("");
    if rest.is_empty() || rest.starts_with('/') || text.contains(['?', '#', '@', '\\']) {
        return Err("write an https:// URL without query, fragment and user");
    }
    Ok(())
}

/// Whether a text is a JWKS of public keys (RFC 7517).
fn check_keys(text: &str) -> Result<(), String> {
    let set: Json = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    let keys = set.get("keys").and_then(Json::as_array);
    let keys =
        keys.ok_or("a JWKS is written { \"keys\": [ … ] }: `kubectl get --raw /openid/v1/jwks` prints one")?;
    if !(1..=JWKS_KEYS_MAX).contains(&keys.len()) {
        return Err(format!(
            "it has {} keys: 1 to {JWKS_KEYS_MAX} are allowed",
            keys.len()
        ));
    }
    for key in keys {
        let kind = key.get("kty").and_then(Json::as_str).unwrap_or_default();
        if ["d", "p", "q", "k"]
            .iter()
            .any(|secret| key.get(secret).is_some())
        {
            return Err(
                "it holds a private key: give the public ones alone, and replace that one".to_owned(),
            );
        }
        if !["RSA", "EC", "OKP"].contains(&kind) {
            return Err(format!(
                "a key's kty is {:?}: RSA, EC and OKP are known",
                shorten(kind)
            ));
        }
    }
    Ok(())
}

fn read_ca<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<String> {
    reader.parsed(value, "ca", |text| {
        if text.contains("PRIVATE KEY") {
            return Err("this holds a private key: give the certificate alone, and replace the key");
        }
        if !text.contains("-----BEGIN CERTIFICATE-----") {
            return Err("this is no certificate: write the PEM itself between three quotes");
        }
        Ok(text.to_owned())
    })
}

fn read_rule<'t>(reader: &mut Reader<'t>, value: &Value<'t>, number: u32) -> Option<WorkloadRule> {
    let fields = reader.fields(value, "[[admit]]", &RULE_KEYS)?;
    let conditions = reader
        .required(&fields, "claims")
        .and_then(|value| read_conditions(reader, value));
    let labels = reader
        .required(&fields, "labels")
        .and_then(|value| read_labels(reader, value));
    let name = optional(&fields, "name", None, |value| {
        reader.parsed(value, "name", NameTemplate::parse).map(Some)
    });
    Some(WorkloadRule {
        number,
        place: reader.place(fields.span.clone()),
        conditions: conditions?,
        labels: labels?,
        name: name?,
    })
}

fn read_labels<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Labels> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong_type(value, "labels", "a table");
        return None;
    };
    if table.is_empty() {
        let help = "write labels = { role = \"db\" }: a node without labels is in no group";
        reader.error_with_help(value.span(), "labels is empty", help);
        return None;
    }
    let mut labels = Some(Labels::new());
    for (key, value) in table {
        let added = reader.parsed(value, "labels", |text| {
            let mut one = Labels::new();
            one.add(key.get_ref(), text).map(|()| text.to_owned())
        });
        labels = labels
            .zip(added)
            .and_then(|(mut all, text)| match all.add(key.get_ref(), &text) {
                Ok(()) => Some(all),
                Err(error) => {
                    reader.error(key.span(), error.to_string());
                    None
                }
            });
    }
    labels
}

/// What claims must be, written as the token has them: `{ sub = "…", "kubernetes.io" = { namespace = "…" } }`.
fn read_conditions<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    let is_read = read_claims(reader, value, &[], &mut conditions);
    if conditions.len() > CONDITIONS_MAX {
        reader.error(
            value.span(),
            format!("claims asks for more than {CONDITIONS_MAX} things"),
        );
        return None;
    }
    is_read?;
    if !conditions.iter().any(says_who) {
        let known: Vec<String> = SUBJECT_CLAIMS
            .iter()
            .take(SUBJECTS_SHOWN)
            .map(|path| path.join("."))
            .collect();
        let help = format!(
            "ask for sub, or another claim that says it, as {}",
            known.join(", ")
        );
        let message = "this lets in whoever the issuer gives tokens to: no claim says which workload";
        reader.error_with_help(value.span(), message, help);
        return None;
    }
    Some(conditions)
}

fn read_claims<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    above: &[String],
    conditions: &mut Vec<Condition>,
) -> Option<()> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong_type(value, "claims", "a table");
        return None;
    };
    if table.is_empty() {
        reader.error(value.span(), "claims asks for nothing here");
        return None;
    }
    let mut is_read = Some(());
    for (key, value) in table {
        let mut names = above.to_vec();
        names.push(key.get_ref().as_ref().to_owned());
        let is_envelope = above.is_empty() && ENVELOPE.contains(&key.get_ref().as_ref());
        let done = if is_envelope {
            let message = format!("{} is checked for every token: leave it out", key.get_ref());
            reader.error(key.span(), message);
            None
        } else if value.get_ref().is_table() && names.len() < DEPTH_MAX {
            read_claims(reader, value, &names, conditions)
        } else {
            let wanted = read_wanted(reader, value, &names.join("."));
            wanted.zip(ClaimPath::new(names)).map(|(wanted, claim)| {
                conditions.push(Condition { claim, wanted });
            })
        };
        is_read = is_read.and(done);
    }
    is_read
}

fn read_wanted<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<ClaimWanted> {
    match value.get_ref() {
        DeValue::Boolean(wanted) => Some(ClaimWanted::Bool(*wanted)),
        DeValue::Integer(digits) => {
            let number = i64::from_str_radix(digits.as_str(), digits.radix());
            if number.is_err() {
                reader.error(value.span(), format!("{}: the number is too large", shorten(key)));
            }
            number.ok().map(ClaimWanted::Number)
        }
        DeValue::Array(entries) if entries.is_empty() => {
            reader.error(
                value.span(),
                format!("{}: nothing is in an empty list", shorten(key)),
            );
            None
        }
        DeValue::Array(_) => reader
            .list(value, key, WORDS_MAX, |reader, item| {
                read_pattern(reader, item, key)
            })
            .map(ClaimWanted::Text),
        DeValue::String(_) => read_pattern(reader, value, key).map(|only| ClaimWanted::Text(vec![only])),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            reader.wrong_type(
                value,
                shorten(key),
                "a text, a list of texts, a whole number, true or false",
            );
            None
        }
    }
}

fn read_pattern<'t>(reader: &mut Reader<'t>, value: &Value<'t>, key: &str) -> Option<Pattern> {
    let text = reader.text(value, key, WORD_CHARS_MAX)?;
    match Pattern::parse(&text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            reader.error(value.span(), format!("{}: {why}", shorten(key)));
            None
        }
    }
}

const ISSUER_KEYS: [&str; 8] = [
    "name",
    "url",
    "audience",
    "jwks_url",
    "jwks",
    "ca",
    "private_address",
    "max_life",
];
const RULE_KEYS: [&str; 3] = ["claims", "labels", "name"];
/// Claims that every token is checked for, or that say nothing about whose it is (RFC 7519 section 4.1).
const ENVELOPE: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];
const SUBJECTS_SHOWN: usize = 5;

/// The longest file of an issuer.
pub const WORKLOAD_BYTES_MAX: usize = 128 * 1024;
/// The most `[[admit]]` of an issuer.
pub const WORKLOAD_RULES_MAX: usize = 256;

const CONDITIONS_MAX: usize = 32;
const WORDS_MAX: usize = 64;
const WORD_CHARS_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 512;
const JWKS_KEYS_MAX: usize = 64;
const MAX_LIFE_DEFAULT: Duration = Duration::from_hours(24);
const MAX_LIFE_MIN: Duration = Duration::from_mins(1);
/// A token counts once and is remembered until it ends.
const MAX_LIFE_MAX: Duration = Duration::from_hours(31 * 24);
