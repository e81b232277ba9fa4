//! Who is logged in at a laptop asks for access there, with no token of the API; somebody else answers.

use std::time::Duration;

use ringfence_e2e::{Live, Node, Office, Script};
use ringfence_lab::{Reach, wait_until};
use serde_json::{Value, json};

use crate::SOON;

/// The perimeter, whose members are its database and, by being logged in, its staff.
const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
break_glass = "review"
[members]
db = { nodes = "role=db" }
staff = { users = "group=staff" }
"#;

/// An office, and a database that nobody reaches.
fn open(name: &str) -> (Office, Node) {
    let mut office = Office::open(name, Script::Honest).unwrap();
    let db = office.mesh.node("db", &["role=db"]).unwrap();
    office.mesh.apply_and_wait(LEDGER).unwrap();
    (office, db)
}

fn request(office: &Office, more: &[&str]) -> Value {
    let program = office
        .ringfence(&[
            "access",
            "request",
            "--json",
            "--perimeter",
            "ledger",
            "--to",
            "db",
        ])
        .unwrap();
    let program = program.args([
        "--port",
        "tcp/5432",
        "--for",
        "2h",
        "--reason",
        "the ledger is stuck",
    ]);
    let answer: Value = serde_json::from_str(&program.args(more).text().unwrap()).unwrap();
    answer["access"].clone()
}

fn mine(office: &Office) -> Vec<Value> {
    let text = office
        .ringfence(&["access", "ls", "--json"])
        .unwrap()
        .text()
        .unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let each = list["access"].as_array().unwrap().iter();
    each.map(|access| access["standing"].clone()).collect()
}

fn reaches(office: &Office, db: &Node) -> bool {
    let at = db.overlay("ledger").unwrap().v4(5432);
    let _server = db.host().serve(at).unwrap();
    office.laptop.host().try_tcp(at, Duration::from_secs(1)) == Reach::Open
}

/// A connection, as soon as one gets through.
fn live(office: &Office, db: &Node) -> Live {
    wait_until(SOON, "the database to be reached", || reaches(office, db)).unwrap();
    let at = db.overlay("ledger").unwrap().v4;
    Live::open(office.laptop.host(), db.host(), at.into(), 5432).unwrap()
}

fn assert_cut(live: Live) {
    let (client, server) = live.wait_cut(SOON).unwrap();
    assert!(client.is_reset() && server.is_reset(), "{client:?}, {server:?}");
}

#[test]
fn a_person_asks_at_their_laptop_and_has_it_from_approval_to_end_or_logout() {
    let (office, db) = open("people-access");
    let args = [
        "access",
        "request",
        "--perimeter",
        "ledger",
        "--to",
        "db",
        "--port",
        "tcp/22",
        "--for",
        "1h",
    ];
    let nobody = office
        .ringfence(&args)
        .unwrap()
        .args(["--reason", "x"])
        .run()
        .unwrap();
    assert_eq!(nobody.code(), Some(4), "{}", nobody.all());
    assert!(nobody.stderr.contains("log in first"), "{}", nobody.stderr);
    office.log_in(&[], None).unwrap();

    let asked = request(&office, &[]);
    assert_eq!(
        (&asked["standing"], &asked["asked_by"]),
        (&json!("waiting"), &json!("ada@example.com"))
    );
    assert_eq!(mine(&office), [json!("waiting")]);
    assert!(!reaches(&office, &db), "nobody has approved it");

    let id = asked["id"].to_string();
    office
        .administer(&["access", "approve", &id, "--reason", "seen"])
        .unwrap();
    let granted = live(&office, &db);
    assert_eq!(mine(&office), [json!("open")]);
    let told = office.administer(&["access", "end", &id]).unwrap();
    assert!(told.contains("ended"), "{told}");
    assert_cut(granted);
    assert!(!reaches(&office, &db));
    assert_eq!(mine(&office), [] as [Value; 0]);

    let again = request(&office, &[])["id"].to_string();
    office.administer(&["access", "approve", &again]).unwrap();
    let granted = live(&office, &db);
    office
        .ringfence(&["access", "end", &again])
        .unwrap()
        .text()
        .unwrap();
    assert_cut(granted);

    let last = request(&office, &[])["id"].to_string();
    office.administer(&["access", "approve", &last]).unwrap();
    let granted = live(&office, &db);
    office.ringfence(&["logout"]).unwrap().text().unwrap();
    assert_cut(granted);
    assert!(
        office
            .administer(&["audit"])
            .unwrap()
            .contains("ended with the session")
    );
}

#[test]
fn who_breaks_the_glass_is_in_at_once_and_reviewed_by_somebody_else() {
    let (office, db) = open("people-glass");
    office.log_in(&[], None).unwrap();

    let opened = request(&office, &["--break-glass"]);

    assert_eq!(opened["standing"], "open", "{opened}");
    let granted = live(&office, &db);
    let listed = office.administer(&["access", "ls"]).unwrap();
    assert!(
        listed.contains("open, to review") && listed.contains("ada@example.com"),
        "{listed}"
    );
    let id = opened["id"].to_string();
    office
        .administer(&["access", "review", &id, "--reason", "as agreed"])
        .unwrap();
    let listed = office.administer(&["access", "ls"]).unwrap();
    assert!(
        listed.contains("open") && !listed.contains("to review"),
        "{listed}"
    );
    granted.exchange(SOON).unwrap();
    office.administer(&["access", "end", &id]).unwrap();
    assert_cut(granted);
    assert_eq!(mine(&office), [] as [Value; 0]);
}

#[test]
fn a_person_is_not_told_which_perimeters_there_are() {
    let (office, _db) = open("people-asks");
    office.log_in(&[], None).unwrap();

    let refusal = |perimeter: &str, to: &str| {
        let args = [
            "access",
            "request",
            "--perimeter",
            perimeter,
            "--to",
            to,
            "--for",
            "1h",
            "--reason",
            "x",
        ];
        let refused = office.ringfence(&args).unwrap().run().unwrap();
        assert!(!refused.status.success());
        refused.stderr.replace(perimeter, "P").replace(to, "G")
    };

    assert_eq!(refusal("ledger", "vault"), refusal("nowhere", "vault"));
}
