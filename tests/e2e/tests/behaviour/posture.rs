//! Device posture: what is known of a machine comes from the machine, and follows it.

use std::time::{Duration, Instant};

use ringfence_e2e::{Live, Mesh, Node, NodeOptions};
use ringfence_lab::{Running, wait_for, wait_until};
use serde_json::Value;

use crate::stage::{API_TO_DB, SHOP, SOON, policy};

/// From a change of the machine to the controller's knowing it.
const FOLLOWS_MAX: Duration = Duration::from_secs(5);

/// The SHA-256 of `test`.
const TEST_HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A node whose packages are its own to age.
struct Laptop {
    node: Node,
    mesh: Mesh,
}

impl Laptop {
    fn start(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let host = mesh.bare_host("laptop").unwrap();
        for folder in ["/var/lib/apt/periodic", "/var/log/apt"] {
            let mount = ["-t", "tmpfs", "none", folder];
            host.command("mount").args(mount).text().unwrap();
        }
        let rules = host.dir().join("rules");
        std::fs::write(&rules, "test").unwrap();
        let options = NodeOptions {
            args: vec!["--posture-file".to_owned(), rules.display().to_string()],
            ..NodeOptions::default()
        };
        let node = mesh.node_on(&host, "laptop", &["role=api"], options).unwrap();
        Self { node, mesh }
    }

    fn ask(&self, posture: &str) {
        let apply = self.mesh.cli(["posture", "apply", "-f", "-"]).unwrap();
        apply.input(posture).text().unwrap();
    }

    fn shown(&self) -> Value {
        self.mesh.json(["posture", "show", "laptop"]).unwrap()
    }

    /// What is said of the only thing that a check asks.
    fn says(&self, check: &str) -> String {
        let shown = self.shown();
        let checks = shown["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["name"] == check).unwrap();
        found["findings"][0]["says"].as_str().unwrap().to_owned()
    }

    fn wait(&self, check: &str, says: &str) {
        let waited = wait_until(FOLLOWS_MAX, says, || self.says(check) == says);
        assert!(waited.is_ok(), "{says} is wanted, {} is said", self.says(check));
    }

    fn nft(&self, rules: &str) {
        let nft = self.node.host().command("nft").args(["-f", "-"]);
        nft.input(rules).text().unwrap();
    }

    fn touch(&self, age: &str) {
        let stamp = "/var/lib/apt/periodic/upgrade-stamp";
        let touch = self.node.host().command("touch").args(["-d", age, stamp]);
        touch.text().unwrap();
    }

    /// A program that the kernel knows by this name.
    fn watchdog(&self, name: &str) -> Running {
        let program = self.node.host().dir().join(name);
        std::fs::copy("/bin/sleep", &program).unwrap();
        self.node.host().command(program).arg("600").spawn(name).unwrap()
    }
}

const FILTER: &str = "table inet guard {
    chain in { type filter hook input priority 0; policy accept; tcp dport 23 drop; }
}";

#[test]
fn posture_facts_come_from_the_machine_and_follow_it() {
    let laptop = Laptop::start("posturefacts");
    let rules = laptop.node.host().dir().join("rules");
    let rules = rules.display();
    laptop.ask(&format!(
        "[[check]]\nname = \"firewall\"\nfirewall.active = true\n\
         [[check]]\nname = \"watchdog\"\nprocess.rf-watchdog = true\n\
         [[check]]\nname = \"updates\"\nos.security_update = {{ max_age = \"30d\" }}\n\
         [[check]]\nname = \"rules\"\nfile.\"{rules}\" = \"sha256:{TEST_HASH}\"\n\
         [[check]]\nname = \"kernel\"\nkernel.version = {{ min = \"4\" }}\n\
         [[check]]\nname = \"shadow\"\nfile.\"/etc/shadow\" = \"sha256:{TEST_HASH}\"\n"
    ));

    laptop.wait("firewall", "firewall.active is false, must be true");
    laptop.nft(FILTER);
    laptop.wait("firewall", "firewall.active is true");
    laptop.nft("delete table inet guard");
    laptop.wait("firewall", "firewall.active is false, must be true");

    laptop.wait("watchdog", "process.rf-watchdog is false, must be true");
    let watchdog = laptop.watchdog("rf-watchdog");
    laptop.wait("watchdog", "process.rf-watchdog is true");
    watchdog.kill();
    laptop.wait("watchdog", "process.rf-watchdog is false, must be true");

    assert!(
        laptop.says("updates").contains("knows of an upgrade"),
        "{}",
        laptop.says("updates")
    );
    laptop.touch("2 days ago");
    wait_until(FOLLOWS_MAX, "a recent update", || laptop.holds("updates")).unwrap();
    laptop.touch("31 days ago");
    wait_until(FOLLOWS_MAX, "an old update", || !laptop.holds("updates")).unwrap();
    assert!(laptop.says("updates").ends_with("must be at most 30d ago"));

    laptop.wait("rules", &format!("file.{rules} is sha256:{TEST_HASH}"));
    std::fs::write(laptop.node.host().dir().join("rules"), "tampered with").unwrap();
    wait_until(FOLLOWS_MAX, "another hash", || !laptop.holds("rules")).unwrap();

    let release = laptop.node.host().command("uname").arg("-r").text().unwrap();
    laptop.wait("kernel", &format!("kernel.version is {}", release.trim()));
    // What the operator did not name is closed to the node, whoever asks for it.
    laptop.wait(
        "shadow",
        "file./etc/shadow is not known: /etc/shadow is closed to ringfence-node",
    );
}

#[test]
fn access_follows_the_machine_and_what_is_live_ends() {
    let mut laptop = Laptop::start("postureaccess");
    let db = laptop.mesh.node("db", &["role=db"]).unwrap();
    laptop.ask(
        "[[check]]\nname = \"healthy\"\nfirewall.active = true\nprocess.rf-guardian = true\n\
         os.security_update = { max_age = \"30d\" }\n",
    );
    let rules = policy(&[API_TO_DB]) + "require = { posture = [\"healthy\"] }\n";
    laptop.mesh.apply_and_wait(&rules).unwrap();
    let at = db.overlay(SHOP).unwrap().v4;
    let open = || Live::open(laptop.node.host(), db.host(), at.into(), 5432).ok();
    assert!(open().is_none(), "a machine of which nothing is known gets in");
    laptop.nft(FILTER);
    laptop.touch("1 day ago");
    let mut guardian = laptop.watchdog("rf-guardian");

    for cause in ["the firewall", "the program", "the updates"] {
        let live = wait_for(SOON, "access", open).unwrap();
        let begun = Instant::now();
        match cause {
            "the firewall" => laptop.nft("delete table inet guard"),
            "the program" => guardian.kill(),
            _ => laptop.touch("31 days ago"),
        }
        let (client, server) = live.wait_cut(FOLLOWS_MAX).unwrap();
        assert!(
            client.is_reset() && server.is_reset(),
            "{cause}: {client:?}, {server:?}"
        );
        let late = client.at.max(server.at).saturating_duration_since(begun);
        assert!(late <= FOLLOWS_MAX, "{cause}: {late:?}");
        match cause {
            "the firewall" => laptop.nft(FILTER),
            "the program" => guardian = laptop.watchdog("rf-guardian"),
            _ => laptop.touch("1 day ago"),
        }
    }
    wait_for(SOON, "access", open).unwrap();
}

#[test]
fn nothing_is_looked_up_that_no_check_asks_for_and_a_silent_node_goes_stale() {
    let mut laptop = Laptop::start("posturestale");
    assert_eq!(laptop.shown()["facts"], serde_json::json!([]));

    laptop.ask("[[check]]\nname = \"kernel\"\nmax_age = \"10s\"\nkernel.version = { min = \"4\" }\n");
    wait_until(FOLLOWS_MAX, "the kernel's version", || laptop.holds("kernel")).unwrap();
    let facts = laptop.shown()["facts"].clone();
    assert_eq!(facts.as_array().unwrap().len(), 1, "{facts}");
    assert_eq!(facts[0]["source"], "node");
    // It reports often enough to stay fresh.
    std::thread::sleep(Duration::from_secs(11));
    assert!(laptop.holds("kernel"), "{}", laptop.says("kernel"));

    laptop.node.kill();
    wait_until(SOON + Duration::from_secs(2), "it to go stale", || {
        !laptop.holds("kernel")
    })
    .unwrap();

    assert!(
        laptop.says("kernel").contains("at most 10s is allowed"),
        "{}",
        laptop.says("kernel")
    );
    let audit = laptop.mesh.cli(["audit"]).unwrap().text().unwrap();
    assert!(
        audit.contains("passes kernel now") && audit.contains("passes kernel no more"),
        "{audit}"
    );
}

#[test]
fn facts_are_given_through_the_api_and_a_file_is_tried_before_it_is_applied() {
    let laptop = Laptop::start("posturegiven");
    let posture = "[[check]]\nname = \"edr\"\ncustom.edr = \"healthy\"\n";
    let test = |text: &str| {
        let args = ["posture", "test", "-f", "-", "--node", "laptop"];
        laptop.mesh.cli(args).unwrap().input(text).run().unwrap()
    };
    assert_eq!(test(posture).code(), Some(1));
    laptop.ask(posture);
    assert_eq!(
        laptop.says("edr"),
        "custom.edr is not known: nothing has reported it"
    );

    let give = ["posture", "give", "laptop", "edr", "healthy", "--ttl", "3s"];
    laptop.mesh.cli(give).unwrap().text().unwrap();
    assert!(laptop.holds("edr"));
    assert_eq!(test(posture).code(), Some(0));
    let stricter = "[[check]]\nname = \"edr\"\ncustom.edr = \"well\"\n";
    let refused = test(stricter);
    assert!(
        refused.all().contains("custom.edr is healthy, must be well"),
        "{}",
        refused.all()
    );

    wait_until(FOLLOWS_MAX, "the fact to expire", || !laptop.holds("edr")).unwrap();
    assert!(laptop.says("edr").starts_with("custom.edr has expired"));
}

#[test]
fn a_rule_for_a_check_that_is_not_there_is_told_of_where_it_comes_about() {
    let mesh = Mesh::start("posturenames").unwrap();
    let api = mesh.api().unwrap();
    let posture = |text: &str, force: &[&str]| {
        let apply = mesh
            .cli(["posture", "apply", "-f", "-"].iter().chain(force))
            .unwrap();
        apply.input(text).run().unwrap()
    };
    let check = |name: &str| format!("[[check]]\nname = \"{name}\"\nos.id = \"debian\"\n");
    let rules = |name: &str| policy(&[API_TO_DB]) + &format!("require = {{ posture = [\"{name}\"] }}\n");
    assert_eq!(posture(&check("debian"), &[]).code(), Some(0));

    let apply = mesh.cli(["perimeter", "apply", "-f", "-", "--dry-run"]).unwrap();
    let misspelt = apply.input(&rules("debain")).run().unwrap();
    assert_eq!(misspelt.code(), Some(0), "{}", misspelt.all());
    let line = rules("debain").lines().count();
    let place = format!("stdin:{line}:");
    for part in ["warning", &place, "posture check debain", "did you mean debian?"] {
        assert!(misspelt.all().contains(part), "{part}: {}", misspelt.all());
    }
    let answer = api.apply(&rules("debain")).unwrap().ok().unwrap().json().unwrap();
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(
        warnings
            .iter()
            .any(|told| told["line"] == line && told["help"] == "did you mean debian?"),
        "{answer}"
    );

    api.apply(&rules("debian")).unwrap().ok().unwrap();
    let refused = posture(&check("ubuntu"), &[]);
    assert_eq!(refused.code(), Some(1), "{}", refused.all());
    for part in ["rule #1 of perimeter shop", "posture check debian", "--force"] {
        assert!(refused.all().contains(part), "{part}: {}", refused.all());
    }
    let body = serde_json::json!({ "file": { "name": "p.toml", "text": check("ubuntu") } });
    let refused = api.request("PUT", "/api/v1/posture", Some(&body)).unwrap();
    assert_eq!(refused.status, 409);
    let problem = refused.json().unwrap();
    assert_eq!(problem["type"], "urn:ringfence:problem:checks-in-use");
    assert_eq!(problem["findings"].as_array().unwrap().len(), 1, "{problem}");
    let kept = mesh.json(["posture", "ls"]).unwrap();
    assert_eq!(kept["checks"][0]["name"], "debian");

    let forced = posture(&check("ubuntu"), &["--force"]);
    assert_eq!(forced.code(), Some(0), "{}", forced.all());
    assert!(
        forced.all().contains("warning") && forced.all().contains("rule #1 of perimeter shop"),
        "{}",
        forced.all()
    );
}

impl Laptop {
    fn holds(&self, check: &str) -> bool {
        let shown = self.shown();
        let checks = shown["checks"].as_array().unwrap();
        checks
            .iter()
            .any(|found| found["name"] == check && found["holds"] == true)
    }
}
