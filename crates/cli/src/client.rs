//! The controller's REST API as typed questions; its problems become exit codes.

use std::time::Duration;

use ringfence_control::api::Problem;
use ringfence_transport::{ApiClient, Method, TransportError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Asks one controller.
pub(crate) struct Client {
    api: ApiClient,
    runtime: Runtime,
    server: String,
}

impl Client {
    /// Makes ready to ask; connects with the first question.
    ///
    /// # Errors
    /// If the context's CA or address does not parse.
    pub(crate) fn new(context: Context) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format_args!("the async runtime does not start: {error}")))?;
        let api = ApiClient::new(&context.server, &context.ca_pem, context.token)
            .map_err(|error| Failure::failed(format_args!("the context is not usable: {error}")))?
            // Each question has its own limit here.
            .with_timeout(Duration::MAX);
        Ok(Self {
            api,
            runtime,
            server: context.server,
        })
    }

    /// `GET`.
    ///
    /// # Errors
    /// As the controller says, or if it cannot be reached.
    pub(crate) fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, Failure> {
        self.get_within(route, ANSWER_WAIT)
    }

    /// `GET` of something that may take its time.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn get_within<T: DeserializeOwned>(&self, route: &str, wait: Duration) -> Result<T, Failure> {
        self.ask(Method::GET, route, None::<&()>, wait)
    }

    /// `POST`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        route: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, route, Some(body), CHANGE_WAIT)
    }

    /// `PATCH`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        route: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.ask(Method::PATCH, route, Some(body), CHANGE_WAIT)
    }

    /// `PUT`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn put<B: Serialize, T: DeserializeOwned>(&self, route: &str, body: &B) -> Result<T, Failure> {
        self.ask(Method::PUT, route, Some(body), CHANGE_WAIT)
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn delete<T: DeserializeOwned>(&self, route: &str) -> Result<T, Failure> {
        self.ask(Method::DELETE, route, None::<&()>, CHANGE_WAIT)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
        wait: Duration,
    ) -> Result<T, Failure> {
        let path = format!("/api/v1{route}");
        let answer = async { tokio::time::timeout(wait, self.api.request(method, &path, body)).await };
        let response = match self.runtime.block_on(answer) {
            Err(_) => return Err(self.no_answer(&TransportError::Timeout { what: "the answer" })),
            Ok(Err(error)) => return Err(self.no_answer(&error)),
            Ok(Ok(response)) => response,
        };
        if !(200..300).contains(&response.status) {
            return Err(refused(response.status, &response.body));
        }
        serde_json::from_slice(&response.body).map_err(|error| {
            Failure::failed(format_args!("the controller's answer cannot be read: {error}"))
                .help("do ringfence and ringfence-controller have the same version?")
        })
    }

    fn no_answer(&self, error: &TransportError) -> Failure {
        let (exit, help) = match error {
            TransportError::Unreachable { .. }
            | TransportError::Closed { .. }
            | TransportError::Busy { .. } => (
                Exit::Unreachable,
                "is ringfence-controller running there, and does a firewall let its TCP port through?",
            ),
            TransportError::CertificateRefused { .. } => (
                Exit::Denied,
                "is this the context of that controller's mesh? Nothing was sent to it",
            ),
            TransportError::Denied { .. } | TransportError::Disowned { .. } => {
                (Exit::Denied, "use a context this controller has made")
            }
            TransportError::Timeout { .. } => (Exit::Timeout, "try again, or look at the controller's log"),
            TransportError::Protocol { .. } | TransportError::Setup(_) => (
                Exit::Failed,
                "is that a ringfence-controller of the same version?",
            ),
        };
        Failure::new(exit, format_args!("controller {}: {error}", self.server)).help(help)
    }
}

fn refused(status: u16, body: &[u8]) -> Failure {
    let exit = match status {
        401 | 403 => Exit::Denied,
        408 | 504 => Exit::Timeout,
        503 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return Failure::new(
            exit,
            format_args!("the controller answered with HTTP status {status}"),
        );
    };
    let mut message = if problem.detail.is_empty() {
        problem.title
    } else {
        problem.detail
    };
    if let Some(request) = &problem.request_id
        && status >= 500
    {
        message += &format!(" (request {request})");
    }
    let mut failure = Failure::new(exit, message);
    failure.findings = problem
        .findings
        .into_iter()
        .map(|finding| (finding, None))
        .collect();
    failure
}

/// `text` as one segment of a path: what could be anything else is refused here, with a better word than 404.
///
/// # Errors
/// If it holds more than letters, digits and hyphens.
pub(crate) fn path_segment(text: &str) -> Result<&str, Failure> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        return Ok(text);
    }
    Err(Failure::new(
        Exit::Usage,
        format_args!("{text:?} is neither a name (a-z, 0-9, -) nor an id"),
    ))
}

const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Changes and measurements take longer than look-ups.
const CHANGE_WAIT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_become_exit_codes() {
        let problem =
            serde_json::to_vec(&Problem::new(409, "stale-base", "Stale", "somebody was faster")).unwrap();

        assert_eq!(refused(409, &problem).exit, Exit::Failed);
        assert_eq!(refused(409, &problem).message, "somebody was faster");
        assert_eq!(refused(401, b"").exit, Exit::Denied);
        assert_eq!(refused(504, b"<html>").exit, Exit::Timeout);
    }

    #[test]
    fn a_path_segment_cannot_leave_its_place() {
        assert!(path_segment("db-1").is_ok());
        for odd in ["", "../tokens", "a/b", "a?x", "%2e%2e"] {
            assert_eq!(path_segment(odd).err().unwrap().exit, Exit::Usage);
        }
    }
}
