//! What the documents promise: `make` targets that exist, and a map that names every room.

use crate::{Complaint, rooms::ROOMS};

/// `make` targets that a document names and the Makefile lacks.
pub fn targets(makefile: &str, path: &str, document: &str) -> Vec<Complaint> {
    let known: Vec<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let unknown = named_targets(document)
        .into_iter()
        .filter(|target| !known.contains(&target.as_str()));
    unknown
        .map(|target| format!("{path}: names `make {target}`, which the Makefile does not have"))
        .collect()
}

/// Rooms that ARCHITECTURE.md forgot.
pub fn map(architecture: &str) -> Vec<Complaint> {
    let missing = ROOMS.iter().filter(|room| {
        let (name, folder) = (format!("`{}`", room.folder), format!("`{}/`", room.folder));
        !architecture.contains(&name) && !architecture.contains(&folder)
    });
    missing
        .map(|room| format!("ARCHITECTURE.md: should say what `{}` is for", room.folder))
        .collect()
}

/// Targets in code: after a backtick, in an indented block, or in a fenced one.
fn named_targets(document: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            targets.extend(
                line.trim_start()
                    .trim_start_matches("$ ")
                    .strip_prefix("make ")
                    .map(word),
            );
        } else {
            targets.extend(
                line.match_indices("`make ")
                    .map(|(at, found)| word(&line[at + found.len()..])),
            );
        }
    }
    targets
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_lowercase() || *c == '-')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_does_not_exist_is_found_wherever_it_is_named() {
        let makefile = "test: setup ## run\n\tcargo test\nsetup:\n";
        let document = "Say `make test` or `make tea`.\n```sh\n$ make coffee  # hot\nmake setup\n```\n    make cake\n\
                        They make bread.\n";

        let complaints = targets(makefile, "README.md", document);

        let unknown = ["tea", "coffee", "cake"];
        assert_eq!(complaints.len(), unknown.len(), "{complaints:?}");
        assert!(
            unknown
                .iter()
                .zip(&complaints)
                .all(|(target, c)| c.contains(&format!("`make {target}`")))
        );
    }

    #[test]
    fn a_room_missing_on_the_map_is_found() {
        assert!(
            map("| `crates/wg` | … |")
                .iter()
                .any(|complaint| complaint.contains("`crates/path`"))
        );
        assert!(
            !map("| `node/` | … |")
                .iter()
                .any(|complaint| complaint.contains("`node`"))
        );
    }
}
