//! What a `PATCH` asks for (RFC 7644 section 3.5.2), as providers write it: in any case, with and without paths.

use serde_json::{Map, Value};

use super::filter::{Filter, bare};
use super::problem::ScimProblem;

/// One change of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) how: How,
    pub(super) path: Path,
    /// The new value; `Null` is none.
    pub(super) value: Value,
}

/// What is done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It comes in beside what is there.
    Add,
    /// It stands where something else did.
    Replace,
    /// What is there goes.
    Remove,
}

/// Which attribute: `displayName`, `emails[type eq "work"].value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// In small letters, without its schema.
    pub(super) attribute: String,
    /// Which of its values; all if absent.
    pub(super) which: Option<Filter>,
    /// What of them.
    pub(super) part: Option<String>,
}

/// The changes of a `PATCH`, in order.
pub(super) fn changes(body: Map<String, Value>) -> Result<Vec<Change>, ScimProblem> {
    let operations = body
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("operations"));
    let Some((_, Value::Array(operations))) = operations else {
        return Err(ScimProblem::invalid_syntax("a PATCH has Operations, a list"));
    };
    if operations.len() > OPERATIONS_MAX {
        let detail = format!("a PATCH has at most {OPERATIONS_MAX} operations");
        return Err(ScimProblem::invalid_value(detail));
    }
    let mut changes = Vec::new();
    for operation in operations {
        changes.extend(of_operation(operation)?);
    }
    Ok(changes)
}

/// The changes that make a resource what a `POST` or `PUT` says it is.
pub(super) fn whole(body: Map<String, Value>) -> Result<Vec<Change>, ScimProblem> {
    of_object(How::Replace, body)
}

fn of_operation(operation: Value) -> Result<Vec<Change>, ScimProblem> {
    let Value::Object(fields) = operation else {
        return Err(ScimProblem::invalid_syntax("an operation is an object"));
    };
    let (mut how, mut path, mut value) = (None, None, Value::Null);
    for (name, field) in fields {
        match name.to_ascii_lowercase().as_str() {
            "op" => how = field.as_str().map(str::to_ascii_lowercase),
            "path" => path = field.as_str().map(str::to_owned),
            "value" => value = field,
            _ => {}
        }
    }
    let how = match how.as_deref() {
        Some("add") => How::Add,
        Some("replace") => How::Replace,
        Some("remove") => How::Remove,
        Some(_) | None => return Err(ScimProblem::invalid_syntax("op is add, replace or remove")),
    };
    match (path.filter(|path| !path.is_empty()), value) {
        (Some(path), value) => Ok(vec![Change {
            how,
            path: Path::parse(&path)?,
            value,
        }]),
        (None, _) if how == How::Remove => Err(ScimProblem::no_target("to remove takes a path")),
        (None, Value::Object(values)) => of_object(how, values),
        (None, _) => Err(ScimProblem::invalid_value(
            "without a path the value is an object",
        )),
    }
}

fn of_object(how: How, values: Map<String, Value>) -> Result<Vec<Change>, ScimProblem> {
    let changes = values.into_iter().map(|(name, value)| {
        Ok(Change {
            // A value that is null is one that is not there (RFC 7643 section 2.5).
            how: if value.is_null() { How::Remove } else { how },
            path: Path::parse(&name)?,
            value,
        })
    });
    changes.collect()
}

impl Path {
    fn parse(text: &str) -> Result<Self, ScimProblem> {
        let text = text.trim();
        let wrong = || {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            ScimProblem::invalid_path(format!("{shown:?} is no path of an attribute"))
        };
        let Some((attribute, rest)) = text.split_once('[') else {
            let small = bare(text);
            // What is left of a URN is an extension, of which nothing is kept: its dots are no path.
            let (attribute, part) = match small.split_once('.') {
                Some((attribute, part)) if !small.starts_with("urn:") => {
                    (attribute.to_owned(), Some(part.to_owned()))
                }
                Some(_) | None => (small, None),
            };
            return Ok(Self {
                attribute,
                which: None,
                part,
            });
        };
        let (filter, after) = rest.rsplit_once(']').ok_or_else(wrong)?;
        let part = match after.strip_prefix('.') {
            Some(part) => Some(part.to_ascii_lowercase()),
            None if after.is_empty() => None,
            None => return Err(wrong()),
        };
        Ok(Self {
            attribute: bare(attribute),
            which: Some(Filter::parse(filter)?),
            part,
        })
    }
}

impl Change {
    /// The new text of an attribute that may be absent.
    pub(super) fn text(&self) -> Result<Option<String>, ScimProblem> {
        match (self.how, &self.value) {
            (How::Remove, _) | (_, Value::Null) => Ok(None),
            (How::Add | How::Replace, Value::String(text)) => {
                // Providers send empty texts for what they do not know.
                Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            }
            (How::Add | How::Replace, _) => Err(self.wrong("a text")),
        }
    }

    /// The new text of one that must be there.
    pub(super) fn required_text(&self) -> Result<String, ScimProblem> {
        self.text()?.ok_or_else(|| self.wrong("a text, and required"))
    }

    /// The new value of a yes or no, which Entra ID writes as text, in older versions in a list.
    pub(super) fn flag(&self) -> Result<bool, ScimProblem> {
        let mut value = &self.value;
        if let Value::Array(values) = value
            && let [only] = values.as_slice()
        {
            value = only.get("value").unwrap_or(only);
        }
        match (self.how, value) {
            (How::Add | How::Replace, Value::Bool(flag)) => Ok(*flag),
            (How::Add | How::Replace, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            (How::Add | How::Replace, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            (How::Add | How::Replace | How::Remove, _) => Err(self.wrong("true or false")),
        }
    }

    /// The values of a list, or the one that stands for a list of one.
    pub(super) fn values(&self) -> &[Value] {
        match &self.value {
            Value::Array(values) => values,
            Value::Null => &[],
            one => std::slice::from_ref(one),
        }
    }

    pub(super) fn wrong(&self, what: &str) -> ScimProblem {
        ScimProblem::invalid_value(format!("{} is {what}", self.path.attribute))
    }
}

const OPERATIONS_MAX: usize = 1_000;
const SHOWN_CHARS_MAX: usize = 80;
