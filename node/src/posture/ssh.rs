//! Whether sshd lets anyone in by a password, by its files.
//!
//! `sshd -T` would tell exactly, and this program starts no other. So the files are read as sshd reads them: the first
//! word on a matter counts, `Include` puts files in place, and what a `Match` block lets in counts as let in. What sshd
//! is told on its command line is not seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::machine::{at, unreadable};

/// What the files say on the matters that are asked.
#[derive(Default)]
struct Settings {
    /// The first word on each, for everybody.
    global: BTreeMap<&'static str, bool>,
    /// Every word that lets in, for some.
    matched: BTreeMap<&'static str, bool>,
    files_read: usize,
}

/// Where a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Global,
    Match,
}

pub(super) fn lets_passwords_in(root: &Path) -> Result<bool, String> {
    let mut settings = Settings::default();
    match fs::read_to_string(at(root, CONFIG)) {
        Ok(text) => {
            settings.read(root, &text, Scope::Global, DEPTH_MAX)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let is_there = SERVERS.iter().any(|path| at(root, path).exists());
            if !is_there {
                return Ok(false);
            }
        }
        Err(error) => return Err(unreadable(CONFIG, &error)),
    }
    Ok(settings.lets_passwords_in())
}

impl Settings {
    /// A password is asked for by its own method, or by PAM through the keyboard-interactive one.
    fn lets_passwords_in(&self) -> bool {
        let by_default = [(PASSWORD, true), (KEYBOARD, true), (PAM, false)];
        let [password, keyboard, pam] = by_default.map(|(key, default)| {
            let global = self.global.get(key).copied().unwrap_or(default);
            global || self.matched.get(key).copied().unwrap_or(false)
        });
        password || keyboard && pam
    }

    /// Reads lines that begin in `scope`.
    fn read(&mut self, root: &Path, text: &str, scope: Scope, depth: u8) -> Result<(), String> {
        self.files_read += 1;
        if depth == 0 || self.files_read > FILES_MAX {
            return Err(format!("{CONFIG} includes more than is read"));
        }
        let mut scope = scope;
        for line in text.lines() {
            let Some((keyword, rest)) = keyword_of(line) else {
                continue;
            };
            match keyword.as_str() {
                "match" => scope = Scope::Match,
                "include" => {
                    for pattern in words(rest)? {
                        self.include(root, &pattern, scope, depth)?;
                    }
                }
                "passwordauthentication" => self.note(PASSWORD, rest, scope)?,
                "kbdinteractiveauthentication" | "challengeresponseauthentication" => {
                    self.note(KEYBOARD, rest, scope)?;
                }
                "usepam" => self.note(PAM, rest, scope)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, key: &'static str, rest: &str, scope: Scope) -> Result<(), String> {
        let words = words(rest)?;
        let lets_in = match words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
            Some("yes" | "true") => true,
            Some("no" | "false") => false,
            _ => return Err(format!("{CONFIG} is not as sshd_config(5) says")),
        };
        match scope {
            Scope::Global => {
                self.global.entry(key).or_insert(lets_in);
            }
            Scope::Match => *self.matched.entry(key).or_default() |= lets_in,
        }
        Ok(())
    }

    /// The files of one pattern, in order of name. A `Match` in one ends with it.
    fn include(&mut self, root: &Path, pattern: &str, scope: Scope, depth: u8) -> Result<(), String> {
        let pattern = if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("/etc/ssh/{pattern}")
        };
        let (folder, file) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
        if folder.contains(['*', '?', '[']) || file.contains('[') {
            return Err(format!("{CONFIG} includes {pattern}, which is not understood"));
        }
        let names = match fs::read_dir(at(root, folder)) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(folder, &error)),
        };
        let names = names.filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| fits(name.as_bytes(), file.as_bytes()))
            .collect();
        names.sort();
        for name in names
            .iter()
            .filter(|name| !name.starts_with('.') || file.starts_with('.'))
        {
            let path = format!("{folder}/{name}");
            let text = fs::read_to_string(at(root, &path)).map_err(|error| unreadable(&path, &error))?;
            self.read(root, &text, scope, depth - 1)?;
        }
        Ok(())
    }
}

/// The keyword of a line in lower case, and what follows it: after blanks, with at most one `=` among them.
fn keyword_of(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line
        .find(|c: char| c.is_whitespace() || c == '=')
        .unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Some((keyword.trim_matches('"').to_ascii_lowercase(), rest.trim_start()))
}

/// Words as sshd splits them: by blanks, but not within double quotes; a `#` begins a comment.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or_else(|| format!("{CONFIG} has a quote without an end"))?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

/// Whether a name fits a pattern of `*` and `?` (glob(7)).
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', pattern)), _) => (0..=name.len()).any(|taken| fits(&name[taken..], pattern)),
        (Some((b'?', pattern)), Some((_, name))) => fits(name, pattern),
        (Some((wanted, pattern)), Some((found, name))) => wanted == found && fits(name, pattern),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The file; with what it includes by default it is all that is read.
pub(crate) const CONFIG: &str = "/etc/ssh/sshd_config";
pub(crate) const CONFIG_FOLDER: &str = "/etc/ssh/sshd_config.d";

const SERVERS: [&str; 2] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"];
const PASSWORD: &str = "password";
const KEYBOARD: &str = "keyboard-interactive";
const PAM: &str = "pam";
const DEPTH_MAX: u8 = 16;
const FILES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// With `sshd_config` and files in `sshd_config.d`.
    fn machine(config: &str, more: &[(&str, &str)]) -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().join("etc/ssh/sshd_config.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(machine.path().join("etc/ssh/sshd_config"), config).unwrap();
        for (name, text) in more {
            fs::write(folder.join(name), text).unwrap();
        }
        machine
    }

    fn lets_in(config: &str) -> bool {
        lets_passwords_in(machine(config, &[]).path()).unwrap()
    }

    #[test]
    fn the_first_word_counts_and_without_one_passwords_are_let_in() {
        assert!(lets_in(""));
        assert!(!lets_in("PasswordAuthentication no\n"));
        assert!(!lets_in(
            "passwordauthentication = no # hardened\nPasswordAuthentication yes\n"
        ));
        assert!(lets_in("PasswordAuthentication yes\nPasswordAuthentication no\n"));
        assert!(lets_in("#PasswordAuthentication no\n"));
        assert!(!lets_in("PasswordAuthentication \"no\"\n"));
    }

    #[test]
    fn pam_may_ask_for_a_password_too() {
        assert!(lets_in("PasswordAuthentication no\nUsePAM yes\n"));
        assert!(!lets_in(
            "PasswordAuthentication no\nUsePAM yes\nKbdInteractiveAuthentication no\n"
        ));
        assert!(!lets_in(
            "PasswordAuthentication no\nUsePAM yes\nChallengeResponseAuthentication no\n"
        ));
    }

    #[test]
    fn whom_a_match_block_lets_in_is_let_in() {
        assert!(lets_in(
            "PasswordAuthentication no\nMatch User backup\n  PasswordAuthentication yes\n"
        ));
        assert!(!lets_in(
            "PasswordAuthentication no\nMatch User backup\n  PasswordAuthentication no\n"
        ));
        assert!(lets_in("Match User backup\n  PasswordAuthentication no\n"));
    }

    #[test]
    fn what_is_included_comes_where_it_is_included() {
        let include = "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n";
        let first = machine(
            include,
            &[
                ("50-cloud.conf", "PasswordAuthentication no\n"),
                ("60.conf.bak", "x y"),
            ],
        );
        let late = machine(
            "PasswordAuthentication no\nInclude sshd_config.d/*.conf\n",
            &[("50-cloud.conf", "PasswordAuthentication yes\n")],
        );
        let matched = machine(
            "Include sshd_config.d/*.conf\nPasswordAuthentication no\n",
            &[("a.conf", "Match User x\nPasswordAuthentication yes\n")],
        );

        assert_eq!(lets_passwords_in(first.path()), Ok(false));
        assert_eq!(lets_passwords_in(late.path()), Ok(false));
        assert_eq!(lets_passwords_in(matched.path()), Ok(true));
    }

    #[test]
    fn what_is_not_understood_is_not_claimed() {
        for odd in [
            "PasswordAuthentication maybe\n",
            "PasswordAuthentication\n",
            "Include /etc/*/x.conf\n",
            "PasswordAuthentication \"no\n",
        ] {
            assert!(lets_passwords_in(machine(odd, &[]).path()).is_err(), "{odd}");
        }
        let circle = machine("Include sshd_config.d/*\n", &[("a", "Include sshd_config.d/*\n")]);
        assert!(lets_passwords_in(circle.path()).is_err());
    }

    #[test]
    fn without_sshd_nobody_is_let_in_and_without_its_file_its_defaults_count() {
        let machine = tempfile::tempdir().unwrap();
        assert_eq!(lets_passwords_in(machine.path()), Ok(false));

        fs::create_dir_all(machine.path().join("usr/sbin")).unwrap();
        fs::write(machine.path().join("usr/sbin/sshd"), "").unwrap();
        assert_eq!(lets_passwords_in(machine.path()), Ok(true));
    }
}
