//! Tokens that prove nothing, signed with real keys by an issuer that an administrator was talked into.

use ringfence_e2e::{Office, Script};
use ringfence_lab::wait_until;

use crate::SOON;

#[test]
fn tokens_that_prove_nothing_log_nobody_in() {
    let office = Office::open("people-rogue", Script::Rogue).unwrap();
    // The machinery is sound: an honest token from the same issuer is a login.
    assert!(visit(&office, "none").is_ok());
    office.ringfence(&["logout"]).unwrap().text().unwrap();

    let faults = [
        ("wrong-audience", "audience"),
        ("second-audience", "audience"),
        ("wrong-party", "azp"),
        ("wrong-issuer", "issuer"),
        ("expired", "xpired"),
        ("from-the-future", "future"),
        ("no-algorithm", "ignature"),
        ("shared-secret", "ignature"),
        ("replayed-nonce", "nonce"),
        ("no-nonce", "nonce"),
        ("foreign-key", "ignature"),
        ("unpublished-key", "does not publish"),
        ("old-proof", "older than a session"),
        ("foreign-issuer", "another identity provider"),
        ("redirecting", "refuses"),
        ("endless", "refuses"),
    ];
    for (fault, why) in faults {
        let refusal = visit(&office, fault)
            .err()
            .unwrap_or_else(|| panic!("{fault} logged somebody in"));
        assert!(refusal.contains(why), "{fault}: {refusal}");
        assert_eq!(office.whoami().unwrap(), None, "{fault}");
    }
    let audit = office.administer(&["audit"]).unwrap();
    assert!(audit.contains("session.start"), "{audit}");
}

#[test]
fn a_key_that_was_turned_is_found_and_nobody_can_make_us_look_too_often() {
    let office = Office::open("people-rogue-keys", Script::Rogue).unwrap();
    assert!(visit(&office, "none").is_ok());

    for _ in 0..6 {
        office.control("turn-keys").unwrap();
        let _ = visit(&office, "none");
    }

    let log = office.mesh.controller().log();
    let asked: Vec<f64> = log
        .lines()
        .filter(|line| line.contains("asked for newer keys"))
        .map(seconds_of_day)
        .collect();
    assert!(!asked.is_empty(), "{log}");
    let mut pauses = asked
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).rem_euclid(86_400.0));
    assert!(pauses.all(|pause| pause > 9.9), "{asked:?}");
    office.control("turn-keys").unwrap();
    wait_until(SOON, "the key to be found when it is time", || {
        visit(&office, "none").is_ok()
    })
    .unwrap();
}

#[test]
fn an_answer_to_another_login_is_not_taken() {
    let office = Office::open("people-rogue-state", Script::Rogue).unwrap();
    office.control("be/foreign-state").unwrap();
    let login = office.begin(&["--no-browser"]).unwrap();

    let page = follow(&office, &login.url);
    assert!(page.contains("not the answer"), "{page}");
    // It still waits for its own, and takes it.
    office.control("be/none").unwrap();
    follow(&office, &login.url);

    assert_eq!(login.session().unwrap()["name"], "mallory@example.com");
}

/// One login at an issuer that makes this fault: why it is refused, if it is.
fn visit(office: &Office, fault: &str) -> Result<serde_json::Value, String> {
    office.control(&format!("be/{fault}")).unwrap();
    let login = office.begin(&["--no-browser"]).unwrap();
    let page = follow(office, &login.url);
    if page.contains("You are logged in") {
        Ok(login.session().unwrap())
    } else {
        Err(login.refusal().unwrap())
    }
}

/// When a line of a log was written: `2026-11-29T21:07:06.925635Z …`.
fn seconds_of_day(line: &str) -> f64 {
    let (_, time) = line.split_once('T').unwrap();
    let (time, _) = time.split_once('Z').unwrap();
    time.split(':')
        .fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

/// What a browser does that nobody sits at.
fn follow(office: &Office, url: &str) -> String {
    let code = "const answer = await fetch(process.argv[1]); console.log(await answer.text());";
    let program = office.laptop.host().command("node");
    let program = program.env("NODE_TLS_REJECT_UNAUTHORIZED", "0");
    program
        .args(["--input-type=module", "-e", code, url])
        .text()
        .unwrap()
}
