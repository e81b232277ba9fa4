//! The repository as texts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A Rust file.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// A file that exists only in a test.
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Numbered lines before the module of tests.
    pub fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1]
                    .trim_start()
                    .trim_start_matches("pub ")
                    .starts_with("mod ")
        });
        let end = tests.unwrap_or(lines.len());
        lines
            .into_iter()
            .take(end)
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// The same without comments and without what stands in string literals.
    pub fn shipped_code(&self) -> impl Iterator<Item = (usize, String)> {
        self.shipped_lines().map(|(number, line)| (number, strip(line)))
    }

    /// Whether the file holds nothing but tests.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// `dir/file.rs:12`, as editors understand it.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies two folders below the root")
        .to_owned()
}

/// A text of the repository.
///
/// # Errors
/// When there is no such file; the error names it.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("the repository should have {path}"))
}

/// Every Rust file of the repository.
///
/// # Errors
/// When a folder cannot be read.
pub fn rust_files() -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<Source>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path
                .strip_prefix(root())
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.push(Source { path, text });
        }
    }
    Ok(())
}

/// Takes comments and the insides of strings out of one line. Strings over several lines are rare enough to be
/// treated as code: they can only lead to a complaint too many.
fn strip(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match (in_string, c) {
            (true, '\\') => {
                chars.next();
            }
            (_, '"') => {
                in_string = !in_string;
                code.push('"');
            }
            (true, _) => {}
            // The literal '"' begins no string.
            (false, '\'') if chars.peek() == Some(&'"') => {
                chars.nth(1);
            }
            (false, '/') if chars.peek() == Some(&'/') => break,
            (false, c) => code.push(c),
        }
    }
    code
}

const FOLDERS: [&str; 5] = ["crates", "node", "controller", "tests", "examples"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(
            strip(r#"let a = "unsafe // \" x"; // todo!()"#),
            r#"let a = ""; "#
        );
        assert_eq!(strip(r#"if c == '"' { f("x") }"#), r#"if c ==  { f("") }"#);
    }

    #[test]
    fn the_module_of_tests_is_not_shipped() {
        let source = Source::new(
            "crates/a/src/lib.rs",
            "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n",
        );

        assert_eq!(source.shipped_lines().count(), 2);
        assert!(!source.is_test());
        assert!(Source::new("tests/e2e/tests/flows.rs", "").is_test());
        assert!(Source::new("crates/a/src/b/tests/bounds.rs", "").is_test());
        assert!(!Source::new("tests/lab/src/lib.rs", "").is_test());
    }
}
