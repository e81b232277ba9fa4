//! What a command says: JSON or tables on stdout, the rest on stderr, colours only on a terminal.

use std::io::Write as _;

use anstream::{AutoStream, ColorChoice};
use comfy_table::{ContentArrangement, Table, presets};
use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use ringfence_control::api::Finding;
use ringfence_tame::tame;
use serde::Serialize;

use crate::failure::Failure;

/// Where a command writes to.
pub(crate) struct Output {
    json: bool,
    stdout: AutoStream<std::io::Stdout>,
    stderr: AutoStream<std::io::Stderr>,
}

impl Output {
    /// Writes JSON instead of text if `json`.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            stdout: AutoStream::new(std::io::stdout(), ColorChoice::Auto),
            stderr: AutoStream::new(std::io::stderr(), ColorChoice::Auto),
        }
    }

    /// Answers with `value` as JSON, or with what `text` makes of it.
    pub(crate) fn answer<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) {
        let mut written = if self.json {
            serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        } else {
            tame_but_colours(&text(value))
        };
        if !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        // A reader that has gone away (`| head`) is no error of ours.
        let _ = self.stdout.write_all(written.as_bytes());
        let _ = self.stdout.flush();
    }

    /// Answers with one line of many: a JSON text of its own each, for programs that read along.
    pub(crate) fn line<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) {
        let written = if self.json {
            serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        } else {
            tame_but_colours(&text(value))
        };
        let _ = writeln!(self.stdout, "{written}");
        let _ = self.stdout.flush();
    }

    /// Answers with bytes as they are, whatever format was asked for.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stdout.write_all(bytes);
        let _ = self.stdout.flush();
    }

    /// Tells a person something that is not the answer.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{}", tame(text));
    }

    /// Warns about a policy file.
    pub(crate) fn warning(&mut self, finding: &Finding) {
        let _ = write!(self.stderr, "\x1b[33mwarning\x1b[0m: {}", tame(&place(finding)));
    }

    /// Says why the command fails.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        for (finding, text) in &failure.findings {
            let shown = text.as_ref().and_then(|text| snippet(finding, text));
            let _ = match shown {
                Some(shown) => write!(self.stderr, "{shown}"),
                None => write!(self.stderr, "\x1b[31merror\x1b[0m: {}", tame(&place(finding))),
            };
        }
        if !failure.message.is_empty() {
            let _ = writeln!(self.stderr, "\x1b[31merror\x1b[0m: {}", tame(&failure.message));
        }
        if let Some(help) = &failure.help {
            let _ = writeln!(self.stderr, "\x1b[36m help\x1b[0m: {}", tame(help));
        }
    }
}

/// The text tamed, but for the colours that our own words have.
fn tame_but_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, styled)) = rest.split_once('\u{1b}') {
        shown += &tame(before);
        let style = COLOURS.iter().find(|style| styled.starts_with(**style));
        shown.push(if style.is_some() { '\u{1b}' } else { '?' });
        rest = styled;
    }
    shown + &tame(rest)
}

/// `file:line:column: message`, with the help below.
fn place(finding: &Finding) -> String {
    let mut text = finding.file.clone();
    if finding.line > 0 {
        text += &format!(":{}:{}", finding.line, finding.column.max(1));
    }
    text += &format!(": {}\n", finding.message);
    if let Some(help) = &finding.help {
        text += &format!("  help: {help}\n");
    }
    text
}

/// The finding with its line shown, as compilers do. Plain `file:line:column` stands first, for editors.
fn snippet(finding: &Finding, text: &str) -> Option<String> {
    let end = finding.offset.checked_add(finding.length)?;
    if finding.line == 0 || end > text.len() {
        return None;
    }
    let (file, message, text) = (tame(&finding.file), tame(&finding.message), tame(text));
    let mut diagnostic = MietteDiagnostic::new(message.clone()).with_label(LabeledSpan::new(
        None,
        finding.offset,
        finding.length,
    ));
    if let Some(help) = &finding.help {
        diagnostic = diagnostic.with_help(tame(help));
    }
    let report = Report::new(diagnostic).with_source_code(NamedSource::new(&file, text));
    let mut shown = format!("{file}:{}:{}: {message}\n", finding.line, finding.column);
    GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode())
        .with_links(false)
        .render_report(&mut shown, report.as_ref())
        .ok()?;
    Some(shown)
}

/// A table without lines, as `kubectl` draws it.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Names in one cell.
pub(crate) fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// What follows the escape character: red, green, and the end of either.
const COLOURS: [&str; 3] = ["[31m", "[32m", "[0m"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_our_colours_and_nobody_elses() {
        let told = "\u{1b}[2Jgone\r\u{202e}";
        let own = "\u{1b}[32mallow\u{1b}[0m";

        assert_eq!(
            tame_but_colours(&format!("{own} {told}")),
            format!("{own} {}", tame(told))
        );
    }

    #[test]
    fn tables_are_plain_columns() {
        let table = table(["NAME", "RULES"], [["payments-db".to_owned(), "2".to_owned()]]);

        assert_eq!(table, "NAME         RULES\npayments-db  2");
    }

    #[test]
    fn an_error_in_a_policy_shows_its_line() {
        let text = "[perimeter]\nnmae = \"x\"\n";
        let finding = Finding {
            file: "x.toml".into(),
            line: 2,
            column: 1,
            offset: 12,
            length: 4,
            message: "unknown key `nmae`".into(),
            help: Some("did you mean `name`?".into()),
        };

        let shown = snippet(&finding, text).unwrap();

        assert!(shown.starts_with("x.toml:2:1: unknown key `nmae`\n"), "{shown}");
        assert!(
            shown.contains("nmae = \"x\"") && shown.contains("did you mean `name`?"),
            "{shown}"
        );
    }
}
