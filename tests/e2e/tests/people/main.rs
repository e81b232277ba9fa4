//! People log in: a certified OpenID provider (`oidc-provider`) and a real browser (headless Chromium), each on a machine of
//! its own; and an issuer whose tokens no honest one would make. Machines without a person come in by such tokens, too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod directory;
mod honest;
mod rogue;
mod stepping_up;
mod workload;

/// How long anything here may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// Database administrators reach the database.
const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = { nodes = "role=db" }
dba = { users = "group=dba" }
[[allow]]
from = "dba"
to = "db"
ports = ["tcp/5432"]
"#;

/// Database administrators reach the database, and its console with a second factor.
fn ledger_with_console() -> String {
    let console =
        "[[allow]]\nfrom = \"dba\"\nto = \"db\"\nports = [\"tcp/22\"]\nrequire = { mfa = \"1h\" }\n";
    LEDGER.to_owned() + console
}
