//! The latest happenings of a run, in a line each, to print when it fails.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

/// The latest lines.
#[derive(Default)]
pub struct Trace {
    lines: VecDeque<(Duration, String)>,
    /// Of everything that happened, in order: two runs of one seed are the same exactly if this is.
    hash: u64,
}

impl Trace {
    /// Notes a line.
    pub fn say(&mut self, at: Duration, line: String) {
        self.mix(line.bytes().map(u64::from));
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    /// Notes what is not worth a line: a datagram.
    pub fn mix(&mut self, values: impl IntoIterator<Item = u64>) {
        for value in values {
            self.hash = (self.hash ^ value)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(17);
        }
    }

    /// Stands for the whole history.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The latest lines that hold one of `words`, and those that concern everybody.
    pub fn tail(&self, words: &[String]) -> String {
        let concerns = |line: &String| {
            words.is_empty()
                || words.iter().any(|word| line.contains(word.as_str()))
                || line.starts_with("controller")
        };
        let lines: Vec<_> = self.lines.iter().filter(|(_, line)| concerns(line)).collect();
        let mut text = String::new();
        for (at, line) in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            let cut = line.floor_char_boundary(LINE_BYTES_SHOWN);
            let more = if cut < line.len() { "…" } else { "" };
            let _ = writeln!(text, "  {:>10.3} s  {}{more}", at.as_secs_f64(), &line[..cut]);
        }
        text
    }
}

/// Lines kept.
const LINES_MAX: usize = 4_000;
/// Lines printed.
const LINES_SHOWN: usize = 40;
/// Bytes printed of each.
const LINE_BYTES_SHOWN: usize = 180;
