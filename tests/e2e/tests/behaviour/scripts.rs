//! Facts of scripts that an administrator signed: they open access for as long as all of it is as it was signed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringfence_e2e::{Live, Mesh, Node, NodeOptions};
use ringfence_lab::{wait_for, wait_until};
use serde_json::Value;

use crate::confinement::{NET_ADMIN, NET_RAW, assert_confined, memory_right};
use crate::stage::{API_TO_DB, SHOP, SOON, policy};

/// From a change of the machine to the controller's knowing it.
const FOLLOWS_MAX: Duration = Duration::from_secs(5);
/// A script that hangs is known to after ten seconds.
const HUNG: Duration = Duration::from_secs(16);

/// A node with keys and scripts of its own, installed with the commands of docs/posture.md.
struct Laptop {
    node: Node,
    mesh: Mesh,
}

impl Laptop {
    fn start(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let host = mesh.bare_host("laptop").unwrap();
        let etc = host.dir().join("etc");
        fs::create_dir(&etc).unwrap();
        let args = [
            ("--fact-signers", etc.join("fact-signers")),
            ("--fact-scripts", etc.join("facts.d")),
        ];
        let args = args.map(|(option, path)| [option.to_owned(), path.display().to_string()]);
        let options = NodeOptions {
            args: args.concat(),
            ..NodeOptions::default()
        };
        let commands = documented_commands().replace("/etc/ringfence", &etc.display().to_string());
        // Without a terminal a key has no passphrase.
        let shell = host.command("setsid").args(["-w", "sh", "-e", "-c"]).input("");
        let script = format!("cd {}\n{commands}", host.dir().display());
        fs::write(
            host.dir().join("backed-up"),
            backed_up(&host.dir().join("backup")),
        )
        .unwrap();
        shell.arg(script).text().unwrap();
        let node = mesh.node_on(&host, "laptop", &["role=api"], options).unwrap();
        Self { node, mesh }
    }

    fn etc(&self, file: &str) -> PathBuf {
        self.node.host().dir().join("etc").join(file)
    }

    fn ask(&self, posture: &str) {
        let apply = self.mesh.cli(["posture", "apply", "-f", "-"]).unwrap();
        apply.input(posture).text().unwrap();
    }

    /// Puts a script there, signed with this key if one is named.
    fn install(&self, name: &str, text: &str, key: Option<&str>, namespace: &str) {
        let path = self.etc("facts.d").join(name);
        fs::write(&path, text).unwrap();
        let Some(key) = key else { return };
        let signature = self.etc("facts.d").join(format!("{name}.sig"));
        let _ = fs::remove_file(signature);
        let key = self.node.host().dir().join(key);
        let keygen = self.node.host().command("ssh-keygen");
        let keygen = keygen.args(["-q", "-Y", "sign", "-n", namespace, "-f"]);
        keygen.arg(key).arg(path).text().unwrap();
    }

    fn fact(&self, name: &str) -> Option<Value> {
        let facts = self.mesh.json(["posture", "facts", "laptop"]).unwrap();
        let facts = facts.as_array().unwrap();
        facts.iter().find(|fact| fact["name"] == name).cloned()
    }

    /// What its script is missing.
    fn wait_missing(&self, script: &str, why: &str, within: Duration) {
        let missing = || {
            self.fact(&format!("script.{script}"))?["missing"]
                .as_str()
                .map(str::to_owned)
        };
        let waited = wait_until(within, why, || missing().is_some_and(|told| told.contains(why)));
        assert!(
            waited.is_ok(),
            "{script}: {why} is wanted, {:?} is said",
            missing()
        );
    }

    /// The process that runs scripts.
    fn runner(&self) -> u32 {
        let node = self.node.running().pid();
        let children = fs::read_to_string(format!("/proc/{node}/task/{node}/children")).unwrap();
        let children: Vec<u32> = children
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }
}

/// Says whether a file is there.
fn backed_up(file: &std::path::Path) -> String {
    format!(
        "#!/bin/sh\ntest -e {} && echo true || echo false\n",
        file.display()
    )
}

/// What docs/posture.md has people type to make a key, to sign a script and to install both.
fn documented_commands() -> String {
    let docs = include_str!("../../../../docs/posture.md");
    let blocks = docs.split("```");
    let block = blocks
        .into_iter()
        .find(|block| block.contains("ssh-keygen -Y sign"));
    block.unwrap().trim_start_matches("sh").to_owned()
}

#[test]
fn a_signed_script_opens_access_and_whatever_is_changed_about_it_closes_it() {
    let mut laptop = Laptop::start("scriptfacts");
    let db = laptop.mesh.node("db", &["role=db"]).unwrap();
    laptop.ask("[[check]]\nname = \"backed-up\"\nscript.backed-up = true\n");
    let rules = policy(&[API_TO_DB]) + "require = { posture = [\"backed-up\"] }\n";
    laptop.mesh.apply_and_wait(&rules).unwrap();
    let at = db.overlay(SHOP).unwrap().v4;
    let open = || Live::open(laptop.node.host(), db.host(), at.into(), 5432).ok();
    assert!(open().is_none(), "a script that says false lets somebody in");
    let backup = laptop.node.host().dir().join("backup");
    fs::write(&backup, "").unwrap();

    let (script, signers) = (laptop.etc("facts.d/backed-up"), laptop.etc("fact-signers"));
    let text = fs::read_to_string(&script).unwrap();
    let keys = fs::read_to_string(&signers).unwrap();
    let permit = |mode| fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
    for cause in ["what it looks at", "its text", "the keys", "who may write it"] {
        let live = wait_for(SOON, "access", open).unwrap();
        let begun = Instant::now();
        match cause {
            "what it looks at" => fs::remove_file(&backup).unwrap(),
            // It would say the same.
            "its text" => fs::write(&script, text.clone() + "# not signed\n").unwrap(),
            "the keys" => fs::write(&signers, "# nobody\n").unwrap(),
            _ => permit(0o646),
        }
        let (client, server) = live.wait_cut(FOLLOWS_MAX).unwrap();
        assert!(
            client.is_reset() && server.is_reset(),
            "{cause}: {client:?}, {server:?}"
        );
        let late = client.at.max(server.at).saturating_duration_since(begun);
        assert!(late <= FOLLOWS_MAX, "{cause}: {late:?}");
        match cause {
            "what it looks at" => fs::write(&backup, "").unwrap(),
            "its text" => fs::write(&script, &text).unwrap(),
            "the keys" => fs::write(&signers, &keys).unwrap(),
            _ => permit(0o644),
        }
    }
    wait_for(SOON, "access", open).unwrap();

    let fact = laptop.fact("script.backed-up").unwrap();
    let print = laptop.node.host().command("ssh-keygen").arg("-lf").arg(&signers);
    let print = print.text().unwrap();
    let fingerprint = print.split(' ').nth(1).unwrap();
    assert_eq!(fact["source"], format!("script:backed-up {fingerprint}"));
    let shown = laptop
        .mesh
        .cli(["posture", "show", "laptop"])
        .unwrap()
        .text()
        .unwrap();
    assert!(shown.contains(fingerprint), "{shown}");
}

#[test]
fn what_hangs_prints_garbage_or_is_not_signed_never_passes_and_the_daemon_still_runs_nothing() {
    let mut laptop = Laptop::start("scriptbad");
    let keygen = laptop.node.host().command("ssh-keygen");
    let other = laptop.node.host().dir().join("other-key");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(other)
        .text()
        .unwrap();
    let (ours, space) = (Some("fact-key"), "ringfence-fact");
    let ran = laptop.node.host().dir().join("ran");
    let touch = format!("#!/bin/sh\ntouch {}\necho true\n", ran.display());
    laptop.install("hangs", "#!/bin/sh\necho true\nsleep 600\n", ours, space);
    laptop.install(
        "garbage",
        "#!/bin/sh\necho true\nhead -c 100 /dev/urandom\n",
        ours,
        space,
    );
    laptop.install("endless", "#!/bin/sh\nyes true\n", ours, space);
    laptop.install(
        "fails",
        "#!/bin/sh\necho true\necho no agent >&2\nexit 3\n",
        ours,
        space,
    );
    laptop.install("other", &touch, Some("other-key"), space);
    laptop.install("mail", &touch, ours, "file");
    laptop.install("unsigned", &touch, None, space);
    let names = [
        "hangs", "garbage", "endless", "fails", "other", "mail", "unsigned", "absent",
    ];
    let checks = names.map(|name| format!("[[check]]\nname = \"{name}\"\nscript.{name} = true\n"));
    laptop.ask(&checks.concat());

    for (script, why) in [
        ("garbage", "it printed"),
        ("endless", "it printed more than 4096 bytes"),
        ("fails", "it ended with exit code 3: no agent"),
        ("other", "which is not in"),
        ("mail", "sign with -n ringfence-fact"),
        ("unsigned", "unsigned.sig is not there"),
        ("absent", "absent is not there"),
    ] {
        laptop.wait_missing(script, why, SOON);
    }
    laptop.wait_missing("hangs", "it did not end within 10 s", HUNG);
    let shown = laptop.mesh.json(["posture", "show", "laptop"]).unwrap();
    for check in shown["checks"].as_array().unwrap() {
        assert!(check["passes"] == false && check["holds"] == false, "{check}");
    }
    assert!(!ran.exists(), "a script ran that no pinned key signed");

    // One process may run programs; the daemon, which hears from the network, is as confined as ever.
    let (node, runner) = (laptop.node.running().pid(), laptop.runner());
    assert_confined(node, NET_ADMIN | NET_RAW | memory_right(node));
    let name = fs::read_to_string(format!("/proc/{runner}/comm")).unwrap();
    assert_eq!(name.trim(), "ringfence-facts");
    let environment = fs::read(format!("/proc/{runner}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "");
    laptop.node.kill();
    wait_until(SOON, "the runner to end with the node", || {
        !PathBuf::from(format!("/proc/{runner}")).exists()
    })
    .unwrap();
}
