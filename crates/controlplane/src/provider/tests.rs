//! Which providers may be configured, and what proves a second factor.

use super::*;

pub(crate) fn provider() -> Provider {
    Provider {
        name: Name::parse("corp").unwrap(),
        issuer: "https://login.example.com".to_owned(),
        client_id: "ringfence".to_owned(),
        confidential: true,
        scopes: vec!["profile".to_owned(), "email".to_owned()],
        groups_claim: Some("groups".to_owned()),
        directory_claim: None,
        session_ms: 12 * 3_600_000,
        second_factor: SecondFactor {
            acr: BTreeSet::from(["urn:example:mfa".to_owned()]),
            amr: ["mfa", "otp", "hwk"].map(String::from).into(),
        },
        allow_private_address: false,
        ca_pem: None,
    }
}

#[test]
fn a_provider_is_named_by_a_bare_https_url() {
    assert_eq!(provider().check(), Ok(()));
    for issuer in [
        "http://login.example.com",
        "https://",
        "https:///x",
        "login.example.com",
        "https://login.example.com?x=1",
        "https://login.example.com#x",
        "https://ada@login.example.com",
        "https://login.example.com/\n",
    ] {
        let odd = Provider {
            issuer: issuer.to_owned(),
            ..provider()
        };
        assert!(odd.check().is_err(), "{issuer}");
    }
}

#[test]
fn sessions_and_lists_are_bounded() {
    for session_ms in [0, 59_999, 31 * 86_400_000] {
        let odd = Provider {
            session_ms,
            ..provider()
        };
        assert!(odd.check().is_err(), "{session_ms}");
    }
    let many = Provider {
        scopes: (0..100).map(|n| n.to_string()).collect(),
        ..provider()
    };
    assert!(many.check().is_err());
}

#[test]
fn a_second_factor_is_what_was_said_to_be_one() {
    let rules = provider().second_factor;
    let amr = |words: &[&str]| words.iter().map(ToString::to_string).collect();

    assert!(rules.is_proved_by(Some("urn:example:mfa"), &amr(&[])));
    assert!(rules.is_proved_by(None, &amr(&["pwd", "otp"])));
    assert!(!rules.is_proved_by(Some("urn:example:pwd"), &amr(&["pwd"])));
    assert!(!rules.is_proved_by(None, &amr(&[])));
    assert!(!SecondFactor::default().is_proved_by(Some("urn:example:mfa"), &amr(&["mfa"])));
}
