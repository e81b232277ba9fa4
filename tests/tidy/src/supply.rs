//! What comes in from outside: reasons, floors, features, licences.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use toml::Table;

use crate::Complaint;

/// Versions below which a known hole is open.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("quinn-proto", [0, 11, 14]),    // a peer could make an endpoint panic
    ("rustls-webpki", [0, 103, 12]), // name constraints and revocation were judged too mildly
    ("curve25519-dalek", [4, 1, 3]), // timing of scalar subtraction
    ("sqlx", [0, 8, 1]),             // lengths were cut off in the binary protocol
];

/// Packages that no lock file of ours may hold.
const BANNED: &[(&str, &str)] = &[
    (
        "mock_instant",
        "boringtun's feature `mock-instant` is on: with it tunnels never expire",
    ),
    ("openssl-sys", "one TLS stack, rustls"),
];

/// Features of which no program may have any: the simulation alone, in a workspace of its own, turns them on.
const FORBIDDEN_FEATURES: &[(&str, &str, &str)] = &[
    ("boringtun", "mock-instant", "with it tunnels never expire"),
    (
        "ringfence-model",
        "sabotage",
        "with it safeguards can be switched off",
    ),
    ("ringfence-wg", "null-cipher", "with it nothing is encrypted"),
];

/// Dependencies of the workspace without a sentence that says why they are here.
///
/// # Errors
/// When there is no such section.
pub fn reasons(root_manifest: &str) -> Result<Vec<Complaint>> {
    let (_, section) = root_manifest
        .split_once("[workspace.dependencies]\n")
        .context("no [workspace.dependencies]")?;
    let lines = section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .map(str::trim);
    let dependencies: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("ringfence-"))
        .collect();
    ensure!(!dependencies.is_empty(), "found no dependencies to check");
    let unexplained = dependencies.iter().filter(|line| {
        let reason = line.rsplit_once(" # ").map(|(_, reason)| reason.trim());
        reason.is_none_or(|reason| reason.len() < REASON_LEN_MIN)
    });
    Ok(unexplained
        .map(|line| format!("Cargo.toml: say why at the end of the line: {line}"))
        .collect())
}

/// Locked versions below a floor, and packages that may not be there at all.
///
/// # Errors
/// When the lock file cannot be read.
pub fn locked(lock: &str) -> Result<Vec<Complaint>> {
    let lock: Table = lock.parse()?;
    let packages = lock
        .get("package")
        .and_then(toml::Value::as_array)
        .context("no packages in Cargo.lock")?;
    let mut complaints = Vec::new();
    for package in packages {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        let floor = FLOORS.iter().find(|(floored, _)| *floored == name);
        if let Some((_, floor)) = floor
            && numbers(version).with_context(|| format!("{name} has the odd version {version}"))? < *floor
        {
            complaints.push(format!(
                "Cargo.lock: {name} {version} has a known hole, mended in {floor:?}"
            ));
        }
        if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            complaints.push(format!("Cargo.lock: {name} may not be here: {reason}"));
        }
    }
    Ok(complaints)
}

/// The licences that deny.toml allows.
///
/// # Errors
/// When it names none.
pub fn allowed_licences(deny: &str) -> Result<Vec<String>> {
    let deny: Table = deny.parse()?;
    let allow = deny
        .get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(toml::Value::as_array);
    let allow = allow.context("deny.toml should have licenses.allow")?;
    Ok(allow
        .iter()
        .filter_map(toml::Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// Packages whose licence lets nobody ship them under what we allow. `metadata` is what `cargo metadata` prints.
///
/// # Errors
/// When that cannot be read.
pub fn licences(metadata: &str, allowed: &[String]) -> Result<Vec<Complaint>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata should list packages")?;
    let mut refused = BTreeMap::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let licence = package["license"].as_str().unwrap_or("none stated");
        if !Expression::new(licence).allowed_by(allowed) {
            refused.insert(package["name"].as_str().unwrap_or_default(), licence);
        }
    }
    Ok(refused
        .into_iter()
        .map(|(name, licence)| format!("{name}: deny.toml does not allow {licence}"))
        .collect())
}

/// Features that a program of this workspace would be built with and may not. `metadata` is what `cargo metadata` prints.
///
/// # Errors
/// When that cannot be read.
pub fn features(metadata: &str) -> Result<Vec<Complaint>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo metadata should say what is resolved")?;
    let mut complaints = Vec::new();
    for (package, feature, why) in FORBIDDEN_FEATURES {
        let of_package = nodes
            .iter()
            .filter(|node| is_package(node["id"].as_str().unwrap_or_default(), package));
        let on = of_package
            .filter_map(|node| node["features"].as_array())
            .any(|features| features.iter().any(|name| name == feature));
        if on {
            complaints.push(format!("{package}: the feature `{feature}` is on: {why}"));
        }
    }
    Ok(complaints)
}

/// Whether a package id of cargo is of this package: `registry+…#name@1.2.3` or `path+…/folder#name@0.1.0`.
fn is_package(id: &str, name: &str) -> bool {
    let named = id.rsplit_once('#').map(|(_, named)| named);
    named
        .and_then(|named| named.split_once('@'))
        .is_some_and(|(found, _)| found == name)
}

/// A licence expression of SPDX: `AND` binds tighter than `OR`; an old `/` means `OR`.
struct Expression {
    words: Vec<String>,
    at: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let spaced = text
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('/', " OR ")
            .replace(" WITH ", "+WITH+");
        let words = spaced
            .split_whitespace()
            .map(|word| word.replace("+WITH+", " WITH "))
            .collect();
        Self { words, at: 0 }
    }

    fn allowed_by(mut self, allowed: &[String]) -> bool {
        self.any(allowed) && self.at == self.words.len()
    }

    fn any(&mut self, allowed: &[String]) -> bool {
        let mut result = self.all(allowed);
        while self.take("OR") {
            // Both sides are read in any case, so that reading goes on after them.
            result |= self.all(allowed);
        }
        result
    }

    fn all(&mut self, allowed: &[String]) -> bool {
        let mut result = self.one(allowed);
        while self.take("AND") {
            result &= self.one(allowed);
        }
        result
    }

    fn one(&mut self, allowed: &[String]) -> bool {
        if self.take("(") {
            let result = self.any(allowed);
            return self.take(")") && result;
        }
        let word = self.words.get(self.at);
        self.at += 1;
        word.is_some_and(|word| allowed.contains(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(found);
        found
    }
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some([next()?, next()?, next()?])
}

const REASON_LEN_MIN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let text = "[workspace.dependencies]\nringfence-wg = { path = \"crates/wg\" }\n# -- formats\n\
                    hex = \"0.4\" # fingerprints\ntoml = \"1\"\n[profile.dev]\ndebug = 1\n";

        let complaints = reasons(text).unwrap();

        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("toml"), "{complaints:?}");
    }

    #[test]
    fn a_version_with_a_known_hole_is_found_and_so_is_the_test_clock() {
        let lock = "[[package]]\nname = \"quinn-proto\"\nversion = \"0.11.9\"\n\
                    [[package]]\nname = \"rustls-webpki\"\nversion = \"0.103.12\"\n\
                    [[package]]\nname = \"curve25519-dalek\"\nversion = \"5.0.0-pre.1\"\n\
                    [[package]]\nname = \"mock_instant\"\nversion = \"0.6.0\"\n";

        let complaints = locked(lock).unwrap();

        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("quinn-proto 0.11.9") && complaints[1].contains("mock-instant"));
    }

    #[test]
    fn a_forbidden_feature_is_found() {
        let metadata = |features: &str| {
            format!(
                r#"{{"resolve": {{"nodes": [
                    {{"id": "path+file:///r/crates/model#ringfence-model@0.1.0", "features": [{features}]}},
                    {{"id": "registry+https://example.com#boringtun@0.7.1", "features": []}}]}}}}"#
            )
        };

        assert_eq!(features(&metadata(r#""openapi""#)).unwrap(), Vec::<String>::new());
        let complaints = features(&metadata(r#""openapi", "sabotage""#)).unwrap();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-2.0",
            "(GPL-3.0 OR MIT) AND Apache-2.0",
        ] {
            assert!(Expression::new(good).allowed_by(&allowed), "{good}");
        }
        assert!(Expression::new("Apache-2.0 WITH LLVM-exception AND MIT").allowed_by(&allowed));
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "",
            "MIT MIT",
            "(MIT",
        ] {
            assert!(!Expression::new(bad).allowed_by(&allowed), "{bad}");
        }
    }
}
