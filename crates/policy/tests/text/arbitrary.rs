//! Whatever the text, parsing ends with a policy or with errors that point into it.

use proptest::prelude::*;
use ringfence_policy::Policy;

const DESIGN: &str = include_str!("cases/design.toml");

/// Pieces that policy files are made of, so that nonsense made of them gets past the lexer.
const PIECES: [&str; 36] = [
    "[perimeter]",
    "[members]",
    "[[allow]]",
    "[[expect]]",
    "[allow]",
    "name",
    "lease",
    "db",
    "api",
    "nodes",
    "users",
    "from",
    "to",
    "ports",
    "port",
    "verdict",
    "require",
    "expires",
    "mfa",
    "hours",
    " = ",
    " = ",
    " = ",
    ".",
    "\n",
    "\n",
    "\"db\"",
    "\"role=db\"",
    "\"tcp/5432\"",
    "[\"any\"]",
    "{ nodes = \"role=db\" }",
    "{",
    "}",
    "10",
    "2027-01-01T00:00:00Z",
    "\u{4}\u{fffd}",
];

fn survives(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = Policy::parse("p.toml", text) else {
        return Ok(());
    };
    prop_assert!(!errors.0.is_empty());
    for error in &errors.0 {
        prop_assert!(
            text.get(error.offset..error.offset + error.length).is_some(),
            "{:?}",
            error
        );
        prop_assert!(error.line >= 1 && error.column >= 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_characters(text in "\\PC{0,200}|[\\s\\S]{0,200}") {
        survives(&text)?;
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        survives(&pieces.concat())?;
    }

    #[test]
    fn a_good_file_with_a_part_replaced(at in any::<prop::sample::Index>(), length in 0..30_usize, with in "[\\s\\S]{0,6}") {
        let start = DESIGN.floor_char_boundary(at.index(DESIGN.len()));
        let end = DESIGN.floor_char_boundary((start + length).min(DESIGN.len()));
        survives(&format!("{}{with}{}", &DESIGN[..start], &DESIGN[end..]))?;
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    for open in ["[", "{a=", "[[a.b]]\n", "a."] {
        let text = format!("x = {}", open.repeat(20_000));
        assert!(Policy::parse("p.toml", &text).is_err());
    }
}
