//! How the API says no (RFC 9457), and what is said about a policy file.

use ringfence_policy::Diagnostic;
use serde::{Deserialize, Serialize};

/// A refusal, as `application/problem+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Names the kind of problem: `urn:ringfence:problem:stale-base`. Programs match on this.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in words, the same each time.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    #[serde(default)]
    pub detail: String,
    /// The request's id, to find it in log and audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// For a policy that was refused: every error found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Problem {
    /// What every [`Self::kind`] of ours starts with.
    pub const KIND_PREFIX: &str = "urn:ringfence:problem:";

    /// A problem of one of our kinds: `code` is its last part, as in `stale-base`.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{}{code}", Self::KIND_PREFIX),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            request_id: None,
            findings: Vec::new(),
        }
    }

    /// The last part of the kind, `""` if it is none of ours.
    pub fn code(&self) -> &str {
        self.kind.strip_prefix(Self::KIND_PREFIX).unwrap_or("")
    }
}

/// One error or warning about a policy file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// The file, as the request named it.
    pub file: String,
    /// From 1; 0 if it is about the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 if it is about the line as a whole.
    pub column: u32,
    /// Where in the file's bytes it starts.
    #[serde(default)]
    pub offset: usize,
    /// How many bytes it covers.
    #[serde(default)]
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        let Diagnostic {
            file,
            line,
            column,
            offset,
            length,
            message,
            help,
        } = diagnostic.clone();
        Self {
            file,
            line,
            column,
            offset,
            length,
            message,
            help,
        }
    }
}

fn about_blank() -> String {
    "about:blank".to_owned()
}
