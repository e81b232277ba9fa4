//! When updates were last installed, on Debian and what comes of it.
//!
//! Two witnesses, and the later counts: the stamp that apt's daily job leaves when `unattended-upgrade` went well, which
//! it also does when there was nothing to install; and apt's own history, for those who upgrade by hand. The history
//! does not say which updates were for security, so any upgrade counts there. What the stamp's file says in its time is
//! set by its owner, root.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::machine::{at, unreadable};

/// The latest upgrade that the history told of: it is rotated away once a month, and what happened has happened.
#[derive(Default)]
pub(super) struct Updates {
    told: Option<SystemTime>,
}

impl Updates {
    pub(super) fn last(&mut self, root: &Path) -> Result<SystemTime, String> {
        let stamp = fs::metadata(at(root, STAMP)).and_then(|metadata| metadata.modified());
        let history = match fs::read_to_string(at(root, HISTORY)) {
            Ok(text) => last_upgrade(&text, &time_zone(root)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(HISTORY, &error)),
        };
        // A time in the future is a clock that was wrong, and would count for long.
        let now = SystemTime::now();
        let is_past = |at: &SystemTime| *at <= now;
        self.told = history.filter(is_past).or(self.told);
        let latest = stamp.ok().filter(is_past).max(self.told);
        latest.ok_or_else(|| format!("neither {STAMP} nor {HISTORY} knows of an upgrade"))
    }
}

/// When the last run that upgraded anything ended. Entries are in order; times are this host's local ones.
fn last_upgrade(history: &str, zone: &TimeZone) -> Option<SystemTime> {
    let mut last = None;
    let mut upgraded = false;
    for line in history.lines() {
        if line.starts_with("Start-Date:") {
            upgraded = false;
        } else if line.starts_with("Upgrade:") {
            upgraded = true;
        } else if let Some(date) = line.strip_prefix("End-Date:")
            && upgraded
        {
            last = moment(date, zone).or(last);
        }
    }
    last
}

/// `2024-05-01  06:25:05`
fn moment(text: &str, zone: &TimeZone) -> Option<SystemTime> {
    let (date, time) = text.trim().split_once(' ')?;
    let local: DateTime = format!("{date}T{}", time.trim()).parse().ok()?;
    let moment = zone
        .to_ambiguous_zoned_datetime(local)
        .compatible()
        .ok()?
        .timestamp();
    let seconds = u64::try_from(moment.as_second()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The host's, by its file (tzfile(5)); UTC without one, as libc does.
fn time_zone(root: &Path) -> TimeZone {
    let file = fs::read(at(root, LOCAL_TIME)).ok();
    let zone = file.and_then(|bytes| TimeZone::tzif("Local", &bytes).ok());
    zone.unwrap_or(TimeZone::UTC)
}

/// Folders, and not their files: those are replaced.
pub(crate) const FOLDERS: [&str; 4] = [
    "/var/lib/apt/periodic",
    "/var/log/apt",
    "/etc/localtime",
    "/usr/share/zoneinfo",
];
const STAMP: &str = "/var/lib/apt/periodic/upgrade-stamp";
const HISTORY: &str = "/var/log/apt/history.log";
const LOCAL_TIME: &str = "/etc/localtime";

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const ENTRIES: &str = "
Start-Date: 2024-04-30  06:25:01
Commandline: apt upgrade
Upgrade: openssl:amd64 (3.0.11-1~deb12u1, 3.0.11-1~deb12u2)
End-Date: 2024-04-30  06:25:05

Start-Date: 2024-05-02  06:25:01
Install: hello:amd64 (2.10-3)
End-Date: 2024-05-02  06:25:05
";

    fn machine(history: Option<&str>) -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        for folder in ["var/lib/apt/periodic", "var/log/apt"] {
            fs::create_dir_all(machine.path().join(folder)).unwrap();
        }
        if let Some(history) = history {
            fs::write(at(machine.path(), HISTORY), history).unwrap();
        }
        machine
    }

    fn at_second(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn stamp(machine: &tempfile::TempDir, time: SystemTime) {
        let file = File::create(at(machine.path(), STAMP)).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn the_last_upgrade_counts_and_no_mere_installation() {
        let machine = machine(Some(ENTRIES));

        assert_eq!(
            Updates::default().last(machine.path()),
            Ok(at_second(1_714_458_305))
        );
    }

    #[test]
    fn times_are_local_ones() {
        let berlin = TimeZone::fixed(jiff::tz::offset(2));

        assert_eq!(
            last_upgrade(ENTRIES, &berlin),
            Some(at_second(1_714_458_305 - 7200))
        );
    }

    #[test]
    fn the_later_witness_counts_and_none_from_the_future() {
        let machine = machine(Some(ENTRIES));
        let mut updates = Updates::default();

        stamp(&machine, SystemTime::now() + Duration::from_hours(1));
        assert_eq!(updates.last(machine.path()), Ok(at_second(1_714_458_305)));
        stamp(&machine, at_second(1_714_500_000));
        assert_eq!(updates.last(machine.path()), Ok(at_second(1_714_500_000)));
    }

    #[test]
    fn a_history_that_is_rotated_away_is_remembered() {
        let machine = machine(Some(ENTRIES));
        let mut updates = Updates::default();
        let before = updates.last(machine.path()).unwrap();

        fs::write(at(machine.path(), HISTORY), "").unwrap();

        assert_eq!(updates.last(machine.path()), Ok(before));
    }

    #[test]
    fn without_a_witness_nothing_is_claimed() {
        assert!(Updates::default().last(machine(None).path()).is_err());
    }
}
