//! What people paste: join tokens, and every other value that is read from one word of text.

use std::fmt::Display;
use std::str::FromStr;

use ringfence_model::{Labels, Name, NodeId, PrivateKey, PublicKey, Revision, Selector, TokenId};
use ringfence_policy::Service;
use ringfence_transport::{JoinToken, SpiffeId, TokenSecret};

use crate::fixture::name;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.expose().parse().expect("what is written can be read");
        assert_eq!(again.expose(), token.expose());
        assert!(!token.controllers.is_empty(), "a token names a controller");
    }
    same_again::<Name>(text);
    same_again::<NodeId>(text);
    same_again::<TokenId>(text);
    same_again::<Revision>(text);
    same_again::<Service>(text);
    same_again::<SpiffeId>(text);
    same_again::<PublicKey>(text);
    same_again::<Selector>(text);
    let _ = PrivateKey::from_base64(text);
    let _ = Labels::parse_pairs(text.split(','));
}

fn same_again<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else {
        return;
    };
    let again = value.to_string().parse::<T>().ok();
    assert!(again == Some(value), "{text:?} is another thing when read again");
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let token = JoinToken {
        controllers: vec![
            "controller.example:7443".to_owned(),
            "[2001:db8::1]:7443".to_owned(),
        ],
        ca_fingerprint: [5; 32],
        mesh: name("acme"),
        id: TokenId(77),
        secret: TokenSecret::from_random([6; 32]),
    };
    let texts = [
        ("token", token.expose().to_string()),
        ("name", "payments-db".to_owned()),
        ("id", NodeId(0xabcd).to_string()),
        ("revision", "1.42".to_owned()),
        ("service", "tcp/1000-2000".to_owned()),
        ("spiffe", "spiffe://acme/node/000000000000002a".to_owned()),
        ("labels", "role=db,env=prod".to_owned()),
        ("key", crate::fixture::key(1).public_key().to_string()),
    ];
    texts.map(|(name, text)| (name, text.into_bytes())).into()
}
