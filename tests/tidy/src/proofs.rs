//! What a document claims is shown by tests: each claim names one, and each one named exists.

use crate::Complaint;

/// Rows of tables that name no test and do not say `no test`, and tests named that `read` does not find.
///
/// A test is written `` `path.rs::name` ``, its path from the root or from `tests/e2e/tests`.
pub fn claims(path: &str, document: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let lines: Vec<&str> = document.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let at = format!("{path}:{}", index + 1);
        let tests: Vec<(&str, &str)> = line.split('`').skip(1).step_by(2).filter_map(test).collect();
        let head = lines.get(index + 1).is_some_and(|next| next.starts_with("| ---"));
        let row = line.starts_with("| ") && !line.starts_with("| ---") && !head;
        if row && tests.is_empty() && !line.contains("no test") {
            complaints.push(format!(
                "{at}: names no test that shows it, and does not say `no test`"
            ));
        }
        let missing = tests.iter().filter(|(file, name)| {
            let text = read(file).or_else(|| read(&format!("tests/e2e/tests/{file}")));
            !text.is_some_and(|text| has_test(&text, name))
        });
        complaints.extend(missing.map(|(file, name)| format!("{at}: there is no test {name} in {file}")));
    }
    complaints
}

fn test(code: &str) -> Option<(&str, &str)> {
    let (file, name) = code.split_once("::")?;
    file.strip_suffix(".rs")?;
    Some((file, name))
}

/// A function of this name right after a `#[test]` of any kind.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let found = lines.iter().position(|line| declared(line));
    found.is_some_and(|at| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        attributes
            .into_iter()
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(document: &str) -> Vec<Complaint> {
        claims("x.md", document, |path| {
            (path == "tests/e2e/tests/a.rs").then(|| {
                "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test]\nasync fn two() {}\n".to_owned()
            })
        })
    }

    #[test]
    fn a_claim_with_its_test_is_fine() {
        let table = "| try | what | by |\n| --- | --- | --- |\n| x | y | `a.rs::one`, `a.rs::two` |\n| x | y | no test: z |\n";

        assert_eq!(complaints(table), Vec::<String>::new());
    }

    #[test]
    fn a_claim_without_one_and_one_that_is_not_there_are_named() {
        let table = "| x | y | trust us |\n`a.rs::helper` and `b.rs::one`\n";

        assert_eq!(
            complaints(table),
            [
                "x.md:1: names no test that shows it, and does not say `no test`",
                "x.md:2: there is no test helper in a.rs",
                "x.md:2: there is no test one in b.rs",
            ]
        );
    }
}
