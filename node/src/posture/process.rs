//! Which programs run, by the names that the kernel has for their processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::machine::{at, unreadable};

/// The names of all processes at one moment.
pub(super) struct Processes(Result<BTreeSet<Vec<u8>>, String>);

impl Processes {
    pub(super) fn list(root: &Path) -> Self {
        Self(list(root))
    }

    /// Whether one of this name runs. The kernel keeps the first 15 bytes of a name (proc_pid_comm(5)).
    pub(super) fn runs(&self, name: &str) -> Result<bool, String> {
        let names = self.0.as_ref().map_err(Clone::clone)?;
        let kept = &name.as_bytes()[..name.len().min(NAME_BYTES_KEPT)];
        Ok(names.contains(kept))
    }
}

fn list(root: &Path) -> Result<BTreeSet<Vec<u8>>, String> {
    let folder = at(root, "/proc");
    let entries = fs::read_dir(&folder).map_err(|error| unreadable("/proc", &error))?;
    let mut names = BTreeSet::new();
    let mut sees_the_first = false;
    for entry in entries.flatten() {
        let id = entry.file_name();
        let Some(id) = id.to_str().filter(|id| id.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        sees_the_first |= id == "1";
        // One that has ended meanwhile has no file any more.
        if let Ok(stat) = fs::read(entry.path().join("stat"))
            && let Some(name) = running(&stat)
        {
            names.insert(name.to_vec());
        }
    }
    if sees_the_first {
        Ok(names)
    } else {
        Err("/proc hides the processes of others (hidepid)".to_owned())
    }
}

/// The name of a process that is not dead: `12 (name) S …`, where the name may hold anything (proc_pid_stat(5)).
fn running(stat: &[u8]) -> Option<&[u8]> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let state = stat.get(close + 2)?;
    let name = stat.get(open + 1..close)?;
    (!b"ZXx".contains(state)).then_some(name)
}

const NAME_BYTES_KEPT: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(stats: &[(&str, &str)]) -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        for (id, stat) in stats {
            let folder = machine.path().join("proc").join(id);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("stat"), stat).unwrap();
        }
        machine
    }

    #[test]
    fn what_runs_is_known_by_name_and_what_has_died_is_not() {
        let machine = machine(&[
            ("1", "1 (systemd) S 0"),
            ("7", "7 (auditd) S 1"),
            ("8", "8 (odd) (x) R 1"),
            ("9", "9 (falcon-sensor) Z 1"),
            ("10", "10 (systemd-journal) S 1"),
            ("self", "11 (not-a-number) S 1"),
        ]);

        let processes = Processes::list(machine.path());

        let runs = |name| processes.runs(name).unwrap();
        assert!(runs("auditd") && runs("odd) (x") && runs("systemd-journald"));
        assert!(!runs("falcon-sensor") && !runs("audit") && !runs("not-a-number"));
    }

    #[test]
    fn where_others_are_hidden_nothing_is_claimed() {
        let machine = machine(&[("7", "7 (auditd) S 1")]);

        assert!(Processes::list(machine.path()).runs("auditd").is_err());
    }

    #[test]
    fn this_very_process_is_found() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();

        assert_eq!(Processes::list(Path::new("/")).runs(comm.trim_end()), Ok(true));
    }
}
