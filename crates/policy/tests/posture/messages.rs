//! What a posture file's author is told, word for word.
//!
//! To take new wording over: `INSTA_UPDATE=always cargo test -p ringfence-policy --test posture`, then read the diff.

use ringfence_policy::{CHECKS_MAX, COMPARISONS_MAX, POSTURE_BYTES_MAX, PostureFile};

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

case!(good);
case!(shape);
case!(twice);
case!(wrong);

fn told(name: &str, text: &str) -> String {
    match PostureFile::parse(name, text) {
        Ok(file) => {
            let mut told = "accepted".to_owned();
            for check in &file.checks {
                told += &format!("\n{} {} {:?}", check.name, check.mode.as_str(), check.max_age);
                for comparison in &check.comparisons {
                    told += &format!("\n  {}: {}", comparison.fact, comparison.wanted);
                }
            }
            told
        }
        Err(errors) => format!("refused\n{errors}"),
    }
}

#[test]
fn an_empty_file_has_no_checks() {
    assert_eq!(PostureFile::parse("p.toml", "").unwrap(), PostureFile::default());
}

#[test]
fn too_much_of_anything_is_refused() {
    let refused = |text: &str| PostureFile::parse("p.toml", text).unwrap_err().to_string();
    let mut many = String::new();
    for n in 0..=CHECKS_MAX {
        many += &format!("[[check]]\nname = \"c{n}\"\ndisk.encrypted = true\n");
    }
    let mut wide = "[[check]]\nname = \"c\"\n".to_owned();
    for n in 0..=COMPARISONS_MAX {
        wide += &format!("custom.c{n} = true\n");
    }
    let mut lookups = String::new();
    for n in 0..65 {
        if n % 30 == 0 {
            lookups += &format!("[[check]]\nname = \"c{n}\"\n");
        }
        lookups += &format!("process.p{n} = true\n");
    }
    let long = "#".repeat(POSTURE_BYTES_MAX + 1);

    assert!(refused(&many).contains("check has 65 entries: at most 64"));
    assert!(refused(&wide).contains("the check asks for more than 32 things"));
    assert!(refused(&lookups).contains("more than 64 files, processes and scripts"));
    assert!(refused(&long).contains("at most 131072 are allowed"));
}

const MAKER: &str = include_str!("cases/maker.pem");

fn with_makers(makers: &str) -> String {
    format!("[tpm]\nmakers = \"\"\"\n{makers}\"\"\"\n")
}

#[test]
fn makers_of_tpms_are_certificates_and_what_checks_ask_of_tpms_is_known() {
    let check = "[[check]]\nname = \"t\"\nmax_age = \"30s\"\ntpm.state = [\"attested\", \"unknown-maker\"]\n";

    let file = PostureFile::parse("p.toml", &(with_makers(&MAKER.repeat(2)) + check)).unwrap();

    let needs = file.tpm_needs();
    assert_eq!(needs.makers.len(), 2);
    assert_eq!(needs.every, Some(std::time::Duration::from_secs(10)));
    assert!(file.needs().facts.is_empty(), "no node is asked for it");
    let none = PostureFile::parse("p.toml", "").unwrap().tpm_needs();
    assert_eq!((none.makers.len(), none.every), (0, None));
}

#[test]
fn what_is_no_certificate_is_refused_with_its_number() {
    let refused = |text: &str| PostureFile::parse("p.toml", text).unwrap_err().to_string();
    let broken = MAKER.replace("MIIB", "MIIC");

    assert!(refused("[tpm]\n").contains("[tpm] lacks makers"));
    assert!(refused("[tpm]\nmaker = \"\"\n").contains("makers"));
    assert!(refused("[tpm]\nmakers = 1\n").contains("a string"));
    assert!(refused(&with_makers("hello\n")).contains("BEGIN CERTIFICATE"));
    assert!(refused(&with_makers(&(MAKER.to_owned() + &broken))).contains("certificate 2 cannot be read"));
    assert!(refused(&with_makers(&MAKER.repeat(65))).contains("more than 64 certificates"));
}
