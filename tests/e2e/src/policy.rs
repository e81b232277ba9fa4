//! Policy files for tests, short enough to be read where they are used.

use std::fmt::Write as _;

/// An allow rule.
#[derive(Clone, Copy, Debug)]
pub struct Allow {
    /// Who may open.
    pub from: &'static str,
    /// Towards whom.
    pub to: &'static str,
    /// What: `tcp/5432`.
    pub port: &'static str,
}

/// The policy of a perimeter: `groups` of nodes by selector, `rules`, and a lease.
pub fn perimeter(name: &str, lease: &str, groups: &[(&str, &str)], rules: &[Allow]) -> String {
    let mut text = format!(
        "[perimeter]\nname = \"{name}\"\ndescription = \"a test\"\nowners = [\"test@example.com\"]\n\
         criticality = \"high\"\nreview = \"90d\"\nlease = \"{lease}\"\n\n[members]\n"
    );
    for (group, selector) in groups {
        let _ = writeln!(text, "{group} = {{ nodes = \"{selector}\" }}");
    }
    for rule in rules {
        let _ = write!(
            text,
            "\n[[allow]]\nfrom = \"{}\"\nto = \"{}\"\nports = [\"{}\"]\nreason = \"a test\"\n",
            rule.from, rule.to, rule.port
        );
    }
    text
}
