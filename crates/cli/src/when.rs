//! Times and durations as people read them.

use std::time::Duration;

use jiff::Timestamp;
use ringfence_model::UnixMillis;

/// `2026-11-24 22:48:35Z`.
pub(crate) fn at(time: UnixMillis) -> String {
    let ms = i64::try_from(time.0).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "beyond time".to_owned(),
    }
}

/// The same, or `never`.
pub(crate) fn at_or_never(time: Option<UnixMillis>) -> String {
    time.map_or_else(|| "never".to_owned(), at)
}

/// Whole seconds in words: `9m 50s`.
pub(crate) fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// Now, at the one place where this program reads the clock.
pub(crate) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `1.2 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = count;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{whole} B");
    }
    format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(at(UnixMillis(0)), "1970-01-01 00:00:00Z");
        assert_eq!(at_or_never(None), "never");
        assert_eq!(seconds(590), "9m 50s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
