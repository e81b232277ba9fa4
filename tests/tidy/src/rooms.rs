//! The rooms of ARCHITECTURE.md and who may use whom. A new edge between our crates needs a line here.

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::Complaint;

/// One of our packages.
pub struct Room {
    /// Its name without `ringfence-`.
    pub name: &'static str,
    /// Where it lies.
    pub folder: &'static str,
    /// On which side of the purity line.
    pub layer: Layer,
    /// Which of our packages it may use.
    pub uses: &'static [&'static str],
}

/// The sides of the purity line, and the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Decides: no I/O, no clock, no randomness.
    Pure,
    /// Acts.
    Shell,
    /// Is not shipped.
    Test,
}

/// All rooms.
pub const ROOMS: &[Room] = &[
    pure("model", "crates/model", &[]),
    pure("packet", "crates/packet", &["model"]),
    pure("tpm", "crates/tpm", &[]),
    pure("policy", "crates/policy", &["model", "packet"]),
    pure("wg", "crates/wg", &["model"]),
    pure("path", "crates/path", &["model"]),
    pure("control", "crates/control", &["model", "policy"]),
    pure(
        "dataplane",
        "crates/dataplane",
        &["model", "packet", "policy", "wg", "path", "control"],
    ),
    pure(
        "controlplane",
        "crates/controlplane",
        &["model", "tpm", "policy", "control"],
    ),
    shell("transport", "crates/transport", &["model", "control"]),
    shell("confine", "crates/confine", &[]),
    shell("tame", "crates/tame", &[]),
    shell(
        "cli",
        "crates/cli",
        &["model", "policy", "control", "transport", "tame"],
    ),
    shell(
        "node",
        "node",
        &[
            "model",
            "dataplane",
            "control",
            "transport",
            "tpm",
            "confine",
            "tame",
        ],
    ),
    shell(
        "controller",
        "controller",
        &[
            "model",
            "packet",
            "tpm",
            "policy",
            "controlplane",
            "control",
            "transport",
            "confine",
            "tame",
        ],
    ),
    test("lab", "tests/lab", &[]),
    test("e2e", "tests/e2e", &["lab", "model", "tpm"]),
    test(
        "instructions",
        "tests/instructions",
        &["model", "packet", "policy", "wg", "control", "dataplane"],
    ),
    test("bench", "tests/bench", &["policy", "lab", "e2e", "instructions"]),
    test("tidy", "tests/tidy", &[]),
    test(
        "fuzz",
        "tests/fuzz",
        &[
            "model",
            "packet",
            "policy",
            "wg",
            "control",
            "dataplane",
            "controlplane",
            "transport",
            "controller",
            "node",
        ],
    ),
    test("example-stage", "examples/stage", &["lab"]),
    test(
        "example-critical-database",
        "examples/critical-database",
        &["lab", "e2e", "example-stage"],
    ),
    test(
        "example-remote-users",
        "examples/remote-users",
        &["lab", "e2e", "example-stage"],
    ),
];

impl Layer {
    /// The layer that a file belongs to.
    pub fn of(path: &str) -> Option<Self> {
        ROOMS
            .iter()
            .find(|room| path.starts_with(&format!("{}/", room.folder)))
            .map(|room| room.layer)
    }
}

/// Members of the workspace without a room, and rooms without a member.
///
/// # Errors
/// When the manifest is not TOML.
pub fn members(root_manifest: &str) -> Result<Vec<Complaint>> {
    let manifest: Table = root_manifest.parse()?;
    let members = manifest["workspace"]["members"]
        .as_array()
        .context("members should be a list")?;
    let members: Vec<&str> = members.iter().filter_map(Value::as_str).collect();
    let homeless = members
        .iter()
        .filter(|&&folder| !ROOMS.iter().any(|room| room.folder == folder));
    let empty = ROOMS.iter().filter(|room| !members.contains(&room.folder));
    Ok(homeless
        .map(|folder| format!("{folder}: a new room needs a line in tests/tidy/src/rooms.rs"))
        .chain(empty.map(|room| {
            format!(
                "{}: a room of tests/tidy that the workspace does not have",
                room.folder
            )
        }))
        .collect())
}

/// What one package's manifest gets wrong.
///
/// # Errors
/// When the manifest is not TOML.
pub fn manifest(room: &Room, text: &str) -> Result<Vec<Complaint>> {
    let manifest: Table = text
        .parse()
        .with_context(|| format!("{}/Cargo.toml", room.folder))?;
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(format!("{}/Cargo.toml: {what}", room.folder));

    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints != Some(&Value::Boolean(true)) {
        complain("the workspace's lints should hold here: `[lints] workspace = true`".to_owned());
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest
            .get(section)
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
        {
            if value.get("workspace") != Some(&Value::Boolean(true)) {
                complain(format!(
                    "{name} should be named in the workspace, with its reason"
                ));
            }
            let ours = name.strip_prefix("ringfence-");
            if let Some(ours) = ours
                && !room.uses.contains(&ours)
            {
                complain(format!(
                    "{} may not use {ours}: arrows go down, see ARCHITECTURE.md",
                    room.name
                ));
            }
            if room.layer == Layer::Pure && section == "dependencies" && IMPURE.contains(&name.as_str()) {
                complain(format!("{name} acts, and {} is below the purity line", room.name));
            }
            if room.layer != Layer::Test && section == "dependencies" && TEST_ONLY.contains(&name.as_str()) {
                complain(format!("{name} belongs in dev-dependencies"));
            }
        }
    }
    Ok(complaints)
}

const fn pure(name: &'static str, folder: &'static str, uses: &'static [&'static str]) -> Room {
    Room {
        name,
        folder,
        layer: Layer::Pure,
        uses,
    }
}

const fn shell(name: &'static str, folder: &'static str, uses: &'static [&'static str]) -> Room {
    Room {
        name,
        folder,
        layer: Layer::Shell,
        uses,
    }
}

const fn test(name: &'static str, folder: &'static str, uses: &'static [&'static str]) -> Room {
    Room {
        name,
        folder,
        layer: Layer::Test,
        uses,
    }
}

/// Crates that read clocks, files, sockets or entropy, or run threads.
const IMPURE: &[&str] = &[
    "axum",
    "getrandom",
    "hyper",
    "hyper-util",
    "libc",
    "quinn",
    "rtnetlink",
    "rusqlite",
    "rustix",
    "rustls",
    "sd-notify",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-rustls",
    "tracing-subscriber",
];

const TEST_ONLY: &[&str] = &["insta", "proptest", "ringfence-lab"];

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> &'static Room {
        ROOMS.iter().find(|room| room.name == name).unwrap()
    }

    #[test]
    fn arrows_only_ever_go_down() {
        for (index, room) in ROOMS.iter().enumerate() {
            for used in room.uses {
                let at = ROOMS.iter().position(|other| other.name == *used).unwrap();
                assert!(at < index, "{} uses {used}", room.name);
            }
        }
        assert!(!room("dataplane").uses.contains(&"controlplane"));
        assert!(!room("controlplane").uses.contains(&"dataplane"));
    }

    #[test]
    fn nothing_below_the_purity_line_uses_what_is_above() {
        for pure in ROOMS.iter().filter(|room| room.layer == Layer::Pure) {
            assert!(
                pure.uses.iter().all(|used| room(used).layer == Layer::Pure),
                "{}",
                pure.name
            );
        }
    }

    #[test]
    fn a_manifest_with_wrong_edges_is_found() {
        let text = "[lints]\nworkspace = true\n[dependencies]\nringfence-controlplane.workspace = true\n\
                    tokio.workspace = true\nhex = \"0.4\"\n[dev-dependencies]\nproptest.workspace = true\n";

        let complaints = manifest(room("dataplane"), text).unwrap();

        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert_eq!(
            manifest(room("node"), "[dependencies]\ntokio.workspace = true\n")
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn a_member_without_a_room_is_found() {
        let complaints = members("[workspace]\nmembers = [\"crates/model\", \"crates/new\"]\n").unwrap();

        assert!(
            complaints[0].starts_with("crates/new: a new room"),
            "{complaints:?}"
        );
    }
}
