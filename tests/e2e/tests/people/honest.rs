//! What a certified provider and an honest person do.

use std::time::Duration;

use ringfence_e2e::{ISSUER, MFA, Office, SECRET, Script};
use ringfence_lab::{Reach, wait_until};

use crate::{SOON, ledger_with_console};

#[test]
fn a_person_logs_in_steps_up_and_logs_out() {
    let office = Office::open("people-login", Script::Honest).unwrap();
    assert_eq!(office.whoami().unwrap(), None);

    let plain = office.log_in(&[], None).unwrap();
    assert_eq!(plain["name"], "ada@example.com");
    assert_eq!(plain["email"], "ada@example.com");
    assert_eq!(plain["groups"], serde_json::json!(["dba", "staff"]));
    assert_eq!(plain["mfa_at_ms"], serde_json::Value::Null);
    assert_eq!(office.whoami().unwrap(), Some(plain));

    let stepped_up = office.log_in(&["--mfa"], Some("123456")).unwrap();
    assert!(stepped_up["mfa_at_ms"].is_u64(), "{stepped_up}");
    assert_eq!(office.whoami().unwrap(), Some(stepped_up));

    office.ringfence(&["logout"]).unwrap().text().unwrap();
    assert_eq!(office.whoami().unwrap(), None);
}

#[test]
fn a_login_opens_what_the_persons_groups_may_reach_and_a_logout_closes_it() {
    let mut office = Office::open("people-reach", Script::Honest).unwrap();
    let db = office.mesh.node("db", &["role=db"]).unwrap();
    office.mesh.apply_and_wait(&ledger_with_console()).unwrap();
    let [data, console] = [5432, 22].map(|port| db.overlay("ledger").unwrap().v4(port));
    let _serving = [data, console].map(|address| db.host().serve(address).unwrap());
    let reaches = |office: &Office, address| {
        office.laptop.host().try_tcp(address, Duration::from_secs(1)) == Reach::Open
    };
    assert!(!reaches(&office, data), "nobody is logged in");

    office.log_in(&[], None).unwrap();
    wait_until(SOON, "the database to be reached", || reaches(&office, data)).unwrap();
    assert!(!reaches(&office, console), "that takes a second factor");

    office.log_in(&["--mfa"], Some("123456")).unwrap();
    wait_until(SOON, "the console to be reached", || reaches(&office, console)).unwrap();

    office.ringfence(&["logout"]).unwrap().text().unwrap();
    wait_until(SOON, "both to be closed", || {
        !reaches(&office, data) && !reaches(&office, console)
    })
    .unwrap();
}

#[test]
fn a_person_is_told_why_they_do_not_reach_something_and_what_would_open_it() {
    let mut office = Office::open("people-why", Script::Honest).unwrap();
    let _db = office.mesh.node("db", &["role=db"]).unwrap();
    office.mesh.apply_and_wait(&ledger_with_console()).unwrap();
    let why = |office: &Office, what: &str| office.ringfence(&["why", what]).unwrap().run().unwrap();

    let stranger = why(&office, "db:22");
    assert!(!stranger.status.success(), "{}", stranger.stdout);
    assert!(
        stranger.stderr.contains("there is no node or device \"db\""),
        "{}",
        stranger.stderr
    );

    office.log_in(&[], None).unwrap();
    wait_until(SOON, "the laptop to be a member", || {
        why(&office, "db:5432").status.success()
    })
    .unwrap();
    let closed = why(&office, "db:22");
    assert_eq!(closed.status.code(), Some(4), "{}", closed.stdout);
    for part in [
        "closed",
        "ada@example.com, no second factor",
        "dba",
        "log in again with a second factor",
        "alice@example.com (ledger)",
    ] {
        assert!(closed.stdout.contains(part), "{part}: {}", closed.stdout);
    }

    office.log_in(&["--mfa"], Some("123456")).unwrap();
    let open = why(&office, "db:22");
    assert!(
        open.status.success() && open.stdout.starts_with("open"),
        "{}",
        open.stdout
    );
}

#[test]
fn a_person_logs_in_with_a_browser_on_another_device() {
    let office = Office::open("people-device", Script::Honest).unwrap();

    let login = office.begin(&["--device"]).unwrap();
    let code = login.code.clone().unwrap();
    let page = office
        .browse(&["device", &login.url, &code, "ada", "lovelace"])
        .unwrap();
    let session = login.session().unwrap();

    assert_eq!(session["name"], "ada@example.com", "{page}");
    assert_eq!(office.whoami().unwrap(), Some(session));
}

#[test]
fn signing_out_at_the_provider_ends_the_session_here() {
    let office = Office::open("people-logout", Script::Honest).unwrap();
    office.log_in(&[], None).unwrap();

    let page = office
        .browse(&["logout", &format!("{ISSUER}/session/end")])
        .unwrap();

    let ended = wait_until(SOON, "the session to end", || office.whoami().unwrap().is_none());
    assert!(
        ended.is_ok(),
        "{page}\n{}\n{}",
        office.provider_log(),
        office.mesh.controller().log()
    );
    let audit = office.administer(&["audit"]).unwrap();
    assert!(audit.contains("session.end"), "{audit}");
}

#[test]
fn a_login_after_the_provider_turned_its_keys_is_as_good() {
    let office = Office::open("people-keys", Script::Honest).unwrap();
    office.log_in(&[], None).unwrap();

    office.control("turn-keys").unwrap();
    office.ringfence(&["logout"]).unwrap().text().unwrap();
    let again = office.log_in(&[], None).unwrap();

    assert_eq!(office.whoami().unwrap(), Some(again));
    let log = office.mesh.controller().log();
    assert!(log.contains("asked for newer keys"), "{log}");
}

#[test]
fn a_step_up_without_a_second_factor_is_none() {
    let office = Office::open("people-factor", Script::Honest).unwrap();
    office.administer(&["provider", "rm", "corp"]).unwrap();
    // The class that counts here is one that the provider does not know.
    let strict = ["--allow-private-address", "--mfa-acr", "urn:example:unknown"];
    let add = office.add_provider("strict", &strict).unwrap();
    add.text().unwrap();

    let login = office.begin(&["--no-browser", "--mfa"]).unwrap();
    office.browse(&["login", &login.url, "ada", "lovelace"]).unwrap();
    let refusal = login.refusal().unwrap();

    assert!(refusal.contains("second factor"), "{refusal}");
    assert_eq!(office.whoami().unwrap(), None);
}

#[test]
fn an_unverified_address_names_nobody() {
    let office = Office::open("people-address", Script::Honest).unwrap();

    let login = office.begin(&["--no-browser"]).unwrap();
    office.browse(&["login", &login.url, "eve", "moriarty"]).unwrap();
    let session = login.session().unwrap();

    assert_eq!(session["email"], serde_json::Value::Null);
    assert_eq!(session["name"], "eve");
}

#[test]
fn a_provider_at_a_private_address_takes_an_administrators_word() {
    let office = Office::open("people-private", Script::Honest).unwrap();
    office.administer(&["provider", "rm", "corp"]).unwrap();
    office.add_provider("careless", &[]).unwrap().text().unwrap();

    let refused = office
        .ringfence(&["login", "--no-browser"])
        .unwrap()
        .run()
        .unwrap();

    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("--allow-private-address"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_client_secret_is_in_its_own_file_alone() {
    let office = Office::open("people-secret", Script::Honest).unwrap();
    office.log_in(&["--mfa"], Some("123456")).unwrap();

    let listed = office.administer(&["provider", "ls", "--json"]).unwrap();
    assert!(listed.contains(MFA) && !listed.contains(SECRET), "{listed}");
    for (path, log) in office.mesh.logs() {
        assert!(!log.contains(SECRET), "{}", path.display());
    }
    let mut holders = Vec::new();
    let mut folders = vec![office.mesh.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if contains(&std::fs::read(entry.path()).unwrap(), SECRET.as_bytes()) {
                holders.push(entry.file_name());
            }
        }
    }
    assert_eq!(holders, ["corp.secret"]);
    office.administer(&["provider", "rm", "corp"]).unwrap();
    assert!(!office.mesh.data_dir().join("providers/corp.secret").exists());
    assert_eq!(
        office.whoami().unwrap(),
        None,
        "nobody vouches for the person any more"
    );
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
