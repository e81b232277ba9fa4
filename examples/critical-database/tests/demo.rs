//! The demo as people run it: it ends by itself, leaves nothing behind however it ends, and can be looked around in.

#![expect(clippy::unwrap_used, reason = "test fixtures fail by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ringfence_lab::{Signal, wait_for};
use rustix::process::{Pid, kill_process_group};

#[test]
fn the_demo_shows_what_it_promises_and_ends_by_itself() {
    let started = Instant::now();
    let mut demo = Demo::start(&[]);

    let said = demo.rest();
    let status = demo.wait();

    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "it took {:?}",
        started.elapsed()
    );
    for promised in [
        "+ payments-db: api > db tcp/5432",
        "5 of 5 connected nodes enforce it",
        "16 of 16 as policy says, by 72 real connections",
        "total 42, asked by 100.",
        "in clear over the LAN: dropped",
        "3 WireGuard initiations to 10.77.0.11:51820 with its own key: 0 answered",
        "counted 3 well-formed handshakes from a key it does not know",
        "- payments-db: dba > db tcp/5432",
        "dba's session ended ",
        "psql: server closed the connection unexpectedly",
        "api's session goes on",
        "db's node holds no key of dba any more",
        "./on db ringfence status",
        "All as promised",
    ] {
        assert!(said.contains(promised), "{promised:?} is not in:\n{said}");
    }
    assert!(!said.contains('✗') && !said.contains('\x1b'), "{said}");
    demo.assert_gone();
}

#[test]
fn ctrl_c_at_any_moment_leaves_nothing_behind() {
    // The first line of an act is printed before its work is done.
    for moment in ["Ringfence:", "1  ", "2  ", "3  ", "5  ", "6  "] {
        let mut demo = Demo::start(&[]);
        demo.read_until(moment);

        demo.interrupt();

        let status = demo.wait();
        assert_eq!(status.code(), Some(130), "interrupted at {moment:?}");
        demo.assert_gone();
    }
}

#[test]
fn a_kept_demo_can_be_looked_around_in_until_ctrl_c() {
    let mut demo = Demo::start(&["--keep"]);
    let said = demo.read_until("All as promised");
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let folder = lines.iter().find_map(|line| line.strip_prefix("cd ")).unwrap();
    let suggestions: Vec<&str> = lines
        .into_iter()
        .filter(|line| line.starts_with("./on "))
        .collect();

    let answers: Vec<_> = suggestions
        .iter()
        .map(|suggestion| shell(folder, suggestion))
        .collect();

    assert!(suggestions.len() > 4, "{said}");
    for (suggestion, (status, text)) in suggestions.iter().zip(&answers) {
        assert!(
            status.success() && !text.is_empty(),
            "{suggestion}: {status}\n{text}"
        );
    }
    demo.interrupt();
    assert_eq!(demo.wait().code(), Some(0), "that is how one leaves");
    demo.assert_gone();
}

#[test]
fn the_incident_takes_one_rule_away_and_changes_nothing_else() {
    let (mut before, after) = (policy("perimeters"), policy("incident"));
    let rules = before["allow"].as_array_mut().unwrap();

    rules.retain(|rule| rule["from"].as_str() != Some("dba"));

    assert_eq!(before, after);
}

/// The demo as a process of its own.
struct Demo {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_critical-database"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Everything up to the first line that starts so, but for spaces and marks.
    fn read_until(&mut self, start: &str) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).unwrap();
            assert!(length > 0, "the demo ended before {start:?}:\n{text}");
            text.push_str(&line);
            if line.trim_start_matches([' ', '✓']).starts_with(start) {
                return text;
            }
        }
    }

    fn rest(&mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    /// As a terminal does it: everything that the demo started gets the signal too.
    fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process_group(pid, Signal::INT).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for(Duration::from_mins(1), "the demo to end", || {
            self.process.try_wait().unwrap()
        })
        .unwrap()
    }

    /// Namespaces, folders and processes that carry the name of this demo's lab.
    fn assert_gone(&self) {
        let name = format!("rf-{}x", self.process.id());
        let named = |folder: &str| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path());
            entries
                .filter(|path| path.to_string_lossy().contains(&name))
                .collect()
        };
        assert_eq!(named("/run/netns"), Vec::<PathBuf>::new());
        assert_eq!(
            named(std::env::temp_dir().to_str().unwrap()),
            Vec::<PathBuf>::new()
        );
        // The killed need a moment to be reaped.
        let living = wait_for(Duration::from_secs(2), "the demo's processes to be gone", || {
            processes(&name).is_empty().then_some(())
        });
        assert!(living.is_ok(), "{:?}", processes(&name));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Command lines that hold `name`: each program of the lab is given a path in its folder, or runs in one.
fn processes(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let of_lab = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        (line.contains(name) || folder.to_string_lossy().contains(name)).then_some(line)
    });
    of_lab.collect()
}

fn shell(folder: &str, command: &str) -> (ExitStatus, String) {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

fn policy(folder: &str) -> toml::Table {
    let path = format!("{}/{folder}/payments-db.toml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap().parse().unwrap()
}
