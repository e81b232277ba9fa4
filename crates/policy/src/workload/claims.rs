//! What is asked of one claim of a token.

use std::fmt;

use serde_json::Value;

use super::Claims;
use crate::reader::shorten;

/// Where a claim is: the names of the objects it is in, and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimPath(Vec<String>);

/// What one claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which claim.
    pub claim: ClaimPath,
    /// What it must be. Of a claim that is a list, one of its entries.
    pub wanted: ClaimWanted,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimWanted {
    /// A text that one of these matches.
    Text(Vec<Pattern>),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Number(i64),
}

/// A text in which `*` stands for any characters but `:` and `/`, which part subjects, and `**` for any at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// This character.
    Just(char),
    /// Any characters of one part.
    Part,
    /// Any characters.
    Rest,
}

impl ClaimPath {
    /// A path of at least one name.
    pub(super) fn new(names: Vec<String>) -> Option<Self> {
        (!names.is_empty() && names.len() <= DEPTH_MAX).then_some(Self(names))
    }

    /// Reads one as TOML writes a key: `sub`, `"kubernetes.io".pod.name`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
                quoted.split_once('"')?
            } else {
                rest.split_at(rest.find(|c| !is_bare(c)).unwrap_or(rest.len()))
            };
            if name.is_empty() {
                return None;
            }
            names.push(name.to_owned());
            if after.is_empty() {
                return Self::new(names);
            }
            rest = after.strip_prefix('.')?;
        }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// The claim, if there is one.
    pub(super) fn find<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        let (first, below) = self.0.split_first()?;
        below
            .iter()
            .try_fold(claims.get(first)?, |value, name| value.get(name))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            if name.chars().all(is_bare) {
                write!(f, "{dot}{name}")?;
            } else {
                write!(f, "{dot}{:?}", shorten(name))?;
            }
        }
        Ok(())
    }
}

impl Condition {
    /// Whether the claim is as wanted. One that is absent is not.
    pub fn holds(&self, claims: &Claims) -> bool {
        match self.claim.find(claims) {
            Some(Value::Array(entries)) => entries.iter().any(|entry| self.wanted.is(entry)),
            Some(value) => self.wanted.is(value),
            None => false,
        }
    }
}

impl ClaimWanted {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(patterns), Value::String(text)) => {
                patterns.iter().any(|pattern| pattern.matches(text))
            }
            (Self::Bool(wanted), Value::Bool(is)) => wanted == is,
            (Self::Number(wanted), Value::Number(is)) => is.as_i64() == Some(*wanted),
            (Self::Text(_) | Self::Bool(_) | Self::Number(_), _) => false,
        }
    }
}

impl fmt::Display for ClaimWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(patterns) => {
                for (index, pattern) in patterns.iter().enumerate() {
                    let or = if index == 0 { "" } else { " or " };
                    write!(f, "{or}{:?}", pattern.text)?;
                }
                Ok(())
            }
            Self::Bool(wanted) => write!(f, "{wanted}"),
            Self::Number(wanted) => write!(f, "{wanted}"),
        }
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("an empty text matches nobody");
        }
        if text.contains("***") {
            return Err(
                "three stars in a row mean nothing: * is any characters of one part, ** is any at all",
            );
        }
        let mut pieces = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '*' if characters.next_if_eq(&'*').is_some() => Piece::Rest,
                '*' => Piece::Part,
                just => Piece::Just(just),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// The text with nothing in place of its stars.
    pub(super) fn literal(&self) -> String {
        self.text.replace('*', "")
    }

    /// Whether it matches all of `text`. Each of its pieces is at one place or not: so much work for each character, and
    /// no more, whatever the stars are.
    fn matches(&self, text: &str) -> bool {
        if text.len() > MATCHED_BYTES_MAX {
            return false;
        }
        let mut reached = vec![false; self.pieces.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for character in text.chars() {
            let mut next = vec![false; reached.len()];
            for (at, piece) in self.pieces.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match piece {
                    Piece::Just(just) if *just == character => next[at + 1] = true,
                    Piece::Part if !matches!(character, ':' | '/') => next[at] = true,
                    Piece::Rest => next[at] = true,
                    Piece::Just(_) | Piece::Part => {}
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached[self.pieces.len()]
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, piece) in self.pieces.iter().enumerate() {
            if reached[at] && matches!(piece, Piece::Part | Piece::Rest) {
                reached[at + 1] = true;
            }
        }
    }
}

/// A claim for people and for the log: bounded, and no character in it steers a terminal.
pub(super) fn shown(value: &Value) -> String {
    let written = match value {
        Value::String(text) => text[..text.floor_char_boundary(SHOWN_BYTES_MAX)].to_owned(),
        other => other.to_string(),
    };
    let mut text = String::new();
    for character in written.chars() {
        match character {
            '"' | '\'' | '\\' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
    text
}

/// A character that a TOML key may hold without quotes.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Objects that a claim may be in, and itself.
pub(super) const DEPTH_MAX: usize = 8;
/// A longer claim matches nothing.
const MATCHED_BYTES_MAX: usize = 1024;
const SHOWN_BYTES_MAX: usize = 512;
