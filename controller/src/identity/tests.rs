//! Tokens signed with real keys, against the validation of ID tokens and of logout tokens.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use openidconnect::core::CoreJsonWebKey;
use openidconnect::{AccessToken, ClientId, IssuerUrl, JsonWebKeySet, Nonce};
use ringfence_controlplane::{Provider, SecondFactor};
use ringfence_model::{Name, UnixMillis};
use serde_json::{Value, json};

use super::logout::{self, EndedAtProvider, Taken};
use super::token::{self, Expected, RawIdToken};
use super::*;

const ISSUER: &str = "https://login.example.com";
const CLIENT: &str = "ringfence";
pub(super) const WALL: u64 = 1_800_000_000;

pub(super) fn provider() -> Provider {
    Provider {
        name: Name::parse("corp").unwrap(),
        issuer: ISSUER.to_owned(),
        client_id: CLIENT.to_owned(),
        confidential: false,
        scopes: Vec::new(),
        groups_claim: Some("groups".to_owned()),
        directory_claim: Some("oid".into()),
        session_ms: 12 * 3_600_000,
        second_factor: SecondFactor::default(),
        allow_private_address: false,
        ca_pem: None,
    }
}

/// An issuer with one key.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Signer {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, kid }
    }

    pub(super) fn keys(&self) -> JsonWebKeySet<CoreJsonWebKey> {
        let point = self.pair.public_key().as_ref();
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid,
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        });
        serde_json::from_value(json!({ "keys": [key] })).unwrap()
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode_json(header), encode_json(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature.as_ref()))
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": "ES256", "kid": self.kid })
    }

    fn id_token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn encode_json(value: &Value) -> String {
    encode(value.to_string().as_bytes())
}

fn id_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "ada", "iat": WALL - 1, "exp": WALL + 300, "auth_time": WALL - 2,
        "nonce": "n", "email": "ada@example.com", "email_verified": true, "groups": ["dba", "staff"],
        "acr": "urn:mfa", "amr": ["pwd", "otp"], "sid": "s1", "preferred_username": "ada", "oid": "0a21f0f2",
    })
}

pub(super) fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let object = claims.as_object_mut().unwrap();
    if value.is_null() {
        object.remove(name);
    } else {
        object.insert(name.to_owned(), value);
    }
    claims
}

fn expecting<R>(keys: &JsonWebKeySet<CoreJsonWebKey>, use_it: impl FnOnce(&Expected<'_>) -> R) -> R {
    use_it(&Expected {
        issuer: &IssuerUrl::new(ISSUER.to_owned()).unwrap(),
        client_id: &ClientId::new(CLIENT.to_owned()),
        keys,
        wall: UnixMillis(WALL * 1000),
    })
}

/// What an ID token says, if it is one of this issuer for us, with nonce `n`.
fn judge(signer: &Signer, token: &str) -> Result<ringfence_controlplane::LoginClaims, LoginError> {
    let Ok(token) = token.parse::<RawIdToken>() else {
        return Err(LoginError::NoIdToken);
    };
    expecting(&signer.keys(), |expected| {
        let nonce = Nonce::new("n".to_owned());
        let claims = token::verify(&token, expected, Some(&nonce), &AccessToken::new("at".to_owned()))?;
        Ok(token::read(claims, &provider()))
    })
}

#[test]
fn a_good_token_says_who_it_is_and_how_they_proved_it() {
    let signer = Signer::new("k1");

    let claims = judge(&signer, &signer.id_token(&id_claims())).unwrap();

    assert_eq!((claims.subject.as_str(), claims.email_verified), ("ada", true));
    assert_eq!(claims.groups, ["dba", "staff"]);
    assert_eq!((claims.acr.as_deref(), claims.amr.len()), (Some("urn:mfa"), 2));
    assert_eq!(claims.auth_time, Some(UnixMillis((WALL - 2) * 1000)));
    assert_eq!(claims.provider_session.as_deref(), Some("s1"));
    assert_eq!(claims.directory_id.as_deref(), Some("0a21f0f2"));
}

#[test]
fn the_clocks_may_be_a_minute_apart_and_no_more() {
    let signer = Signer::new("k1");
    let judge = |claims: Value| judge(&signer, &signer.id_token(&claims));

    assert!(judge(with(id_claims(), "exp", json!(WALL - 59))).is_ok());
    assert!(judge(with(id_claims(), "exp", json!(WALL - 60))).is_err());
    assert!(judge(with(id_claims(), "iat", json!(WALL + 60))).is_ok());
    assert!(judge(with(id_claims(), "iat", json!(WALL + 61))).is_err());
    assert!(judge(with(id_claims(), "iat", json!(WALL - 301))).is_err());
}

#[test]
fn a_token_that_is_not_ours_is_refused() {
    let signer = Signer::new("k1");
    let odd = [
        ("iss", json!("https://evil.example")),
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", json!([CLIENT, "another"])),
        ("azp", json!("another")),
        ("nonce", json!("replayed")),
        ("nonce", Value::Null),
        ("exp", Value::Null),
        ("iat", Value::Null),
        ("sub", Value::Null),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
    ];

    for (claim, value) in odd {
        let token = signer.id_token(&with(id_claims(), claim, value.clone()));
        assert!(judge(&signer, &token).is_err(), "{claim} {value}");
    }
}

#[test]
fn only_a_signature_of_the_issuers_own_key_counts() {
    let (signer, stranger) = (Signer::new("k1"), Signer::new("k1"));
    let claims = id_claims();
    let none = format!(
        "{}.{}.",
        encode_json(&json!({ "alg": "none" })),
        encode_json(&claims)
    );
    let none_with_kid = signer.sign(&json!({ "alg": "none", "kid": "k1" }), &claims);
    let symmetric = signer.sign(&json!({ "alg": "HS256", "kid": "k1" }), &claims);
    let other_algorithm = signer.sign(&json!({ "alg": "RS256", "kid": "k1" }), &claims);
    let critical = signer.sign(&json!({ "alg": "ES256", "kid": "k1", "crit": ["exp"] }), &claims);
    let access_token = signer.sign(&json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }), &claims);
    let foreign = stranger.id_token(&claims);
    let good = signer.id_token(&claims);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let altered = format!(
        "{}.{}.{signature}",
        head.split('.').next().unwrap(),
        encode_json(&with(claims, "sub", json!("eve")))
    );

    for token in [
        none,
        none_with_kid,
        symmetric,
        other_algorithm,
        critical,
        access_token,
        foreign,
        altered,
    ] {
        assert!(judge(&signer, &token).is_err(), "{token}");
    }
    assert!(judge(&signer, &good).is_ok());
}

#[test]
fn a_key_that_is_not_known_yet_is_said_to_be_that() {
    let (signer, newer) = (Signer::new("k1"), Signer::new("k2"));

    let unknown = judge(&signer, &newer.id_token(&id_claims()));

    assert!(matches!(unknown, Err(LoginError::UnknownKey)), "{unknown:?}");
}

fn logout_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "ada", "sid": "s1", "iat": WALL, "exp": WALL + 120, "jti": "j1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    })
}

fn logout_header() -> Value {
    json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" })
}

fn judge_logout(signer: &Signer, token: &str) -> Result<(EndedAtProvider, String), LoginError> {
    expecting(&signer.keys(), |expected| logout::verify(token, expected))
}

#[test]
fn a_logout_token_names_what_ended() {
    let signer = Signer::new("k1");

    let (ended, jti) = judge_logout(&signer, &signer.sign(&logout_header(), &logout_claims())).unwrap();

    assert_eq!(
        (ended.subject.as_deref(), ended.session.as_deref()),
        (Some("ada"), Some("s1"))
    );
    assert_eq!(jti, "j1");
}

#[test]
fn what_is_no_logout_token_ends_nothing() {
    let signer = Signer::new("k1");
    let odd = [
        ("iss", json!("https://evil.example")),
        ("aud", json!("another")),
        ("aud", json!([CLIENT, "another"])),
        ("iat", json!(WALL - 400)),
        ("iat", json!(WALL + 61)),
        ("iat", json!(u64::MAX)),
        ("exp", json!(WALL - 61)),
        ("exp", json!(u64::MAX)),
        ("exp", Value::Null),
        ("jti", Value::Null),
        ("jti", json!("")),
        ("events", Value::Null),
        ("events", json!({})),
        (
            "events",
            json!({ "http://schemas.openid.net/event/backchannel-logout": true }),
        ),
        ("nonce", json!("n")),
    ];
    for (claim, value) in odd {
        let claims = with(logout_claims(), claim, value.clone());
        // A far `exp` alone is no harm: the age of `iat` bounds it.
        let harmless = claim == "exp" && value == json!(u64::MAX);
        let judged = judge_logout(&signer, &signer.sign(&logout_header(), &claims));
        assert_eq!(judged.is_ok(), harmless, "{claim} {value}");
    }
    let nobody = with(with(logout_claims(), "sub", Value::Null), "sid", Value::Null);
    let tokens = [
        signer.sign(&logout_header(), &nobody),
        signer.id_token(&id_claims()),
        signer.sign(&with(logout_header(), "alg", json!("none")), &logout_claims()),
        signer.sign(&with(logout_header(), "typ", json!("at+jwt")), &logout_claims()),
        Signer::new("k1").sign(&logout_header(), &logout_claims()),
        "a.b".to_owned(),
        "..".to_owned(),
        "x".repeat(20_000),
    ];
    for token in tokens {
        assert!(judge_logout(&signer, &token).is_err(), "{token}");
    }
}

#[test]
fn a_logout_token_counts_once() {
    let taken = Taken::default();
    let (corp, other) = (Name::parse("corp").unwrap(), Name::parse("other").unwrap());
    let (now, later) = (UnixMillis(WALL * 1000), UnixMillis((WALL + 3600) * 1000));

    assert!(taken.take(&corp, "j1".to_owned(), now).is_ok());
    assert!(taken.take(&corp, "j1".to_owned(), now).is_err());
    assert!(taken.take(&other, "j1".to_owned(), now).is_ok());
    assert!(
        taken.take(&corp, "j1".to_owned(), later).is_ok(),
        "its time is over by then anyway"
    );
}
