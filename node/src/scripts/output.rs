//! What a script prints, as a value.

use ringfence_control::{ReportedValue, VALUE_BYTES_MAX};

/// One line: `true`, `false`, a whole number, a version as `v7.1`, or any other text.
pub(super) fn read(printed: &[u8]) -> Result<ReportedValue, String> {
    let text = std::str::from_utf8(printed).map_err(|_| "it printed what is no text".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.trim().is_empty() {
        return Err("it printed nothing".to_owned());
    }
    if line.contains('\n') {
        return Err("it printed more than one line".to_owned());
    }
    if line.chars().any(char::is_control) {
        return Err("it printed control characters".to_owned());
    }
    if line.len() > VALUE_BYTES_MAX {
        return Err(format!("it printed more than {VALUE_BYTES_MAX} bytes"));
    }
    Ok(ReportedValue::from_word(line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_people_write_values() {
        let read = |text: &str| read(text.as_bytes()).unwrap();

        assert_eq!(read("true\n"), ReportedValue::Bool(true));
        assert_eq!(read("-3"), ReportedValue::Number(-3));
        assert_eq!(
            read("v7.1.2-deb12\n"),
            ReportedValue::Version("7.1.2-deb12".into())
        );
        assert_eq!(
            read("in good order\n"),
            ReportedValue::Text("in good order".into())
        );
        assert_eq!(read("TRUE\n"), ReportedValue::Text("TRUE".into()));
    }

    #[test]
    fn what_is_not_one_line_of_text_is_no_value() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for odd in [
            "",
            "\n",
            " \n",
            "true\ntrue\n",
            "true\n\n",
            "\u{1b}[31mtrue",
            "true\0",
            long.as_str(),
        ] {
            assert!(read(odd.as_bytes()).is_err(), "{odd:?}");
        }
        assert!(read(b"true\xff\n").is_err());
    }
}
