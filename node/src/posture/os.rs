//! The distribution and the kernel.

use std::fs;
use std::path::Path;

use super::machine::{at, unreadable};

/// A field of `os-release` (os-release(5)).
pub(super) fn release(root: &Path, key: &str) -> Result<String, String> {
    let read = FILES
        .iter()
        .map(|path| (*path, fs::read_to_string(at(root, path))));
    let mut why = String::new();
    for (path, text) in read {
        match text {
            Ok(text) => return field(&text, key).ok_or_else(|| format!("{path} has no {key}")),
            Err(error) => why = unreadable(path, &error),
        }
    }
    Err(why)
}

/// As `uname -r` prints it (proc_sys_kernel(5)).
pub(super) fn kernel_release(root: &Path) -> Result<String, String> {
    let text = fs::read_to_string(at(root, RELEASE)).map_err(|error| unreadable(RELEASE, &error))?;
    Ok(text.trim().to_owned())
}

/// The last assignment counts, as it does for a shell, which the format is for.
fn field(text: &str, key: &str) -> Option<String> {
    let mut assigned = text.lines().rev().filter_map(|line| line.trim().split_once('='));
    let (_, value) = assigned.find(|(name, _)| *name == key)?;
    let value = unquoted(value.trim());
    (!value.is_empty()).then_some(value)
}

fn unquoted(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| {
        let inner = value.strip_prefix(*quote)?.strip_suffix(*quote)?;
        Some((inner, *quote))
    });
    match inner {
        Some((inner, '"')) => {
            let mut plain = String::new();
            let mut escaped = false;
            for c in inner.chars() {
                if c == '\\' && !escaped {
                    escaped = true;
                } else {
                    plain.push(c);
                    escaped = false;
                }
            }
            plain
        }
        Some((inner, _)) => inner.to_owned(),
        None => value.to_owned(),
    }
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\nODD='a\"b'\nESC=\"a\\\"b\"\nEMPTY=\n";

        assert_eq!(field(text, "ID").as_deref(), Some("debian"));
        assert_eq!(field(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(field(text, "ODD").as_deref(), Some("a\"b"));
        assert_eq!(field(text, "ESC").as_deref(), Some("a\"b"));
        assert_eq!(field(text, "EMPTY"), None);
        assert_eq!(field(text, "VERSION"), None);
    }

    #[test]
    fn a_system_without_the_file_says_so() {
        let empty = tempfile::tempdir().unwrap();

        let why = release(empty.path(), "ID").unwrap_err();

        assert_eq!(why, "/usr/lib/os-release is not there");
    }
}
