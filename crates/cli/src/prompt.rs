//! What a person types, or a script hands over: lines of standard input, unseen where they are secret.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// A line of standard input, without its end.
pub(crate) fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush());
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().lock().read_line(&mut line).map_err(Failure::failed)?;
    if read == 0 {
        return Err(Failure::new(
            Exit::Usage,
            format_args!(
                "standard input ended where {} was asked for",
                prompt.trim_end_matches([':', ' ']).to_lowercase()
            ),
        ));
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// The same, and a terminal does not show it.
pub(crate) fn ask_unseen(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let hidden = Hidden::begin()?;
    let line = ask(prompt);
    if hidden.is_some() {
        let _ = io::stderr().write_all(b"\n");
    }
    line
}

/// The first line of a file that a script keeps a secret in; typed, if there is none.
pub(crate) fn secret(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let Some(file) = file else {
        return ask_unseen(prompt);
    };
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text =
        text.map_err(|error| Failure::new(Exit::Usage, format_args!("{}: {error}", file.display())))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or("").to_owned()))
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Option<Self>, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).map_err(Failure::failed)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen).map_err(Failure::failed)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
