//! Takes away what labs leave: at their orderly end, when their process dies in any way, and what older ones forgot.
//!
//! **Invariant:** a namespace or folder is only touched if its name holds its owner, and only by that owner's janitor
//! or when that owner is dead.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

/// A process that waits for the end of one lab and then removes its programs, namespaces and folder.
///
/// A process and not a signal handler, because nothing runs in a process that was killed.
pub(crate) struct Janitor {
    child: Child,
}

/// What happens to the lab's folder at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folder {
    Keep,
    Remove,
}

impl Janitor {
    pub(crate) fn start(prefix: &str, folder: &Path) -> Result<Self> {
        // A session of its own keeps the terminal's Ctrl-C away from it.
        let child = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "ringfence-lab-janitor", prefix])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the lab's janitor")?;
        Ok(Self { child })
    }

    /// Cleans up now and returns when it is done.
    pub(crate) fn finish(&mut self, folder: Folder) {
        if let Some(mut stdin) = self.child.stdin.take()
            && folder == Folder::Keep
        {
            let _ = stdin.write_all(b"keep\n");
        }
        let _ = self.child.wait();
    }
}

/// Who owns a lab, as it stands in names: process id and start time, since process ids come again.
pub(crate) fn owner() -> Result<String> {
    let pid = std::process::id();
    let started = start_time(pid).context("cannot read /proc/self/stat")?;
    Ok(format!("{pid}x{started}"))
}

/// Removes what dead owners left, for the case that their janitors were killed too.
pub(crate) fn sweep() {
    let mut dead = Vec::new();
    for folder in [Path::new("/run/netns"), &std::env::temp_dir()] {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(owner) = owner_in(&name)
                && !is_alive(owner)
                && (folder == Path::new("/run/netns") || is_old(&entry.path()))
            {
                dead.push((format!("{PREFIX}{owner}"), entry.path()));
            }
        }
    }
    for (prefix, path) in dead {
        if path.starts_with("/run/netns") {
            let _ = Command::new("sh")
                .args(["-c", SCRIPT, "ringfence-lab-sweep", &prefix, ""])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status();
        } else {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// A folder kept after a failed test is for people to read, so it stays a while.
fn is_old(path: &Path) -> bool {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT_FOLDER_AGE))
}

fn owner_in(name: &str) -> Option<&str> {
    let (owner, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let (pid, started) = owner.split_once('x')?;
    (pid.parse::<u32>().is_ok() && started.parse::<u64>().is_ok()).then_some(owner)
}

fn is_alive(owner: &str) -> bool {
    let Some((pid, started)) = owner.split_once('x') else {
        return true;
    };
    let Ok(pid) = pid.parse() else { return true };
    start_time(pid).is_some_and(|now| now.to_string() == started)
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, spaces too.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// How every namespace and folder of every lab begins.
pub(crate) const PREFIX: &str = "rf-";

const KEPT_FOLDER_AGE: Duration = Duration::from_hours(1);

/// Arguments: the prefix of the namespaces' names, the folder (or nothing). Starts when standard input ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
word=
read -r word
for path in /run/netns/"$1"-*; do
    [ -e "$path" ] || continue
    name=${path##*/}
    ip netns pids "$name" | xargs -r kill -9
    ip netns del "$name"
done
if [ -n "$2" ] && [ "$word" != keep ]; then
    rm -rf -- "$2"
fi
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_an_owner_are_ever_swept() {
        assert_eq!(owner_in("rf-12x345-1-policy-db"), Some("12x345"));
        for name in ["rf-payments-db", "rf-12-1", "rf-ax1-2", "blue", "rf-12x345"] {
            assert_eq!(owner_in(name), None, "{name}");
        }
    }

    #[test]
    fn this_process_is_alive_and_one_with_its_number_from_before_is_not() {
        let own = owner().unwrap();
        let (pid, _) = own.split_once('x').unwrap();

        assert!(is_alive(&own));
        assert!(!is_alive(&format!("{pid}x1")));
    }
}
