//! Asks the node on this machine, through its Unix socket.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ringfence_control::local::{LocalErrorCode, LocalRequest, LocalResponse, RESPONSE_BYTES_MAX};

use crate::failure::{Exit, Failure};

/// One question, one answer; an error from the node is a [`Failure`].
///
/// # Errors
/// If no node runs here, it does not let us ask, or it cannot answer.
pub(crate) fn ask(socket: &Path, request: &LocalRequest, wait: Duration) -> Result<LocalResponse, Failure> {
    let shown = socket.display();
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(
            Exit::NotEnrolled,
            format_args!("no node runs here: nothing answers at {shown}"),
        )
        .help("start one with `ringfence-node up --token-file F`, or name its socket with --socket"),
        ErrorKind::PermissionDenied => Failure::new(
            Exit::Denied,
            format_args!("the node's socket {shown} is not yours to open"),
        )
        .help("run this as root or as the user the node runs as"),
        _ => Failure::failed(format_args!("{shown}: {error}")),
    })?;
    let line = exchange(stream, request, wait).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Failure::new(Exit::Timeout, "the node did not answer in time")
        }
        _ => Failure::failed(format_args!("{shown}: {error}")),
    })?;
    match serde_json::from_str(&line) {
        Ok(LocalResponse::Error(error)) => Err(refused(error.code, &error.message)),
        Ok(response) => Ok(response),
        Err(error) => Err(Failure::failed(format_args!(
            "the node's answer cannot be read ({error}): do both have the same version?"
        ))),
    }
}

fn exchange(stream: UnixStream, request: &LocalRequest, wait: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(wait))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let limit = u64::try_from(RESPONSE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut answer = String::new();
    BufReader::new(stream.take(limit)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::new(
            ErrorKind::UnexpectedEof,
            "the node closed the connection without an answer: its log says why",
        ));
    }
    Ok(answer)
}

fn refused(code: LocalErrorCode, message: &str) -> Failure {
    let exit = match code {
        LocalErrorCode::NotEnrolled => Exit::NotEnrolled,
        LocalErrorCode::Denied => Exit::Denied,
        LocalErrorCode::Timeout => Exit::Timeout,
        LocalErrorCode::BadRequest | LocalErrorCode::NotFound | LocalErrorCode::Internal => Exit::Failed,
    };
    Failure::new(exit, message)
}
