//! Which scripts count, with keys and signatures as OpenSSH makes them; and how the node asks after them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ringfence_control::{ReportedFact, ReportedValue};
use ringfence_model::Name;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::signed::Places;
use super::{Answers, Question, Scripts, receive};

/// A folder of scripts, and keys beside it.
struct Etc {
    folder: tempfile::TempDir,
    places: Places,
}

impl Etc {
    /// With the script `agent`, signed by the key `alice`, which counts.
    fn with_agent(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scripts = folder.path().join("facts.d");
        fs::create_dir(&scripts).unwrap();
        let places = Places {
            signers: folder.path().join("fact-signers"),
            scripts,
            owner: rustix::process::geteuid().as_raw(),
        };
        let etc = Self { folder, places };
        write(&etc.script(), TEXT);
        etc.key("alice", kind);
        etc.sign("alice", "ringfence-fact");
        write(&etc.places.signers, &etc.public("alice"));
        etc
    }

    fn script(&self) -> PathBuf {
        self.places.scripts.join("agent")
    }

    fn signature(&self) -> PathBuf {
        self.places.scripts.join("agent.sig")
    }

    fn keygen(&self, args: &[&str]) {
        let output = Command::new("ssh-keygen")
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    fn key(&self, name: &str, kind: &str) {
        let bits = if kind == "ecdsa-384" { "384" } else { "256" };
        let kind = kind.split('-').next().unwrap();
        let mut args = vec!["-q", "-N", "", "-C", "facts of the test", "-f", name, "-t", kind];
        if kind == "ecdsa" {
            args.extend(["-b", bits]);
        }
        self.keygen(&args);
    }

    fn public(&self, key: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{key}.pub"))).unwrap()
    }

    fn sign(&self, key: &str, namespace: &str) {
        let _ = fs::remove_file(self.signature());
        let script = self.script().display().to_string();
        self.keygen(&["-q", "-Y", "sign", "-f", key, "-n", namespace, &script]);
        permit(&self.signature(), 0o644);
    }

    /// The fingerprint of the key that signed what is read; or why nothing is.
    fn read(&self) -> Result<String, String> {
        let signed = self.places.read(&Name::parse("agent").unwrap())?;
        assert_eq!(signed.text, TEXT.as_bytes());
        Ok(signed.signer)
    }

    fn refused(&self, why: &str) {
        let told = self.read().unwrap_err();
        assert!(told.contains(why), "{told:?} should say {why:?}");
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    permit(path, 0o644);
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const TEXT: &str = "#!/bin/sh\necho true\n";

#[test]
fn what_a_pinned_key_signed_is_read_and_the_key_is_named() {
    for kind in ["ed25519", "ecdsa", "ecdsa-384"] {
        let etc = Etc::with_agent(kind);
        let fingerprint = Command::new("ssh-keygen")
            .args(["-l", "-f", "alice.pub"])
            .current_dir(etc.folder.path())
            .output()
            .unwrap();
        let line = String::from_utf8(fingerprint.stdout).unwrap();

        let signer = etc.read().unwrap();

        assert_eq!(line.split(' ').nth(1).unwrap(), signer, "{kind}");
        assert!(signer.starts_with("SHA256:") && signer.len() == 50);
    }
}

#[test]
fn a_text_that_was_not_signed_is_not_read() {
    let etc = Etc::with_agent("ed25519");

    write(&etc.script(), &TEXT.replace("true", "\"true\""));
    etc.refused("is not what was signed: sign it again");
    write(&etc.script(), TEXT);
    etc.read().unwrap();
    write(&etc.signature(), "-----BEGIN SSH SIGNATURE-----\n");
    etc.refused("is no signature");
    fs::remove_file(etc.signature()).unwrap();
    etc.refused("agent.sig is not there");
}

#[test]
fn only_keys_that_are_pinned_count_and_only_for_facts() {
    let etc = Etc::with_agent("ed25519");
    etc.key("mallory", "ed25519");

    etc.sign("mallory", "ringfence-fact");
    etc.refused("which is not in");
    write(
        &etc.places.signers,
        &(etc.public("alice") + "# both\n\n" + &etc.public("mallory")),
    );
    etc.read().unwrap();
    etc.sign("alice", "file");
    etc.refused("is for something else: sign with -n ringfence-fact");
}

#[test]
fn without_a_list_of_good_keys_nothing_counts() {
    let etc = Etc::with_agent("ed25519");
    etc.key("old", "rsa");

    write(&etc.places.signers, "# none yet\n");
    etc.refused("names no key");
    write(
        &etc.places.signers,
        &(etc.public("alice") + "ssh-ed25519 nonsense\n"),
    );
    etc.refused("fact-signers:2: that is no public key of OpenSSH");
    write(&etc.places.signers, &(etc.public("old") + &etc.public("alice")));
    etc.refused("fact-signers:1: keys of ssh-rsa do not count");
    write(&etc.places.signers, &format!("restrict {}", etc.public("alice")));
    etc.refused("fact-signers:1:");
    fs::remove_file(&etc.places.signers).unwrap();
    etc.refused("fact-signers is not there");
}

#[test]
fn what_others_can_write_does_not_count() {
    let etc = Etc::with_agent("ed25519");
    let folder = etc.places.scripts.clone();

    for (path, mode) in [
        (etc.script(), 0o644),
        (etc.signature(), 0o644),
        (etc.places.signers.clone(), 0o644),
        (folder.clone(), 0o755),
        (etc.folder.path().to_owned(), 0o700),
    ] {
        for more in [0o020, 0o002] {
            permit(&path, mode | more);
            etc.refused(&format!("others than root can write {}", path.display()));
        }
        permit(&path, mode);
    }
    etc.read().unwrap();
}

#[test]
fn neither_links_nor_large_files_nor_what_is_no_file_are_read() {
    let etc = Etc::with_agent("ed25519");
    let elsewhere = etc.folder.path().join("elsewhere");

    fs::rename(etc.script(), &elsewhere).unwrap();
    symlink(&elsewhere, etc.script()).unwrap();
    etc.read().unwrap_err();
    fs::remove_file(etc.script()).unwrap();
    fs::create_dir(etc.script()).unwrap();
    etc.refused("is no file");
    fs::remove_dir(etc.script()).unwrap();
    write(&etc.script(), &"x".repeat(256 * 1024 + 1));
    etc.refused("is larger than 256 KiB");
}

#[test]
fn a_stamp_changes_with_every_file_and_with_who_may_write_it() {
    let etc = Etc::with_agent("ed25519");
    let stamp = || etc.places.stamp(&Name::parse("agent").unwrap());

    let mut before = stamp();
    assert_eq!(before, stamp());
    for path in [etc.script(), etc.signature(), etc.places.signers.clone()] {
        permit(&path, 0o664);
        assert_ne!(before, stamp());
        before = stamp();
        fs::remove_file(&path).unwrap();
        assert_ne!(before, stamp());
        before = stamp();
    }
}

/// The node's end, and the runner's.
fn ends() -> (Scripts, OwnedFd) {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    (Scripts(Ok(Arc::new(ours))), theirs)
}

fn says(name: &str, value: ReportedValue) -> ReportedFact {
    ReportedFact {
        name: format!("script.{name}"),
        value,
        age_ms: 40,
        signer: None,
    }
}

fn names(names: &[&str]) -> std::collections::BTreeSet<Name> {
    names.iter().map(|name| Name::parse(name).unwrap()).collect()
}

#[test]
fn each_script_is_asked_after_once_until_it_is_answered() {
    let (scripts, runner) = ends();
    let (agent, mut answers) = (names(&["agent"]), Answers::default());
    let asked = || -> Question { serde_json::from_slice(&receive(&runner).unwrap()).unwrap() };

    answers.ask(&scripts, &agent, Duration::from_secs(3));
    answers.ask(&scripts, &agent, Duration::from_secs(3));
    answers.ask(&scripts, &names(&["agent", "backup"]), Duration::from_secs(3));
    let (first, second) = (asked(), asked());

    assert_eq!((first.name.as_str(), first.every_ms), ("agent", 3000));
    assert_eq!(second.name.as_str(), "backup");
    answers.take(says("agent", ReportedValue::Bool(true)));
    answers.ask(&scripts, &agent, Duration::from_secs(3));
    assert_eq!(asked().name.as_str(), "agent");
}

#[test]
fn an_answer_stays_with_its_age_until_the_next_and_goes_with_the_order() {
    let (scripts, _runner) = ends();
    let (both, mut answers) = (names(&["agent", "backup"]), Answers::default());
    answers.ask(&scripts, &both, Duration::from_secs(3));
    assert!(answers.is_lacking(&both) && answers.of(&both).next().is_none());

    answers.take(says("agent", ReportedValue::Bool(true)));
    answers.take(says("../agent", ReportedValue::Bool(true)));
    std::thread::sleep(Duration::from_millis(20));

    let told: Vec<ReportedFact> = answers.of(&both).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].age_ms >= 60, "{told:?}");
    assert!(answers.is_lacking(&both) && !answers.is_lacking(&names(&["agent"])));
    answers.ask(&scripts, &names(&["backup"]), Duration::from_secs(3));
    assert!(answers.of(&both).next().is_none());
}

#[test]
fn without_a_runner_every_script_says_why_it_says_nothing() {
    let agent = names(&["agent"]);
    let (gone, runner) = ends();
    drop(runner);

    for (scripts, why) in [
        (Scripts(Err(super::NO_SIGNERS)), "runs no scripts"),
        (gone, "is gone"),
    ] {
        let mut answers = Answers::default();
        answers.ask(&scripts, &agent, Duration::from_secs(3));
        let told = answers.of(&agent).next().unwrap();
        assert!(
            matches!(&told.value, ReportedValue::Missing(told) if told.contains(why)),
            "{told:?}"
        );
    }
}
