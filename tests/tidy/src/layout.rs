//! How a file begins, how long it is, what it is called.

use crate::{Complaint, source::Source};

/// Every file begins by saying what it owns.
pub fn heads(files: &[Source]) -> Vec<Complaint> {
    let bad = |file: &&Source| {
        let first = file.text.lines().next().unwrap_or_default();
        first
            .strip_prefix("//!")
            .is_none_or(|text| text.trim().len() < HEAD_LEN_MIN || text.contains("Placeholder"))
    };
    let complain = |file: &Source| {
        format!(
            "{}: the first line should be `//!` and what the file owns",
            file.at(1)
        )
    };
    files.iter().filter(bad).map(complain).collect()
}

/// A file that grew too long has a second reason to change: split it.
pub fn lengths(files: &[Source]) -> Vec<Complaint> {
    let shipped = files.iter().filter(|file| !file.is_test());
    shipped
        .filter_map(|file| {
            let length = file.shipped_lines().count();
            (length > FILE_LINES_MAX).then(|| {
                format!(
                    "{}: {length} lines without tests, {FILE_LINES_MAX} at most",
                    file.path
                )
            })
        })
        .collect()
}

/// A file is a noun or a direction, never a place for odds and ends.
pub fn names(files: &[Source]) -> Vec<Complaint> {
    let vague = |file: &Source| {
        if NAMED_FOR_A_TYPE.contains(&file.path.as_str()) {
            return None;
        }
        let mut parts = file.path.trim_end_matches(".rs").split('/');
        parts.find(|part| VAGUE_NAMES.contains(part)).map(|part| {
            format!(
                "{}: `{part}` says nothing; name the file after what it owns",
                file.path
            )
        })
    };
    files.iter().filter_map(vague).collect()
}

const HEAD_LEN_MIN: usize = 8;
const FILE_LINES_MAX: usize = 500;
const VAGUE_NAMES: [&str; 12] = [
    "util", "utils", "helper", "helpers", "common", "manager", "managers", "service", "services", "misc",
    "shared", "stuff",
];

/// `Service` is what a rule opens, a word of the policy file.
const NAMED_FOR_A_TYPE: [&str; 1] = ["crates/policy/src/service.rs"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let files = [
            Source::new("crates/a/src/a.rs", "//! Owns the flows.\n"),
            Source::new("crates/a/src/b.rs", "use std::fs;\n"),
            Source::new("crates/a/src/c.rs", "//!\n"),
        ];

        assert_eq!(heads(&files).len(), 2);
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let long = "//! Long.\n".repeat(FILE_LINES_MAX + 1);
        let tested = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let files = [
            Source::new("crates/a/src/a.rs", &long),
            Source::new("crates/a/src/b.rs", &tested),
            Source::new("tests/e2e/tests/c.rs", &long),
        ];

        assert_eq!(lengths(&files).len(), 1);
    }

    #[test]
    fn a_vague_name_is_found_as_a_file_and_as_a_folder() {
        let files = [
            "node/src/utils.rs",
            "tests/e2e/tests/common/mod.rs",
            "node/src/tun.rs",
        ];
        let files = files.map(|path| Source::new(path, ""));

        assert_eq!(names(&files).len(), 2);
    }
}
