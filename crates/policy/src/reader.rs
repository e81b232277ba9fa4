//! Typed access to a TOML tree that goes on after a mistake, so that one run finds them all.
//!
//! **Invariant:** a read that gives `None` has left an error behind.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Lines, Place, PolicyErrors};

pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// Collects errors while the tree is read.
pub(crate) struct Reader<'t> {
    file: &'t str,
    lines: Lines<'t>,
    errors: Vec<Diagnostic>,
    left_out: usize,
}

/// A table whose keys are known to be valid ones.
pub(crate) struct Fields<'r, 't> {
    table: &'r DeTable<'t>,
    pub(crate) span: Range<usize>,
    title: &'static str,
    misspelt: Vec<&'static str>,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            lines: Lines::new(text),
            errors: Vec::new(),
            left_out: 0,
        }
    }

    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        self.lines.place(span)
    }

    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(span, message.into(), None);
    }

    pub(crate) fn error_with_help(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(span, message.into(), Some(help.into()));
    }

    fn push(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        if self.errors.len() == ERRORS_MAX {
            self.left_out += 1;
            return;
        }
        let mut error = Diagnostic::new(self.file, self.place(span), message);
        error.help = help;
        self.errors.push(error);
    }

    /// All errors in file order, if there is one.
    pub(crate) fn finish(mut self) -> Result<(), PolicyErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|error| error.offset);
        if self.left_out > 0
            && let Some(last) = self.errors.last_mut()
        {
            last.help = Some(format!(
                "{} more errors are not shown: mend these first",
                self.left_out
            ));
        }
        Err(PolicyErrors(self.errors))
    }

    /// `value` as a table that holds no key but `keys`.
    pub(crate) fn fields<'r>(
        &mut self,
        value: &'r Value<'t>,
        title: &'static str,
        keys: &[&'static str],
    ) -> Option<Fields<'r, 't>> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, title, "a table");
            return None;
        };
        let misspelt = self.known_keys(table, title, keys);
        let span = value.span();
        Some(Fields {
            table,
            span,
            title,
            misspelt,
        })
    }

    /// Reports keys that are none of `keys`; gives those that seem to be meant by them.
    pub(crate) fn known_keys(
        &mut self,
        table: &DeTable<'_>,
        title: &str,
        keys: &[&'static str],
    ) -> Vec<&'static str> {
        let mut meant = Vec::new();
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if keys.contains(&word) {
                continue;
            }
            let help = match nearest(word, keys.iter().copied()) {
                Some(nearest) => {
                    meant.extend(keys.iter().filter(|key| **key == nearest));
                    format!("did you mean {nearest}?")
                }
                None => format!("{title} takes {}", keys.join(", ")),
            };
            let shown = shorten(word);
            self.error_with_help(key.span(), format!("unknown key {shown:?} in {title}"), help);
        }
        meant
    }

    /// The value of a key that must be there.
    pub(crate) fn required<'r>(&mut self, fields: &Fields<'r, 't>, key: &str) -> Option<&'r Value<'t>> {
        let value = fields.optional(key);
        if value.is_none() && !fields.is_misspelt(key) {
            self.error(fields.span.clone(), format!("{} lacks {key}", fields.title));
        }
        value
    }

    pub(crate) fn string<'r>(&mut self, value: &'r Value<'t>, key: &str) -> Option<&'r str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, key, "a string");
        }
        text
    }

    /// A string that `parse` takes; what it refuses is an error at the string.
    pub(crate) fn parsed<T, E: fmt::Display>(
        &mut self,
        value: &Value<'t>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string(value, key)?;
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.error(value.span(), format!("{key}: {error}"));
                None
            }
        }
    }

    /// Text for people: one line, bounded, without characters that would steer a terminal or hide other text.
    pub(crate) fn text(&mut self, value: &Value<'t>, key: &str, chars_max: usize) -> Option<String> {
        self.parsed(value, key, |text| {
            if text.chars().count() > chars_max {
                return Err(format!("longer than {chars_max} characters"));
            }
            match text
                .chars()
                .find(|&c| c.is_control() || is_bidirectional_control(c))
            {
                Some(odd) => Err(format!("the character {odd:?} is not allowed here")),
                None => Ok(text.to_owned()),
            }
        })
    }

    /// A list of `read` values, at most `max`; each that fails leaves its own error.
    pub(crate) fn list<'r, T>(
        &mut self,
        value: &'r Value<'t>,
        key: &str,
        max: usize,
        mut read: impl FnMut(&mut Self, &'r Value<'t>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list");
            return None;
        };
        if items.len() > max {
            self.error(
                value.span(),
                format!("{key} has {} entries: at most {max} are allowed", items.len()),
            );
            return None;
        }
        let read: Vec<Option<T>> = items.iter().map(|item| read(self, item)).collect();
        read.into_iter().collect()
    }

    pub(crate) fn duration(
        &mut self,
        value: &Value<'t>,
        key: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.parsed(value, key, |text| {
            let example = "write a number and a unit, as in \"30s\", \"10m\", \"2h\" or \"90d\"";
            let duration = humantime::parse_duration(text)
                .map_err(|_| format!("{:?} is not a duration: {example}", shorten(text)))?;
            if bounds.contains(&duration) {
                return Ok(duration);
            }
            let (min, max) = (short_duration(*bounds.start()), short_duration(*bounds.end()));
            Err(format!(
                "{:?} is out of bounds: from {min} to {max} is allowed",
                shorten(text)
            ))
        })
    }

    pub(crate) fn wrong_type(&mut self, value: &Value<'_>, key: &str, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let help = match (wanted, value.get_ref()) {
            ("a list", DeValue::String(text)) => Some(format!("write [\"{}\"]", shorten(text))),
            ("a string", DeValue::Integer(number)) => Some(format!("write \"{}\"", shorten(number.as_str()))),
            _ => None,
        };
        self.push(value.span(), format!("{key} must be {wanted}, not {found}"), help);
    }
}

impl<'r, 't> Fields<'r, 't> {
    pub(crate) fn optional(&self, key: &str) -> Option<&'r Value<'t>> {
        self.table.get(key)
    }

    /// Whether an unknown key, which has left its own error, seems to mean `key`.
    pub(crate) fn is_misspelt(&self, key: &str) -> bool {
        self.misspelt.contains(&key)
    }
}

/// Reads each `[[key]]`; `index` counts from 1.
pub(crate) fn read_each<'t, T>(
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

/// One of a few words.
pub(crate) fn read_word<'t, T: Copy>(
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
pub(crate) fn optional<'r, 't, T>(
    fields: &Fields<'r, 't>,
    key: &str,
    default: T,
    read: impl FnOnce(&'r Value<'t>) -> Option<T>,
) -> Option<T> {
    fields.optional(key).map_or(Some(default), read)
}

/// The candidate that `word` is likely a misspelling of.
pub(crate) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let farthest = word.chars().count().div_ceil(3);
    let distances = candidates.map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let close = distances.filter(|(distance, _)| *distance <= farthest);
    close.min().map(|(_, candidate)| candidate)
}

/// What of a text from the file fits in a message.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORD_BYTES_MAX)]
}

/// A duration as the file would write it: whole days, hours, minutes or seconds.
pub(crate) fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
    match units
        .into_iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit))
    {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// Characters that make text read otherwise than it is stored (CVE-2021-42574).
fn is_bidirectional_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const ERRORS_MAX: usize = 100;
const WORD_BYTES_MAX: usize = 80;
