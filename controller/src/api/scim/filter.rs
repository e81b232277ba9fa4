//! Filters (RFC 7644 section 3.4.2.2), as much of them as identity providers ask by: attributes that equal a value, all
//! of them.

use serde_json::Value;

use super::problem::ScimProblem;

/// What must hold of a resource: each of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter(pub Vec<Term>);

/// An attribute that must equal a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// Which, in small letters and without its schema.
    pub attribute: String,
    /// What it must equal.
    pub value: Value,
}

impl Filter {
    /// Whether each of its terms holds, as `holds` has it.
    pub(super) fn is_met(
        &self,
        holds: impl Fn(&Term) -> Result<bool, ScimProblem>,
    ) -> Result<bool, ScimProblem> {
        for term in &self.0 {
            if !holds(term)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads `userName eq "ada" and active eq true`.
    pub(super) fn parse(text: &str) -> Result<Self, ScimProblem> {
        let mut terms = Vec::new();
        let mut rest = text.trim();
        loop {
            let (term, after) = Term::parse(rest)?;
            terms.push(term);
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(Self(terms));
            }
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if !word.eq_ignore_ascii_case("and") || terms.len() >= TERMS_MAX {
                return Err(unsupported());
            }
            rest = after.trim_start();
        }
    }
}

impl Term {
    fn parse(text: &str) -> Result<(Self, &str), ScimProblem> {
        let (attribute, rest) = text.split_once(char::is_whitespace).ok_or_else(unsupported)?;
        let (operator, rest) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or_else(unsupported)?;
        if !operator.eq_ignore_ascii_case("eq") {
            return Err(unsupported());
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else {
            return Err(unsupported());
        };
        if !(value.is_string() || value.is_boolean()) {
            return Err(unsupported());
        }
        let after = &rest[values.byte_offset()..];
        let term = Self {
            attribute: bare(attribute),
            value,
        };
        Ok((term, after))
    }

    /// Whether it equals a text in which case does not count.
    pub(super) fn is_like(&self, text: &str) -> bool {
        self.value
            .as_str()
            .is_some_and(|value| value.eq_ignore_ascii_case(text))
    }

    /// Whether it equals a text exactly.
    pub(super) fn is_exactly(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }
}

/// An attribute's name in small letters, without the URN of a core schema before it.
pub(super) fn bare(attribute: &str) -> String {
    let small = attribute.to_ascii_lowercase();
    let bare = CORE_SCHEMAS.iter().find_map(|schema| small.strip_prefix(schema));
    bare.map(str::to_owned).unwrap_or(small)
}

pub(super) fn unsupported() -> ScimProblem {
    ScimProblem::invalid_filter("a filter is ATTRIBUTE eq VALUE, several joined by `and`")
}

const TERMS_MAX: usize = 8;
const CORE_SCHEMAS: [&str; 2] = [
    "urn:ietf:params:scim:schemas:core:2.0:user:",
    "urn:ietf:params:scim:schemas:core:2.0:group:",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_as_providers_write_them_are_read() {
        let term = |attribute: &str, value: Value| Term {
            attribute: attribute.to_owned(),
            value,
        };

        for (text, terms) in [
            (
                r#"userName eq "ada@example.com""#,
                vec![term("username", "ada@example.com".into())],
            ),
            (
                r#"urn:ietf:params:scim:schemas:core:2.0:User:userName Eq "a \" and b""#,
                vec![term("username", "a \" and b".into())],
            ),
            (
                r#"id eq "07" and members eq "08""#,
                vec![term("id", "07".into()), term("members", "08".into())],
            ),
            ("primary eq true", vec![term("primary", true.into())]),
        ] {
            assert_eq!(Filter::parse(text).unwrap(), Filter(terms), "{text}");
        }
        for text in [
            "",
            "userName",
            "userName eq",
            "userName eq ada",
            r#"userName co "a""#,
            r#"userName eq "a" or userName eq "b""#,
            r#"userName eq "a" and"#,
            r#"userName eq "a""b""#,
            r#"not (userName eq "a")"#,
            "userName eq {}",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
