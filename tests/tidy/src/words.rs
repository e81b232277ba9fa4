//! Words that may not stand in code, and where `unsafe` may.

use crate::{Complaint, rooms::Layer, source::Source};

struct Ban {
    word: &'static str,
    scope: Scope,
    except: &'static [&'static str],
    reason: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everywhere,
    Shipped,
    Pure,
}

/// Banned words in code.
pub fn bans(files: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with("tests/tidy/")) {
        for ban in BANS.iter().filter(|ban| ban.applies_to(file)) {
            let complain = |line| format!("{}: `{}`: {}", file.at(line), ban.word, ban.reason);
            if ban.scope == Scope::Everywhere {
                let lines = file.text.lines().enumerate();
                complaints.extend(
                    lines
                        .filter(|(_, line)| has(line, ban.word))
                        .map(|(index, _)| complain(index + 1)),
                );
            } else {
                complaints.extend(
                    file.shipped_code()
                        .filter(|(_, code)| has(code, ban.word))
                        .map(|(n, _)| complain(n)),
                );
            }
        }
    }
    complaints
}

/// `unsafe` outside the one folder that holds it, or without saying why it is sound.
pub fn unsafe_blocks(files: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, code) in file.shipped_code().filter(|(_, code)| is_unsafe(code)) {
            if !UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
                complaints.push(format!(
                    "{}: `unsafe` belongs under {}",
                    file.at(number),
                    UNSAFE_PLACES[0]
                ));
            } else if code.contains("unsafe {") && !explained(&lines[..number]) {
                complaints.push(format!(
                    "{}: `unsafe` needs a `// SAFETY:` comment above it",
                    file.at(number)
                ));
            }
        }
    }
    complaints
}

impl Ban {
    fn applies_to(&self, file: &Source) -> bool {
        let in_scope = match self.scope {
            Scope::Everywhere => true,
            Scope::Shipped => !file.is_test() && !file.path.starts_with("tests/"),
            Scope::Pure => !file.is_test() && Layer::of(&file.path) == Some(Layer::Pure),
        };
        in_scope && !self.except.contains(&file.path.as_str())
    }
}

/// Whether `word` stands in `code` by itself: not as the end of a longer name.
fn has(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !word.starts_with(char::is_alphanumeric) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn is_unsafe(code: &str) -> bool {
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "unsafe trait",
    ]
    .iter()
    .any(|word| has(code, word))
}

/// Whether the comment right above the last of these lines, or that line itself, says why it is sound. A statement may
/// have begun some lines above the block in it.
fn explained(lines: &[&str]) -> bool {
    lines
        .iter()
        .rev()
        .take(SAFETY_LINES_MAX)
        .any(|line| line.contains("// SAFETY:"))
}

/// The node's system calls; and, never shipped, the simulation's stand-in for the clock that boringtun reads.
const UNSAFE_PLACES: &[&str] = &["node/src/sys/", "tests/sim/src/clock.rs"];
const SAFETY_LINES_MAX: usize = 8;

/// boringtun reads its own clock; this is the file that fences it in.
const CLOCK: &[&str] = &["crates/wg/src/clock.rs"];

const BANS: &[Ban] = &[
    Ban {
        word: "#[ignore",
        scope: Scope::Everywhere,
        except: &[],
        reason: "a test that does not run tests nothing",
    },
    Ban {
        word: "todo!(",
        scope: Scope::Everywhere,
        except: &[],
        reason: "finish it or leave it out",
    },
    Ban {
        word: "unimplemented!(",
        scope: Scope::Everywhere,
        except: &[],
        reason: "finish it or leave it out",
    },
    Ban {
        word: "dbg!(",
        scope: Scope::Everywhere,
        except: &[],
        reason: "a leftover",
    },
    Ban {
        word: ".unwrap()",
        scope: Scope::Shipped,
        except: &[],
        reason: "return an error, or `expect(\"why not\")`",
    },
    Ban {
        word: "HashMap",
        scope: Scope::Pure,
        except: &[],
        reason: "its order differs between runs: BTreeMap",
    },
    Ban {
        word: "HashSet",
        scope: Scope::Pure,
        except: &[],
        reason: "its order differs between runs: BTreeSet",
    },
    Ban {
        word: "Instant::now",
        scope: Scope::Pure,
        except: CLOCK,
        reason: "time comes in as an argument",
    },
    Ban {
        word: "SystemTime::now",
        scope: Scope::Pure,
        except: CLOCK,
        reason: "time comes in as an argument",
    },
    Ban {
        word: ".elapsed()",
        scope: Scope::Pure,
        except: CLOCK,
        reason: "time comes in as an argument",
    },
    Ban {
        word: "thread::",
        scope: Scope::Pure,
        except: &[],
        reason: "the cores neither spawn nor sleep",
    },
    Ban {
        word: "std::fs",
        scope: Scope::Pure,
        except: &[],
        reason: "files belong in the shells",
    },
    Ban {
        word: "std::env",
        scope: Scope::Pure,
        except: &[],
        reason: "the environment belongs in the shells",
    },
    Ban {
        word: "thread_rng",
        scope: Scope::Pure,
        except: &[],
        reason: "randomness comes in as a seed",
    },
    Ban {
        word: "OsRng",
        scope: Scope::Pure,
        except: &[],
        reason: "randomness comes in as a seed",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_hash_maps_are_found_in_pure_crates_only() {
        let text = "//! A.\nuse std::collections::HashMap;\nlet now = Instant::now();\n";
        let files = [
            Source::new("crates/policy/src/a.rs", text),
            Source::new("node/src/a.rs", text),
        ];

        let complaints = bans(&files);

        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(
            complaints
                .iter()
                .all(|c| c.starts_with("crates/policy/src/a.rs:")),
            "{complaints:?}"
        );
    }

    #[test]
    fn tests_may_unwrap_and_read_the_clock_but_not_be_ignored() {
        let text =
            "//! A.\n#[cfg(test)]\nmod tests {\n#[ignore = \"slow\"]\nx.unwrap(); Instant::now();\n}\n";

        let complaints = bans(&[Source::new("crates/policy/src/a.rs", text)]);

        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(
            complaints[0].starts_with("crates/policy/src/a.rs:4: `#[ignore`"),
            "{complaints:?}"
        );
    }

    #[test]
    fn only_boringtun_s_fence_reads_the_clock() {
        assert!(
            bans(&[Source::new(
                "crates/wg/src/clock.rs",
                "//! A.\nlet now = Instant::now();\n"
            )])
            .is_empty()
        );
    }

    #[test]
    fn unsafe_needs_its_folder_and_its_reason() {
        let bare = "//! A.\nlet x = unsafe { f() };\n";
        let explained = "//! A.\n// SAFETY: f has no preconditions.\nlet x = unsafe { f() };\n";
        let files = [
            Source::new("node/src/sys/a.rs", explained),
            Source::new("node/src/sys/b.rs", bare),
            Source::new("node/src/tun.rs", explained),
        ];

        let complaints = unsafe_blocks(&files);

        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }
}
