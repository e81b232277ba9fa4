//! Tokens of platforms, signed with real keys.

use serde_json::json;

use super::super::tests::{Signer, WALL, encode_json, with};
use super::*;

const URL: &str = "https://kubernetes.default.svc";

fn issuer() -> Arc<WorkloadIssuer> {
    let text = format!(
        "[issuer]\nname = \"prod\"\nurl = \"{URL}\"\naudience = \"ringfence\"\n\
         [[admit]]\nclaims.sub = \"system:serviceaccount:payments:db\"\nlabels.role = \"db\"\n"
    );
    Arc::new(WorkloadIssuer::parse("workload.toml", &text).unwrap())
}

fn claims() -> Value {
    json!({
        "iss": URL, "aud": ["ringfence"], "sub": "system:serviceaccount:payments:db",
        "iat": WALL - 5, "nbf": WALL - 5, "exp": WALL + 3600, "jti": "1",
        "kubernetes.io": { "namespace": "payments" },
    })
}

fn judge_at(keys: &Signer, token: &str, wall_s: u64) -> Result<VerifiedWorkload, WorkloadError> {
    let jws = Jws::parse(token, &TYPES)?;
    verify(&jws, &issuer(), &keys.keys(), UnixMillis(wall_s * 1000))
}

fn judge(keys: &Signer, token: &str) -> Result<VerifiedWorkload, WorkloadError> {
    judge_at(keys, token, WALL)
}

#[test]
fn a_good_token_says_who_it_is_and_until_when() {
    let signer = Signer::new("k1");
    let verified = judge(&signer, &signer.sign(&signer.header(), &claims())).unwrap();

    assert_eq!(verified.subject, "system:serviceaccount:payments:db");
    assert_eq!(verified.expires, UnixMillis((WALL + 3600) * 1000));
    assert_eq!(verified.claims["kubernetes.io"]["namespace"], "payments");
    for header in [
        json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "k1", "typ": "application/JWT" }),
        json!({ "alg": "ES256" }),
    ] {
        assert!(
            judge(&signer, &signer.sign(&header, &claims())).is_ok(),
            "{header}"
        );
    }
    let fractions = with(
        with(claims(), "exp", json!(1_800_000_060.5)),
        "aud",
        json!("ringfence"),
    );
    let verified = judge(&signer, &signer.sign(&signer.header(), &fractions)).unwrap();
    assert_eq!(verified.expires, UnixMillis((WALL + 60) * 1000));
}

#[test]
fn one_token_is_one_whatever_its_signature() {
    let signer = Signer::new("k1");
    let [first, second] = [(); 2].map(|()| signer.sign(&signer.header(), &claims()));

    assert_ne!(first, second, "ECDSA draws");
    let [first, second] = [first, second].map(|token| judge(&signer, &token).unwrap().jwt);
    assert_eq!(first, second);
    let other = signer.sign(&signer.header(), &with(claims(), "jti", json!("2")));
    assert_ne!(judge(&signer, &other).unwrap().jwt, first);
}

#[test]
fn a_token_counts_in_its_time_give_or_take_a_minute() {
    let signer = Signer::new("k1");
    let token = signer.sign(&signer.header(), &claims());
    let at = |wall| judge_at(&signer, &token, wall);

    assert!(at(WALL - 65).is_ok());
    assert!(at(WALL - 66).is_err());
    assert!(at(WALL + 3659).is_ok());
    assert!(at(WALL + 3660).is_err());
}

#[test]
fn a_token_that_is_not_ours_is_refused() {
    let signer = Signer::new("k1");
    let odd = [
        ("iss", json!("https://kubernetes.default.svc/")),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!(["ringfence", "another"])),
        ("aud", json!({ "ringfence": 1 })),
        ("aud", Value::Null),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(["system:serviceaccount:payments:db"])),
        ("sub", json!("a\u{1b}[2J")),
        ("sub", json!("x".repeat(2000))),
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        // A day is the longest life unless the file says otherwise.
        ("exp", json!(WALL + 86_401)),
        ("exp", json!(u64::MAX)),
        ("iat", Value::Null),
        ("iat", json!(WALL + 61)),
        ("iat", json!(WALL - 86_400)),
        ("nbf", json!(WALL + 61)),
        ("nbf", json!(true)),
    ];

    for (claim, value) in odd {
        let token = signer.sign(&signer.header(), &with(claims(), claim, value.clone()));
        assert!(judge(&signer, &token).is_err(), "{claim} {value}");
    }
    let no_object = signer.sign(&signer.header(), &json!(["sub"]));
    assert!(judge(&signer, &no_object).is_err());
}

#[test]
fn only_a_signature_of_the_issuers_own_key_counts() {
    let (signer, stranger) = (Signer::new("k1"), Signer::new("k1"));
    let header = |name: &str, value: Value| with(signer.header(), name, value);
    let good = signer.sign(&signer.header(), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let head = signed.split('.').next().unwrap();
    let altered = encode_json(&with(
        claims(),
        "sub",
        json!("system:serviceaccount:payments:other"),
    ));
    let bad = [
        format!(
            "{}.{}.",
            encode_json(&json!({ "alg": "none" })),
            encode_json(&claims())
        ),
        signer.sign(&header("alg", json!("none")), &claims()),
        signer.sign(&header("alg", json!("HS256")), &claims()),
        signer.sign(&header("alg", json!("RS256")), &claims()),
        signer.sign(&header("crit", json!(["exp"])), &claims()),
        signer.sign(&header("typ", json!("logout+jwt")), &claims()),
        signer.sign(&header("typ", json!("dpop+jwt")), &claims()),
        stranger.sign(&stranger.header(), &claims()),
        format!("{head}.{altered}.{signature}"),
        format!("{signed}."),
        format!("{good}.{signature}"),
        signed.to_owned(),
        "..".to_owned(),
        "x".repeat(20_000),
    ];
    for token in bad {
        let judged = judge(&signer, &token);
        assert!(
            matches!(judged, Err(WorkloadError::Token(_))),
            "{token} {judged:?}"
        );
    }
    let unpublished = judge(
        &signer,
        &Signer::new("k2").sign(&json!({ "alg": "ES256", "kid": "k2" }), &claims()),
    );
    assert!(
        matches!(unpublished, Err(WorkloadError::UnknownKey)),
        "{unpublished:?}"
    );
}
