//! The log: to standard error, and without secrets at any level.

use std::io;

use ringfence_tame::Line;
use tracing_subscriber::EnvFilter;

use crate::arguments::{LogFormat, LogLevel};

/// Starts the log. `RINGFENCE_LOG` overrides `level`.
///
/// # Errors
/// If `RINGFENCE_LOG` does not parse.
pub fn start(level: LogLevel, format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)?,
        Ok(_) | Err(_) => EnvFilter::try_new(directives(level))?,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| Line(io::stderr()));
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error))
}

/// The level is for our own crates: the libraries below would drown them. boringtun warns of every handshake that a
/// silent peer makes it repeat.
fn directives(level: LogLevel) -> String {
    let level = level.as_str();
    OWN_CRATES
        .iter()
        .fold("warn,boringtun=error".to_owned(), |all, name| {
            format!("{all},{name}={level}")
        })
}

const VARIABLE: &str = "RINGFENCE_LOG";
const OWN_CRATES: [&str; 9] = [
    "ringfence_node",
    "ringfence_confine",
    "ringfence_dataplane",
    "ringfence_control",
    "ringfence_transport",
    "ringfence_wg",
    "ringfence_path",
    "ringfence_policy",
    "ringfence_packet",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_parses() {
        for level in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            assert!(EnvFilter::try_new(directives(level)).is_ok());
        }
    }
}
