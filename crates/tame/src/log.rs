//! The last step of a log line: whatever its values hold, it stays one line and steers no terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::is_wild;

/// Takes one event with each `write`, as the formatters of `tracing-subscriber` hand them over, and passes it on as one
/// line: what could end that line or steer a terminal is written as JSON would write it.
///
/// Formatters must be without colours: those would be written out too.
pub struct Line<W>(pub W);

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (text.as_ref(), ""),
        };
        self.0.write_all((escaped(text) + end).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            _ if is_wild(c) || ends_a_line(c) => {
                write!(line, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
            }
            _ => line.push(c),
        }
    }
    line
}

/// For some readers of logs, besides the control characters.
fn ends_a_line(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::fmt;

    use super::*;

    const FORGED: &str = "x\n2026-01-01T00:00:00Z  INFO all is well\r\u{1b}[2J\u{9b}1m\u{2028}\u{202e}";

    #[derive(Clone)]
    struct Kept(mpsc::Sender<Vec<u8>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(kept: &mpsc::Receiver<Vec<u8>>) -> String {
        String::from_utf8(kept.try_iter().flatten().collect()).unwrap()
    }

    /// Logs what others wrote in each way there is to log it.
    fn log_forged() {
        let error = io::Error::other(FORGED);
        tracing::info!(name = %FORGED, why = FORGED, debug = ?FORGED, %error, "{FORGED}");
        tracing::info_span!("span", of = %FORGED).in_scope(|| tracing::warn!("{FORGED}"));
    }

    fn assert_two_calm_lines(log: &str) {
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(log.ends_with('\n'));
        let wild = log
            .trim_end()
            .chars()
            .find(|&c| c != '\n' && is_wild(c) || ends_a_line(c));
        assert_eq!(wild, None, "{log:?}");
    }

    #[test]
    fn no_value_can_forge_a_line_of_the_log() {
        let (sender, kept) = mpsc::channel();
        let log = fmt()
            .with_ansi(false)
            .with_writer(move || Line(Kept(sender.clone())));

        tracing::subscriber::with_default(log.finish(), log_forged);

        let log = text(&kept);
        assert_two_calm_lines(&log);
        assert!(log.contains("\\n2026-01-01"), "{log}");
    }

    #[test]
    fn what_is_escaped_stays_json() {
        let (sender, kept) = mpsc::channel();
        let log = fmt().json().with_writer(move || Line(Kept(sender.clone())));

        tracing::subscriber::with_default(log.finish(), log_forged);

        let log = text(&kept);
        assert_two_calm_lines(&log);
        let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert_eq!(first["fields"]["name"], FORGED);
        assert_eq!(first["fields"]["message"], FORGED);
    }
}
