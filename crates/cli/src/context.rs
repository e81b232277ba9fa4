//! Where the controller is and how to prove who asks: the context file that `ringfence-controller init` writes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// A context file.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// `host:port` of the REST API.
    pub server: String,
    /// The mesh's CA: the only one the controller's certificate may come from.
    pub ca_pem: String,
    /// The API token. A secret.
    pub token: Zeroizing<String>,
}

impl Context {
    /// Reads `given`, or `~/.config/ringfence/context.toml`.
    ///
    /// # Errors
    /// If it is missing, malformed, or readable by others.
    pub(crate) fn load(given: Option<&Path>) -> Result<Self, Failure> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let shown = path.display();
        let text =
            match std::fs::read_to_string(&path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) => {
                    return Err(Failure::failed(format_args!("cannot read the context {shown}: {error}")).help(
                    "ringfence-controller init writes one as DIR/admin.toml: name it with --context or \
                     RINGFENCE_CONTEXT, or copy it to ~/.config/ringfence/context.toml",
                ));
                }
            };
        refuse_if_shared(&path)?;
        Self::parse(&text).map_err(|why| Failure::failed(format_args!("{shown}: {why}")))
    }

    /// Whether somebody put one where it is looked for, or said where one is.
    pub(crate) fn is_there(given: Option<&Path>) -> bool {
        given.is_some() || default_path().is_ok_and(|path| path.exists())
    }

    /// The same as a file's text; wiped on drop.
    ///
    /// # Errors
    /// If it cannot be written as TOML.
    pub(crate) fn to_text(&self) -> Result<Zeroizing<String>, toml::ser::Error> {
        toml::to_string(self).map(Zeroizing::new)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The error's own rendering quotes the line, which may hold the token: only its message goes out.
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| {
                1 + text.bytes().take(span.start).filter(|&b| b == b'\n').count()
            });
            format!("line {line}: {}", error.message())
        })
    }
}

fn default_path() -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    match base {
        Some(base) => Ok(base.join("ringfence/context.toml")),
        None => Err(Failure::new(
            Exit::Usage,
            "no context: neither --context, RINGFENCE_CONTEXT nor HOME is set",
        )),
    }
}

/// The file holds the token: as `ssh` does with keys, one that others can read is refused.
fn refuse_if_shared(path: &Path) -> Result<(), Failure> {
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(Failure::failed(format_args!(
        "the context {shown} holds a token and can be read by others (mode {mode:04o})"
    ))
    .help(format_args!("run `chmod 600 {shown}`")))
}

/// What anybody but the owner may do.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_context_is_refused_without_showing_the_token() {
        let error = Context::parse("server = \"a:1\"\nca_pem = \"x\"\ntoken = \"rfa_secret\" oops\n")
            .err()
            .unwrap();

        assert!(error.starts_with("line 3"), "{error}");
        assert!(!error.contains("rfa_secret"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = Context::parse("server = \"a:1\"\nca_pem = \"x\"\ntoken = \"t\"\nsevrer = \"b\"\n")
            .err()
            .unwrap();

        assert!(error.contains("sevrer"), "{error}");
    }
}
