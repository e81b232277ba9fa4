//! Which claims say who is meant: a rule that asks for none of them would let in whoever is alike.

use super::{ClaimWanted, Condition};

/// Whether a condition says who is meant, and not merely what they are like: another's workflow runs on a branch `main`
/// too.
pub(super) fn says_who(condition: &Condition) -> bool {
    let names = condition.claim.names();
    let is_subject = SUBJECT_CLAIMS
        .iter()
        .any(|path| path.iter().copied().eq(names.iter().map(String::as_str)));
    let is_certain = match &condition.wanted {
        ClaimWanted::Text(patterns) => patterns.iter().all(|pattern| {
            let literal = pattern.literal();
            let literal = SUBJECT_PREFIXES
                .iter()
                .find_map(|prefix| literal.strip_prefix(prefix))
                .unwrap_or(&literal);
            literal.chars().any(char::is_alphanumeric)
        }),
        ClaimWanted::Number(_) => true,
        ClaimWanted::Bool(_) => false,
    };
    is_subject && is_certain
}

/// Claims that say who is meant, of Kubernetes, of the CI of GitHub and GitLab, of clouds, and of OAuth (RFC 9068).
pub(super) const SUBJECT_CLAIMS: [&[&str]; 22] = [
    &["sub"],
    &["client_id"],
    &["repository"],
    &["project_path"],
    &["kubernetes.io", "namespace"],
    &["kubernetes.io", "serviceaccount", "uid"],
    &["kubernetes.io", "pod", "uid"],
    &["repository_id"],
    &["repository_owner"],
    &["repository_owner_id"],
    &["job_workflow_ref"],
    &["project_id"],
    &["namespace_path"],
    &["namespace_id"],
    &["azp"],
    &["email"],
    &["oid"],
    &["appid"],
    &["xms_mirid"],
    &["google", "compute_engine", "project_id"],
    &["google", "compute_engine", "project_number"],
    &["google", "compute_engine", "instance_id"],
];
/// How subjects begin whoever's they are, at issuers that anybody may get a token of.
const SUBJECT_PREFIXES: [&str; 2] = ["repo:", "project_path:"];
