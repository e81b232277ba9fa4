//! Holds this repository against every rule. All complaints of a rule are shown at once.

use std::{fs, process::Command};

use ringfence_tidy::{
    Complaint, layout, menu, proofs,
    rooms::{self, Layer, ROOMS},
    source::{read, root, rust_files},
    supply, words,
};

#[test]
fn every_file_begins_by_saying_what_it_owns() {
    tidy(&layout::heads(&rust_files().unwrap()));
}

#[test]
fn no_file_is_too_long() {
    tidy(&layout::lengths(&rust_files().unwrap()));
}

#[test]
fn no_file_is_named_vaguely() {
    tidy(&layout::names(&rust_files().unwrap()));
}

#[test]
fn no_banned_word_stands_in_code() {
    tidy(&words::bans(&rust_files().unwrap()));
}

#[test]
fn unsafe_stays_in_its_folder_and_gives_its_reason() {
    tidy(&words::unsafe_blocks(&rust_files().unwrap()));
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let mut complaints = rooms::members(&read("Cargo.toml").unwrap()).unwrap();
    for room in ROOMS {
        let manifest = read(&format!("{}/Cargo.toml", room.folder)).unwrap();
        complaints.extend(rooms::manifest(room, &manifest).unwrap());
    }
    tidy(&complaints);
}

#[test]
fn the_purity_line_s_lints_reach_every_pure_crate() {
    let replaced = |folder: &str| root().join(folder).join("clippy.toml").exists();
    let pure = ROOMS
        .iter()
        .filter(|room| room.layer == Layer::Pure && replaced(room.folder));
    tidy(
        &pure
            .map(|room| format!("{}/clippy.toml hides crates/clippy.toml", room.folder))
            .collect::<Vec<_>>(),
    );

    let lints = read("crates/clippy.toml").unwrap();
    for word in [
        "Instant::now",
        "SystemTime::now",
        "HashMap",
        "UdpSocket",
        "std::fs::File",
        "thread::spawn",
    ] {
        assert!(lints.contains(word), "crates/clippy.toml should ban {word}");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    tidy(&supply::reasons(&read("Cargo.toml").unwrap()).unwrap());
}

#[test]
fn no_locked_version_has_a_known_hole() {
    tidy(&supply::locked(&read("Cargo.lock").unwrap()).unwrap());
}

#[test]
fn every_licence_is_one_we_can_ship() {
    let metadata = metadata();
    let allowed = supply::allowed_licences(&read("deny.toml").unwrap()).unwrap();
    tidy(&supply::licences(&metadata, &allowed).unwrap());
}

#[test]
fn no_program_has_a_clock_or_a_switch_of_the_simulation() {
    tidy(&supply::features(&metadata()).unwrap());
}

#[test]
fn documents_name_only_targets_that_exist() {
    let makefile = read("Makefile").unwrap();
    for document in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        tidy(&menu::targets(&makefile, document, &read(document).unwrap()));
    }
    for line in read(".ci/run")
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("make "))
    {
        tidy(&menu::targets(&makefile, ".ci/run", &format!("`{line}`")));
    }
}

#[test]
fn the_map_names_every_room() {
    tidy(&menu::map(&read("ARCHITECTURE.md").unwrap()));
}

#[test]
fn what_is_said_of_security_is_shown_by_tests_that_exist() {
    let document = read("docs/security.md").unwrap();
    tidy(&proofs::claims("docs/security.md", &document, |path| {
        read(path).ok()
    }));
}

#[test]
fn scripts_are_executable_and_stop_at_the_first_error() {
    use std::os::unix::fs::PermissionsExt;

    let mut complaints = Vec::new();
    for path in ["scripts/setup.sh", "scripts/bench-peers.sh", ".ci/run"] {
        if fs::metadata(root().join(path)).unwrap().permissions().mode() & 0o111 == 0 {
            complaints.push(format!("{path} should be executable"));
        }
        if !read(path).unwrap().contains("set -euo pipefail") {
            complaints.push(format!("{path} should `set -euo pipefail`"));
        }
    }
    tidy(&complaints);
}

/// What cargo says of this workspace.
fn metadata() -> String {
    // What is not built for this platform need not be there, so it is not asked for.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform",
            &platform,
        ])
        .current_dir(root())
        .output()
        .expect("the tests are run by cargo");
    assert!(
        cargo.status.success(),
        "{}",
        String::from_utf8_lossy(&cargo.stderr)
    );
    String::from_utf8(cargo.stdout).expect("cargo prints UTF-8")
}

#[track_caller]
fn tidy(complaints: &[Complaint]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}
