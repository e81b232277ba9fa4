//! Programs on hosts: what they see, as whom they run, how they end; and what is left when a lab ends.

#![expect(clippy::unwrap_used, reason = "test fixtures fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use ringfence_lab::{Lab, Signal, wait_until};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_program_sees_its_host_s_links_and_folders_only() {
    let lab = Lab::new("view").unwrap();
    let lan = lab.network("lan").unwrap();
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    a.join(&lan, &["10.0.0.1/24"]).unwrap();

    a.command("sh")
        .args(["-c", "echo hello > /run/wireguard/wg0.sock"])
        .text()
        .unwrap();

    assert_eq!(
        a.command("ls").arg("/sys/class/net").text().unwrap(),
        "eth0\nlo\n"
    );
    assert_eq!(b.command("ls").arg("/sys/class/net").text().unwrap(), "lo\n");
    assert_eq!(
        a.command("cat").arg("/run/wireguard/wg0.sock").text().unwrap(),
        "hello\n"
    );
    assert_eq!(b.command("ls").arg("/run/wireguard").text().unwrap(), "");
    assert!(!Path::new("/run/wireguard/wg0.sock").exists());
    assert_eq!(a.command("pwd").text().unwrap().trim(), a.dir().to_str().unwrap());
}

#[test]
fn what_a_person_is_told_to_type_runs_on_the_host() {
    let lab = Lab::new("prefix").unwrap();
    let host = lab.host("a").unwrap();

    let shown = Command::new("sh")
        .args(["-c", &format!("{} ls /sys/class/net", host.shell_prefix())])
        .output();

    assert_eq!(String::from_utf8_lossy(&shown.unwrap().stdout), "lo\n");
}

#[test]
fn a_failed_program_tells_who_where_and_why() {
    let lab = Lab::new("failed").unwrap();
    let host = lab.host("a").unwrap();

    let error = host.command("ls").arg("/nowhere").text().unwrap_err().to_string();

    for part in ["`ls /nowhere` on a", "exit status: 2", "No such file"] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    let error = host
        .command("sleep")
        .arg("60")
        .timeout(Duration::from_millis(50))
        .run()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`sleep 60` on a took longer than 50ms"),
        "{error}"
    );
}

#[test]
fn a_program_reads_its_input_and_its_environment() {
    let lab = Lab::new("input").unwrap();
    let host = lab.host("a").unwrap();
    let long = "x".repeat(1_000_000);

    assert_eq!(host.command("cat").input(&long).text().unwrap(), long);
    assert_eq!(
        host.command("sh")
            .args(["-c", "echo $COLOUR"])
            .env("COLOUR", "blue")
            .text()
            .unwrap(),
        "blue\n"
    );
}

#[test]
fn a_program_without_root_has_the_one_capability_it_is_given() {
    let lab = Lab::new("rights").unwrap();
    let host = lab.host("a").unwrap();
    let add = [
        "-c",
        "id -u; ip link add dummy0 type bridge && cat /proc/self/status",
    ];

    let with = host
        .command("sh")
        .args(add)
        .as_user(4242)
        .ambient("net_admin")
        .text()
        .unwrap();
    let without = host.command("sh").args(add).as_user(4242).run().unwrap();

    assert!(with.starts_with("4242\n"), "{with}");
    let net_admin_alone = format!("CapEff:\t{:016x}", 1 << 12);
    assert!(with.contains(&net_admin_alone), "{with}");
    assert_eq!(without.stdout, "4242\n");
    assert!(without.stderr.contains("not permitted"), "{}", without.stderr);
}

#[test]
fn a_running_program_is_heard_spoken_to_and_stopped() {
    let lab = Lab::new("running").unwrap();
    let host = lab.host("a").unwrap();

    // No shell: it could not trap a signal that was ignored when it started, as it is for a job in the background.
    let script = "import signal, sys, time\n\
        def bye(*_):\n    print('bye', flush=True)\n    sys.exit(7)\n\
        signal.signal(signal.SIGINT, bye)\n\
        print('up', flush=True)\n\
        for line in sys.stdin:\n    print('got', line.strip(), flush=True)\n\
        while True:\n    time.sleep(0.1)\n";
    let program = host
        .command("python3")
        .args(["-c", script])
        .interactive()
        .spawn("talker")
        .unwrap();
    program.wait_for_log("up", SOON).unwrap();
    program.say("this\n").unwrap();
    program.wait_for_log("got this", SOON).unwrap();
    program.hang_up();
    program.interrupt();

    assert_eq!(program.wait(SOON).unwrap().code(), Some(7));
    assert!(program.log().ends_with("bye\n"));
    assert_eq!(program.log_path(), host.dir().join("talker.log"));
    let error = program.wait_for_log("never", SOON).unwrap_err().to_string();
    assert!(error.contains("ended") && error.contains("got this"), "{error}");
}

#[test]
fn a_program_is_killed_when_it_is_dropped() {
    let lab = Lab::new("dropped").unwrap();
    let host = lab.host("a").unwrap();
    let program = host.command("sleep").arg("60").spawn("sleeper").unwrap();
    let pid = program.pid();

    drop(program);

    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let other = host.command("sleep").arg("60").spawn("sleeper").unwrap();
    other.signal(Signal::KILL);
    assert_eq!(other.wait(SOON).unwrap().signal(), Some(9));
}

#[test]
fn nothing_is_left_of_a_lab_that_ended_not_even_its_daemons() {
    let lab = Lab::new("gone").unwrap();
    let host = lab.host("a").unwrap();
    let daemon = host
        .command("sh")
        .args(["-c", "setsid sleep 4321 >/dev/null 2>&1 & echo $!"])
        .text()
        .unwrap();
    let daemon = Path::new("/proc").join(daemon.trim());
    let folder = lab.dir().to_owned();
    assert!(daemon.exists() && !left_of(&folder).is_empty());

    drop((host, lab));

    // Processes that the janitor killed are reaped by init.
    wait_until(SOON, "the daemon to be gone", || !daemon.exists()).unwrap();
    assert!(left_of(&folder).is_empty());
    assert!(!folder.exists());
}

#[test]
fn an_ended_lab_is_gone_though_others_still_hold_it() {
    let lab = Lab::new("ended").unwrap();
    let host = lab.host("a").unwrap();
    let program = host.command("sleep").arg("60").spawn("sleeper").unwrap();
    let folder = lab.dir().to_owned();

    lab.end();

    assert!(left_of(&folder).is_empty() && !folder.exists());
    assert_eq!(program.wait(SOON).unwrap().signal(), Some(9));
    assert!(lab.host("b").is_err() && left_of(&folder).is_empty());
}

#[test]
fn a_lab_of_a_test_that_panics_goes_too_but_its_logs_stay() {
    let panicked = std::thread::spawn(|| {
        let lab = Lab::new("panic").unwrap();
        let host = lab.host("a").unwrap();
        let _program = host.command("sleep").arg("60").spawn("sleeper").unwrap();
        std::panic::panic_any(lab.dir().to_owned());
    });

    let folder = *panicked
        .join()
        .unwrap_err()
        .downcast::<std::path::PathBuf>()
        .unwrap();

    assert!(left_of(&folder).is_empty());
    assert!(folder.join("a/sleeper.log").exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_is_left_of_a_process_that_was_interrupted_or_killed() {
    for signal in ["INT", "KILL"] {
        let victim = Victim::start();
        assert!(victim.program.exists() && !left_of(&victim.folder).is_empty());

        victim.end_by(signal);

        wait_until(SOON, "its lab to be gone", || {
            left_of(&victim.folder).is_empty() && !victim.folder.exists()
        })
        .unwrap();
        wait_until(SOON, "its program to be gone", || !victim.program.exists()).unwrap();
    }
}

#[test]
fn what_is_left_where_the_janitor_was_killed_too_is_swept_by_the_next() {
    let victim = Victim::start();
    kill("KILL", victim.janitor());
    victim.end_by("KILL");
    assert!(!left_of(&victim.folder).is_empty());

    Victim::start().end_by("KILL");

    assert!(left_of(&victim.folder).is_empty());
    fs::remove_dir_all(&victim.folder).unwrap();
}

/// This test program once more, as a process of its own that can be ended in ways that no destructor sees.
struct Victim {
    process: Mutex<Child>,
    folder: PathBuf,
    program: PathBuf,
}

impl Victim {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("VICTIM ").map(|(_, rest)| rest.to_owned()))
            .unwrap();
        let (folder, pid) = line.split_once(' ').unwrap();
        Self {
            process: Mutex::new(process),
            folder: folder.into(),
            program: Path::new("/proc").join(pid),
        }
    }

    fn end_by(&self, signal: &str) {
        let mut process = self.process.lock().unwrap();
        kill(signal, process.id());
        process.wait().unwrap();
    }

    fn janitor(&self) -> u32 {
        let prefix = self.folder.file_name().unwrap().to_str().unwrap();
        let wanted = format!("\0ringfence-lab-janitor\0{prefix}\0");
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .find(|entry| {
                let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&words).contains(&wanted)
            })
            .and_then(|entry| entry.file_name().to_str()?.parse().ok())
            .unwrap()
    }
}

fn kill(signal: &str, pid: u32) {
    Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .unwrap();
}

/// What [`Victim`] runs; by itself it does nothing.
#[test]
#[expect(clippy::print_stdout, reason = "tells the test what to look for")]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let lab = Lab::new("victim").unwrap();
    let host = lab.host("a").unwrap();
    let program = host.command("sleep").arg("60").spawn("sleeper").unwrap();
    println!("\nVICTIM {} {}", lab.dir().display(), program.pid());
    program.wait(Duration::from_mins(1)).unwrap();
}

/// Names of the namespaces of the lab with this folder.
fn left_of(folder: &Path) -> Vec<String> {
    let prefix = format!("{}-", folder.file_name().unwrap().to_str().unwrap());
    let entries = fs::read_dir("/run/netns").unwrap().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

const VICTIM: &str = "RINGFENCE_LAB_VICTIM";
