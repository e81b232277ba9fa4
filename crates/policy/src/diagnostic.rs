//! What is wrong with a policy file, and where: `file:line:column: message`, with a hint.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One finding in a policy file: an error, a failed `[[expect]]` or a warning, by the list it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
    /// Where the span starts, in bytes from the start of the file.
    pub offset: usize,
    /// How long the span is, in bytes.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Every error found in a policy file, in file order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
pub struct PolicyErrors(pub Vec<Diagnostic>);

/// A span of a policy file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
    /// In bytes from the start of the file.
    pub offset: usize,
    /// In bytes.
    pub length: usize,
}

/// Turns byte spans of one text into places.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl Diagnostic {
    pub(crate) fn new(file: &str, place: Place, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            offset: place.offset,
            length: place.length,
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let after_breaks = text
            .bytes()
            .enumerate()
            .filter(|&(_, b)| b == b'\n')
            .map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// The place of a byte span; one beyond the text or inside a character is moved back to the nearest it holds.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let offset = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(offset);
        let index = self.starts.partition_point(|&start| start <= offset) - 1;
        let column = self.text[self.starts[index]..offset].chars().count() + 1;
        Place {
            line: u32::try_from(index + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            offset,
            length: end - offset,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{diagnostic}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let lines = Lines::new("ab\n\u{e4}\u{f6}x\n");

        assert_eq!(
            lines.place(0..1),
            Place {
                line: 1,
                column: 1,
                offset: 0,
                length: 1
            }
        );
        assert_eq!(
            lines.place(7..8),
            Place {
                line: 2,
                column: 3,
                offset: 7,
                length: 1
            }
        );
        assert_eq!(
            lines.place(9..9),
            Place {
                line: 3,
                column: 1,
                offset: 9,
                length: 0
            }
        );
    }

    #[test]
    fn spans_outside_the_text_or_inside_a_character_are_moved_not_a_panic() {
        let lines = Lines::new("\u{e4}");

        assert_eq!(lines.place(1..1).offset, 0);
        assert_eq!(lines.place(50..90).offset, 2);
    }
}
