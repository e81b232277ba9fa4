//! What a policy file's author is told, word for word.
//!
//! To take new wording over: `INSTA_UPDATE=always cargo test -p ringfence-policy --test text`, then read the diff.

use ringfence_policy::{Diagnostic, Policy};

macro_rules! case {
    ($name:ident) => {
        #[test]
        fn $name() {
            let name = concat!(stringify!($name), ".toml");
            let text = include_str!(concat!("cases/", stringify!($name), ".toml"));
            insta::assert_snapshot!(stringify!($name), told(name, text));
        }
    };
}

case!(conditions);
case!(design);
case!(empty);
case!(misspelt);
case!(shape);
case!(syntax);
case!(twice);
case!(values);
case!(warnings);

fn told(name: &str, text: &str) -> String {
    match Policy::parse(name, text) {
        Ok(checked) => format!("accepted\n{}", lines("warning: ", &checked.warnings)),
        Err(errors) => format!("refused\n{}", lines("", &errors.0)),
    }
}

fn lines(before: &str, diagnostics: &[Diagnostic]) -> String {
    let lines = diagnostics
        .iter()
        .map(|diagnostic| format!("{before}{diagnostic}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_span_covers_what_the_message_is_about() {
    let text = "[perimeter]\nname = \"p\"\n\n[members]\n\u{e4} = 1\n";

    let errors = Policy::parse("p.toml", text).unwrap_err().0;

    assert!(!errors.is_empty());
    for error in errors {
        assert!(text.is_char_boundary(error.offset) && text.is_char_boundary(error.offset + error.length));
    }
}

#[test]
fn too_large_a_file_is_refused_before_it_is_parsed() {
    let text = "#".repeat(ringfence_policy::TEXT_BYTES_MAX + 1);

    let errors = Policy::parse("p.toml", &text).unwrap_err();

    assert!(errors.to_string().contains("at most 786432"), "{errors}");
}

#[test]
fn too_many_groups_rules_and_ports_are_refused() {
    let mut text = "[perimeter]\nname = \"p\"\n[members]\n".to_owned();
    for n in 0..=ringfence_policy::GROUPS_MAX {
        text += &format!("g{n} = {{ nodes = \"n={n}\" }}\n");
    }
    text +=
        &"[[allow]]\nfrom = \"g1\"\nto = \"g2\"\nports = [\"any\"]\n".repeat(ringfence_policy::RULES_MAX + 1);

    let errors = Policy::parse("p.toml", &text).unwrap_err().to_string();

    assert!(errors.contains("257 groups: at most 256"), "{errors}");
    assert!(
        errors.contains("allow has 10001 entries: at most 10000"),
        "{errors}"
    );
}

#[test]
fn a_flood_of_mistakes_is_cut_short() {
    let text = "[perimeter]\nname = \"p\"\n[members]\n".to_owned()
        + &(0..200)
            .map(|n| format!("G{n} = {{ nodes = \"n={n}\" }}\n"))
            .collect::<String>();

    let errors = Policy::parse("p.toml", &text).unwrap_err();

    assert_eq!(errors.0.len(), 100);
    assert!(
        errors.to_string().contains("100 more errors are not shown"),
        "{errors}"
    );
}
