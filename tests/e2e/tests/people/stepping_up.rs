//! A second factor that ages: the person is told before it ends and when it has, and steps up while all else goes on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use ringfence_e2e::{Live, Office, Script};
use ringfence_lab::{Reach, wait_for, wait_until};

use crate::{SOON, ledger_with_console};

/// The shortest age that a policy may ask for, and what a busy machine adds.
const UNTIL_IT_ENDS: Duration = Duration::from_secs(100);

#[test]
fn a_person_is_told_that_their_second_factor_ends_and_steps_up_without_reconnecting() {
    let mut office = Office::open("people-step", Script::Honest).unwrap();
    let db = office.mesh.node("db", &["role=db"]).unwrap();
    let policy = ledger_with_console().replace("mfa = \"1h\"", "mfa = \"1m\"");
    office.mesh.apply_and_wait(&policy).unwrap();
    let at = db.overlay("ledger").unwrap().v4;
    office.log_in(&["--mfa"], Some("123456")).unwrap();
    // Whoever steps up does so at the provider that vouched for them, however many there are.
    let other = [
        "provider",
        "add",
        "--name",
        "other",
        "--issuer",
        "https://login.example.com",
    ];
    office
        .administer(&[&other[..], &["--client-id", "x"]].concat())
        .unwrap();
    let live = |port| {
        wait_for(SOON, "a connection", || {
            Live::open(office.laptop.host(), db.host(), at.into(), port).ok()
        })
        .unwrap()
    };
    let (data, console) = (live(5432), live(22));
    let shown = office.laptop.host().dir().join("shown");
    let watch = office
        .ringfence(&["watch", "--json", "--before", "30s", "--every", "5s", "--step-up"])
        .unwrap()
        .env("PATH", with_notify_send(&office, &shown))
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/a-desktop")
        .spawn("watch")
        .unwrap();

    wait_until(UNTIL_IT_ENDS, "word that it ends", || {
        watch.log().contains("factor-ends")
    })
    .unwrap();
    console.exchange(SOON).unwrap();
    let status = office.ringfence(&["status"]).unwrap().text().unwrap();
    assert!(status.contains("person: ada@example.com"), "{status}");
    assert!(status.contains("db tcp/22 in ledger: "), "{status}");

    let where_to = || where_to(&watch.log());
    let (url, code) = wait_for(UNTIL_IT_ENDS, "word that it ended, and where to go", where_to).unwrap();
    assert!(watch.log().contains("factor-ended"), "{}", watch.log());
    console.wait_cut(SOON).unwrap();
    data.exchange(SOON).unwrap();
    let status = office.ringfence(&["status"]).unwrap().text().unwrap();
    assert!(status.contains("closed since"), "{status}");
    assert!(status.contains("step up: ringfence login --mfa"), "{status}");
    let told = std::fs::read_to_string(&shown).unwrap();
    assert!(
        told.contains(&url) && told.contains("your second factor is too old"),
        "{told}"
    );

    let page = office
        .browse(&["device", &url, &code, "ada", "lovelace", "123456"])
        .unwrap();

    let is_open = || {
        let at = db.overlay("ledger").unwrap().v4(22);
        let _serving = db.host().serve(at).unwrap();
        office.laptop.host().try_tcp(at, Duration::from_secs(1)) == Reach::Open
    };
    let opened = wait_until(SOON, "the console to be open again", is_open);
    assert!(
        opened.is_ok(),
        "{page}\n{}\n{}",
        watch.log(),
        office.provider_log()
    );
    data.exchange(SOON).unwrap();
}

/// The address that a person is sent to, and the code to enter there.
fn where_to(log: &str) -> Option<(String, String)> {
    let (_, rest) = log.split_once("On any device, open ")?;
    let (url, rest) = rest.split_once(" and enter the code ")?;
    let (code, _) = rest.split_once('\n')?;
    Some((url.to_owned(), code.trim().to_owned()))
}

/// A `PATH` whose `notify-send` writes down what it is to show: there is no desktop here.
fn with_notify_send(office: &Office, shown: &std::path::Path) -> String {
    let folder = office.laptop.host().dir().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> {}\n", shown.display());
    let program = folder.join("notify-send");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    )
}
