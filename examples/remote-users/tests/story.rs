//! The example as people run it.

use std::process::{Command, Stdio};

#[test]
fn everything_that_should_end_a_live_session_ends_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_remote-users"))
        .stdin(Stdio::null())
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}");
    assert_eq!(said.matches("the live psql session ended ").count(), 5, "{said}");
    for promised in [
        "before the login: the database is not there",
        "psql gets its answer; nothing was restarted, nothing reconnected",
        "log in again with a second factor",
        "olga@example.com (payments-db)",
        "goes on",
        "All as promised",
    ] {
        assert!(said.contains(promised), "{promised:?} is not in:\n{said}");
    }
    assert!(!said.contains('✗'), "{said}");
}
