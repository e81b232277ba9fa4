//! Policy files on this machine: found, read, and checked before the controller sees them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ringfence_control::api::{Finding, PolicyFile};
use ringfence_policy::Policy;

use crate::failure::{Exit, Failure};

/// Reads what `-f` names: a file, a folder (its `*.toml`, in order of name), or `-` for standard input.
///
/// # Errors
/// If there is nothing to read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::failed(format_args!("standard input: {error}")))?;
            files.push(PolicyFile {
                name: "stdin".to_owned(),
                text,
            });
        } else if path.is_dir() {
            for file in folder(path)? {
                files.push(read_one(&file)?);
            }
        } else {
            files.push(read_one(path)?);
        }
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let shown = path.display();
    let entries =
        std::fs::read_dir(path).map_err(|error| Failure::failed(format_args!("{shown}: {error}")))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::failed(format_args!("{shown}: {error}")))?;
        let file = entry.path();
        if file.extension().is_some_and(|extension| extension == "toml") && file.is_file() {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("{shown} holds no policy files (*.toml)"),
        )
        .help("name the folder that holds them, or one file"));
    }
    found.sort();
    Ok(found)
}

fn read_one(path: &Path) -> Result<PolicyFile, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(PolicyFile {
            name: path.display().to_string(),
            text,
        }),
        Err(error) => Err(Failure::failed(format_args!("{}: {error}", path.display()))
            .help("name a file that can be read, or - for standard input")),
    }
}

/// Checks the files without the controller, so that a misspelt key is found on a train.
///
/// # Errors
/// With every error of every file.
pub(crate) fn check(files: &[PolicyFile]) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for file in files {
        if let Err(errors) = Policy::parse(&file.name, &file.text) {
            findings.extend(
                errors
                    .0
                    .iter()
                    .map(|error| (Finding::from(error), Some(file.text.clone()))),
            );
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    let count = findings.len();
    let mut failure = Failure::failed(format_args!(
        "{count} error{} in policy: nothing was applied",
        if count == 1 { "" } else { "s" }
    ));
    failure.findings = findings;
    Err(failure)
}

/// Puts the text that this machine has behind the findings the controller sent.
pub(crate) fn with_texts(mut failure: Failure, files: &[PolicyFile]) -> Failure {
    for (finding, text) in &mut failure.findings {
        *text = files
            .iter()
            .find(|file| file.name == finding.file)
            .map(|file| file.text.clone());
    }
    failure
}
