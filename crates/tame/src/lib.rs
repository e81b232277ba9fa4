//! What others wrote, made harmless before it reaches a terminal or a log.
//!
//! Names, policies, arguments of a script and errors of a peer come from anybody, and what is shown is believed.
//!
//! **Invariant:** one event is one line of the log, whatever is in it.
#![deny(missing_docs)]

mod log;
mod usage;

pub use log::Line;
pub use usage::parse_arguments;

/// The text without what moves a terminal's cursor or turns its words around. Line ends and tabs stay. As many bytes as
/// before, so that places stay right.
pub fn tame(text: &str) -> String {
    let calm = |c: char| match (is_wild(c), c.len_utf8()) {
        (false, _) => c,
        (true, 1) => '?',
        (true, 2) => '\u{bf}',
        (true, _) => '\u{fffd}',
    };
    text.chars().map(calm).collect()
}

/// Control characters but line ends and tabs, and those that set the direction of writing (UAX #9).
fn is_wild(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
    turns || (c.is_control() && c != '\n' && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_write_on_the_terminal() {
        let told = "\u{1b}[2Jgone\r\u{9b}31m \u{202e}drowssap\ttab\nline";

        let shown = tame(told);

        assert_eq!(shown, "?[2Jgone?\u{bf}31m \u{fffd}drowssap\ttab\nline");
        assert_eq!(shown.len(), told.len());
    }
}
