//! Notices on the desktop, where there is one.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use ringfence_tame::tame;

/// Shows a text by `notify-send`, if this person has a desktop and that program. Nothing depends on it.
pub(super) fn show(text: &str) {
    if !has_desktop() {
        return;
    }
    // A body may be read as markup, and its texts come from elsewhere: people's and perimeters' names.
    let body: String = tame(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut command = Command::new("notify-send");
    command
        .args(["--app-name=Ringfence", "--", "Ringfence", &body])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Waited for, so that no dead process is left; it hands the text over and ends.
    let _ = command.status();
}

/// Whether there is a session bus to reach one by.
fn has_desktop() -> bool {
    let at_home = || {
        let folder = env::var_os("XDG_RUNTIME_DIR")?;
        Path::new(&folder).join("bus").exists().then_some(())
    };
    env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() || at_home().is_some()
}
