//! What a node is called by the claims of its token.

use ringfence_model::{NAME_BYTES_MAX, Name};
use serde_json::Value;

use super::{ClaimPath, Claims};

/// A name with claims in braces: `ci-{repository}`, `{"kubernetes.io".pod.name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Vec<Piece>);

/// Why claims give a node no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNodeName {
    /// A claim that it needs is not there, or is no text.
    #[error("its name is made of {0}, which the token does not have as a text")]
    Claim(String),
    /// Nothing is left that may be in a name.
    #[error("its claims make no name: nothing of a-z and 0-9 is in them")]
    Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(ClaimPath),
}

impl NameTemplate {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, braced) = match rest.split_once('{') {
                Some((literal, braced)) => (literal, Some(braced)),
                None => (rest, None),
            };
            let odd = literal
                .chars()
                .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'));
            if let Some(odd) = odd {
                return Err(format!(
                    "{odd:?} is not allowed in a name: use a-z, 0-9, - and claims as {{sub}}"
                ));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.to_owned()));
            }
            let Some(braced) = braced else { break };
            let (path, after) = braced.split_once('}').ok_or("a { is not closed")?;
            let path = ClaimPath::parse(path).ok_or_else(|| {
                format!("{path:?} names no claim: write it as a key, as in {{\"kubernetes.io\".pod.name}}")
            })?;
            pieces.push(Piece::Claim(path));
            rest = after;
        }
        if pieces.is_empty() {
            return Err("a name cannot be empty".to_owned());
        }
        Ok(Self(pieces))
    }

    /// The claims in it.
    pub(super) fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Claim(path) => Some(path),
            Piece::Text(_) => None,
        })
    }

    /// The name that these claims give. What cannot be in a name becomes `-`, and what is too long is cut.
    ///
    /// # Errors
    /// [`NoNodeName`].
    pub fn fill(&self, claims: &Claims) -> Result<Name, NoNodeName> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled += text,
                Piece::Claim(path) => match path.find(claims) {
                    Some(Value::String(text)) => filled += text,
                    Some(Value::Number(number)) => filled += &number.to_string(),
                    Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
                        return Err(NoNodeName::Claim(path.to_string()));
                    }
                },
            }
        }
        let fitting: String = filled
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .skip_while(|c| *c == '-')
            .take(NAME_BYTES_MAX)
            .collect();
        Name::parse(fitting.trim_end_matches('-')).map_err(|_| NoNodeName::Empty)
    }
}
