//! README.md tells no lies: each of its commands is run as it stands there, and its reference names what there is.
//!
//! A fence says where its commands run: `sh HOST`, `sh HOST background`, `sh HOST stopped` (after what runs there in the
//! background was told to stop), or `sh make` for targets of the Makefile.

#![expect(clippy::unwrap_used, reason = "test fixtures fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ringfence_e2e::binary;
use ringfence_lab::{Host, Lab, Reach, Running, wait_until};

#[test]
fn every_command_of_the_readme_works_in_the_order_of_the_page() {
    let fences = fences(&readme());
    let mut stage = Stage::new();

    for fence in fences.iter().filter(|fence| fence.language == "sh") {
        stage.run(fence);
    }

    let example = fences.iter().find(|fence| fence.language == "toml").unwrap();
    stage.dry_run(&example.text);
    stage.assert_the_laptop_reaches_the_database_alone();
}

#[test]
fn the_reference_names_every_command_and_only_options_that_exist() {
    let reference: Vec<String> = fences(&readme())
        .into_iter()
        .filter(|fence| fence.language == "text")
        .flat_map(|fence| fence.text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut named = BTreeSet::new();

    for line in &reference {
        let command = command_of(line);
        let help = help(&command);
        for option in options_of(line) {
            assert!(help.contains(option), "{option} of {line:?} is not in:\n{help}");
        }
        named.insert(command);
    }

    for program in ["ringfence", "ringfence-controller", "ringfence-node"] {
        for leaf in leaves(vec![program.to_owned()]) {
            assert!(
                named.contains(&leaf),
                "{} is not in the reference",
                leaf.join(" ")
            );
        }
    }
}

/// A block of the page between three backticks.
struct Fence {
    language: String,
    place: String,
    manner: String,
    text: String,
    line: usize,
}

/// The machines of the page.
struct Stage {
    hosts: Vec<Host>,
    background: Vec<(String, Running)>,
    /// Lines that begin with `export`, which a person's shell would remember.
    exports: String,
    /// What `perimeter create` printed to be run elsewhere.
    join: Vec<String>,
    folder: PathBuf,
    _lab: Lab,
}

impl Stage {
    fn new() -> Self {
        let lab = Lab::new("readme").unwrap();
        let folder = lab.dir().join("work");
        fs::create_dir_all(folder.join("target")).unwrap();
        let programs = binary("ringfence").unwrap();
        symlink(programs.parent().unwrap(), folder.join("target/release")).unwrap();
        fs::write(
            folder.join("hosts"),
            format!("127.0.0.1 localhost\n{CONTROL} control.example\n"),
        )
        .unwrap();
        let lan = lab.network("lan").unwrap();
        let hosts = [
            ("control", CONTROL),
            ("db-1", "10.77.0.11"),
            ("api-1", "10.77.0.12"),
            ("laptop", "10.77.0.13"),
        ];
        let hosts = hosts.map(|(name, address)| {
            let host = lab.host(name).unwrap();
            host.join(&lan, &[&format!("{address}/24")]).unwrap();
            // Folders that the page writes to are the host's own, and go with it.
            for folder in ["/var/lib", "/usr/local/bin"] {
                host.command("mount")
                    .args(["-t", "tmpfs", "-o", "mode=0755", "lab", folder])
                    .text()
                    .unwrap();
            }
            let names = folder.join("hosts");
            host.command("mount")
                .args(["--bind".as_ref(), names.as_os_str(), "/etc/hosts".as_ref()])
                .text()
                .unwrap();
            host
        });
        Self {
            hosts: hosts.into(),
            background: Vec::new(),
            exports: String::new(),
            join: Vec::new(),
            folder,
            _lab: lab,
        }
    }

    fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap()
    }

    fn run(&mut self, fence: &Fence) {
        match (fence.place.as_str(), fence.manner.as_str()) {
            ("make", "") => assert!(
                fence.text.lines().all(|line| line.starts_with("make ")),
                "{}",
                fence.text
            ),
            ("everywhere", "") => {
                for host in self.hosts.clone() {
                    self.run_on(&host, fence);
                }
            }
            (place, "") => self.run_on(&self.host(place).clone(), fence),
            (place, "background") => self.start(&self.host(place).clone(), fence),
            (place, "stopped") => {
                self.stop(place);
                self.run_on(&self.host(place).clone(), fence);
            }
            (_, manner) => panic!("line {}: {manner:?} says not how to run it", fence.line),
        }
    }

    fn run_on(&mut self, host: &Host, fence: &Fence) {
        let output = self.shell(host, &fence.text).timeout(PATIENCE).run().unwrap();
        assert!(
            output.status.success(),
            "README.md line {} on {}:\n{}\ngave {:?}\n{}",
            fence.line,
            host.name(),
            fence.text,
            output.code(),
            output.all()
        );
        let join = output
            .stdout
            .lines()
            .filter(|line| line.contains("ringfence-node up"));
        self.join.extend(join.map(|line| line.trim().to_owned()));
        for line in fence.text.lines().filter(|line| line.starts_with("export ")) {
            self.exports += &format!("{line}\n");
        }
    }

    fn start(&mut self, host: &Host, fence: &Fence) {
        let mut script = fence.text.trim().to_owned();
        if script.contains("rft_…") {
            script = self.printed(&script);
        }
        if !script.contains('|') {
            // So that the process is the program, not a shell that waits for it.
            script = format!("exec {script}");
        }
        let running = self
            .shell(host, &script)
            .spawn(&format!("line-{}", fence.line))
            .unwrap();
        let question = if host.name() == "control" {
            "ringfence perimeter ls"
        } else {
            "ringfence status"
        };
        let ready = wait_until(PATIENCE, "it to answer", || {
            let answer = self.shell(host, question).run();
            answer.is_ok_and(|answer| answer.status.success() && !answer.stdout.contains("not connected"))
        });
        assert!(
            ready.is_ok(),
            "README.md line {}: {script}\n{}",
            fence.line,
            running.log()
        );
        self.background.push((host.name().to_owned(), running));
    }

    /// The command that was printed, which is what the page says but for its token.
    fn printed(&mut self, shown: &str) -> String {
        let printed = self.join.remove(0);
        let token = printed.split(' ').find(|word| word.starts_with("rft_")).unwrap();
        assert_eq!(printed.replace(token, "rft_…"), shown);
        printed
    }

    fn stop(&mut self, place: &str) {
        let at = self
            .background
            .iter()
            .position(|(name, _)| name == place)
            .unwrap();
        let (_, running) = self.background.remove(at);
        running.terminate();
        let status = running.wait(PATIENCE).unwrap();
        assert!(status.success(), "{status}\n{}", running.log());
    }

    fn shell(&self, host: &Host, script: &str) -> ringfence_lab::Program {
        // Without one the context is not known yet, and the administrator has not been told of it.
        let exports = if self.exports.is_empty() {
            DEFAULT_CONTEXT
        } else {
            &self.exports
        };
        let script = format!("hostname {}\n{exports}\n{script}", host.name());
        host.command("unshare")
            .args(["--uts", "--", "bash", "-euo", "pipefail", "-c", &script])
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
    }

    fn dry_run(&self, policy: &str) {
        let apply = self.shell(self.host("control"), "ringfence perimeter apply --dry-run -f -");

        let output = apply.input(policy).run().unwrap();

        assert!(output.status.success(), "{}", output.all());
    }

    fn assert_the_laptop_reaches_the_database_alone(&self) {
        let status = self
            .shell(self.host("db-1"), "ringfence status --json")
            .text()
            .unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let address = status["segments"][0]["addresses"][0].as_str().unwrap();
        let [open, closed] = [5432, 5433].map(|port| format!("{address}:{port}").parse().unwrap());
        let _servers = [open, closed].map(|at| self.host("db-1").serve(at).unwrap());

        assert_eq!(self.host("laptop").try_tcp(open, PATIENCE), Reach::Open);
        assert_ne!(self.host("laptop").try_tcp(closed, BRIEFLY), Reach::Open);
    }
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    fs::read_to_string(path).unwrap()
}

fn fences(page: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let mut is_open = false;
    for (index, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), is_open) {
            (Some(info), false) => {
                let mut words = info.split(' ').map(str::to_owned);
                let mut word = || words.next().unwrap_or_default();
                fences.push(Fence {
                    language: word(),
                    place: word(),
                    manner: word(),
                    text: String::new(),
                    line: index + 1,
                });
                is_open = true;
            }
            (Some(_), true) => is_open = false,
            (None, true) => fences.last_mut().unwrap().text += &format!("{line}\n"),
            (None, false) => {}
        }
    }
    fences
}

/// The words of a line of the reference that are the command itself: `ringfence node ls`.
fn command_of(line: &str) -> Vec<String> {
    let words = line
        .split(' ')
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    words.map(str::to_owned).collect()
}

fn options_of(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split([' ', '[', ']']);
    words.filter(|word| word.starts_with('-') && *word != "-")
}

fn help(command: &[String]) -> String {
    let output = Command::new(binary(&command[0]).unwrap())
        .args(&command[1..])
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{} --help: {}",
        command.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The commands below this one that have none below them. One that does something by itself counts too.
fn leaves(command: Vec<String>) -> Vec<Vec<String>> {
    let help = help(&command);
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    if names.is_empty() {
        return vec![command];
    }
    let below = names
        .into_iter()
        .map(|name| [command.clone(), vec![name.to_owned()]].concat());
    below.flat_map(leaves).collect()
}

const CONTROL: &str = "10.77.0.1";
const DEFAULT_CONTEXT: &str = "export RINGFENCE_CONTEXT=/var/lib/ringfence-controller/admin.toml";
const PATIENCE: Duration = Duration::from_mins(1);
const BRIEFLY: Duration = Duration::from_millis(500);
