//! Local accounts: a password and an authenticator open what asks for a second factor, each code once; what is guessed is
//! slowed down; who is removed is cut off.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringfence_e2e::{Live, Mesh, Node, binary};
use ringfence_lab::{Output, Reach, wait_until};
use serde_json::Value;
use totp_rs::{Algorithm, Secret, TOTP};

use crate::stage::SOON;

/// What an administrator writes; the database's console takes a second factor that is not too old.
const LEDGER: &str = r#"
[perimeter]
name = "ledger"
lease = "10m"
[members]
db = { nodes = "role=db" }
dba = { users = "group=dba" }
[[allow]]
from = "dba"
to = "db"
ports = ["tcp/5432"]
[[allow]]
from = "dba"
to = "db"
ports = ["tcp/22"]
require = { mfa = "1m" }
"#;

const PASSWORD: &str = "correct horse battery";
const STEP: u64 = 30;

/// Ada at her laptop, with a database that her group reaches.
struct Desk {
    db: Node,
    laptop: Node,
    password_file: PathBuf,
    // Last: it looks at what the nodes logged when it goes.
    mesh: Mesh,
}

impl Desk {
    fn open(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let db = mesh.node("db", &["role=db"]).unwrap();
        let laptop = mesh.node("laptop", &["role=laptop"]).unwrap();
        mesh.apply_and_wait(LEDGER).unwrap();
        let password_file = mesh.lab().dir().join("password");
        std::fs::write(&password_file, PASSWORD).unwrap();
        Self {
            db,
            laptop,
            password_file,
            mesh,
        }
    }

    /// Has ada set up her account by `secret`, as she would type it: her authenticator, the code that it showed, and what is
    /// answered.
    fn set_up(&self, secret: &str) -> (TOTP, String, Value) {
        let mut child = Command::new(binary("ringfence").unwrap())
            .args(["login", "--json", "--account", "ada", "--set-up", "--socket"])
            .arg(self.laptop.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{secret}").unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = told.find_map(|line| Some(line.unwrap()).filter(|line| line.starts_with("otpauth://")));
        let authenticator = authenticator(&url.unwrap());
        let code = code(&authenticator, 0);
        write!(stdin, "{PASSWORD}\n{PASSWORD}\n{code}\n").unwrap();
        drop(stdin);
        let notes: Vec<String> = told.map(Result::unwrap).collect();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{notes:?}");
        (
            authenticator,
            code,
            serde_json::from_slice(&output.stdout).unwrap(),
        )
    }

    fn log_in_whole(&self, node: &Node, code: &str) -> Output {
        let file = self.password_file.to_str().unwrap();
        log_in(node, &["--password-file", file], code)
    }

    fn reaches_console(&self) -> bool {
        let console = self.db.overlay("ledger").unwrap().v4(22);
        self.laptop.host().try_tcp(console, Duration::from_secs(1)) == Reach::Open
    }

    fn live(&self, port: u16) -> Live {
        let db = self.db.overlay("ledger").unwrap();
        Live::open(self.laptop.host(), self.db.host(), db.v4.into(), port).unwrap()
    }
}

/// A login of a script at a node: what it says beside the account, and what it types.
fn log_in(node: &Node, more: &[&str], typed: &str) -> Output {
    let program = node.local(["login", "--json", "--account", "ada"]).unwrap();
    program.args(more).input(&format!("{typed}\n")).run().unwrap()
}

fn authenticator(url: &str) -> TOTP {
    let (_, rest) = url.split_once("secret=").unwrap();
    let (key, _) = rest.split_once('&').unwrap();
    let secret = Secret::Encoded(key.to_owned()).to_bytes().unwrap();
    TOTP::new(Algorithm::SHA1, 6, 0, STEP, secret).unwrap()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The code of this moment, or of so many steps later.
fn code(authenticator: &TOTP, later: u64) -> String {
    authenticator.generate(seconds() + later * STEP)
}

fn assert_refused(output: &Output, why: &str) {
    assert_eq!(output.code(), Some(4), "{}", output.all());
    assert!(output.stderr.contains(why), "{}", output.all());
}

#[test]
fn a_password_and_an_authenticator_open_what_takes_a_second_factor_and_removal_cuts_it() {
    let desk = Desk::open("accounts");
    let added = desk
        .mesh
        .cli(["account", "add", "ada", "--group", "dba"])
        .unwrap();
    let secret = added.text().unwrap().trim().to_owned();
    let (authenticator, spent, answer) = desk.set_up(&secret);
    assert_eq!(answer["session"]["provider"], "local", "{answer}");
    assert_eq!(answer["session"]["groups"], serde_json::json!(["dba"]));
    let recovery = answer["recovery_codes"].as_array().unwrap();
    let recovery: Vec<&str> = recovery.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(recovery.len(), 10);

    desk.laptop.wait_peer("ledger", "db").unwrap();
    let console = desk.live(22);
    let data = desk.live(5432);

    // A minute after the second factor what needs it ends, and nothing else.
    console.wait_cut(Duration::from_secs(90)).unwrap();
    data.exchange(SOON).unwrap();
    assert!(!desk.reaches_console());
    assert_refused(&log_in(&desk.laptop, &["--mfa"], &spent), "is wrong");
    // As she is told: who she is, is known.
    let step_up = desk.laptop.local(["login", "--mfa", "--json"]).unwrap();
    let typed = format!("{}\n", code(&authenticator, 0));
    let stepped_up = step_up.input(&typed).run().unwrap();
    assert_eq!(stepped_up.code(), Some(0), "{}", stepped_up.all());
    let _serving = desk
        .db
        .host()
        .serve(desk.db.overlay("ledger").unwrap().v4(22))
        .unwrap();
    wait_until(SOON, "the console to be reached again", || desk.reaches_console()).unwrap();
    data.exchange(SOON).unwrap();

    let wrong = desk.mesh.lab().dir().join("wrong");
    std::fs::write(&wrong, "not the password\n").unwrap();
    let guess = |node: &Node, typed: &str| log_in(node, &["--password-file", wrong.to_str().unwrap()], typed);
    assert_refused(&guess(&desk.laptop, recovery[0]), "is wrong");
    let by_recovery = desk.log_in_whole(&desk.laptop, recovery[0]);
    assert_eq!(by_recovery.code(), Some(0), "{}", by_recovery.all());
    assert_refused(&desk.log_in_whole(&desk.laptop, recovery[0]), "is wrong");

    // Elsewhere somebody guesses until they are slowed down; ada at her own machine is not.
    let guessed = (0..6).map(|_| guess(&desk.db, "123456"));
    assert_refused(&guessed.last().unwrap(), "too many attempts");
    let sessions = desk.mesh.json(["session", "ls"]).unwrap();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
    let again = desk.log_in_whole(&desk.laptop, recovery[1]);
    assert_eq!(again.code(), Some(0), "{}", again.all());
    data.exchange(SOON).unwrap();

    let api = desk.mesh.api().unwrap();
    let answer = api
        .request("DELETE", "/api/v1/accounts/ada", None)
        .unwrap()
        .ok()
        .unwrap();
    data.cut_by(&answer).unwrap();
    assert_refused(&desk.log_in_whole(&desk.laptop, recovery[2]), "");

    let audit = desk.mesh.cli(["audit", "--json"]).unwrap().text().unwrap();
    for entry in ["account-added", "account-set-up", "account-removed"] {
        assert_eq!(audit.matches(entry).count(), 1, "{entry}: {audit}");
    }
    assert_eq!(
        audit.matches("\"reason\": \"too many failed logins").count(),
        1,
        "{audit}"
    );
    let key = authenticator.get_secret_base32();
    for hidden in [PASSWORD, "argon2", &secret, recovery[0], &key] {
        assert!(!audit.contains(hidden), "{hidden} is no auditor's business");
    }
}

#[test]
fn who_lost_their_authenticator_sets_their_account_up_anew() {
    let desk = Desk::open("accounts-reset");
    let secret_of = |args: &[&str]| desk.mesh.cli(args).unwrap().text().unwrap().trim().to_owned();
    let first = secret_of(&["account", "add", "ada", "--group", "dba", "--session", "8h"]);
    let (lost, ..) = desk.set_up(&first);
    let live = {
        desk.laptop.wait_peer("ledger", "db").unwrap();
        desk.live(5432)
    };

    let second = secret_of(&["account", "reset", "ada"]);
    live.wait_cut(SOON).unwrap();
    let listed = desk.mesh.json(["account", "ls"]).unwrap();
    assert_eq!(listed["accounts"][0]["set_up_ms"], Value::Null, "{listed}");
    assert_refused(&desk.log_in_whole(&desk.laptop, &code(&lost, 1)), "is wrong");
    let (.., answer) = desk.set_up(&second);
    let until = answer["session"]["expires_ms"].as_u64().unwrap() / 1000;
    assert!(until.abs_diff(seconds() + 8 * 3600) < 120, "{answer}");

    let moved = ["account", "set", "ada", "--group", "ops"];
    desk.laptop.wait_peer("ledger", "db").unwrap();
    let live = desk.live(5432);
    desk.mesh.cli(moved).unwrap().text().unwrap();
    live.wait_cut(SOON).unwrap();
}
