//! Where a browser comes back to after a login: a port of the loopback interface (RFC 8252, section 7.3).
//!
//! **Invariant:** it answers one path, to whoever asks for it by its address, and believes an answer only with the state
//! of this login.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// A port that waits for a browser.
pub(crate) struct Callback {
    listener: TcpListener,
    port: u16,
}

/// What a browser brought back.
pub(crate) struct Returned {
    /// What the provider said.
    pub answer: Answer,
    /// The person's window, which waits for the last word.
    pub window: Window,
}

/// What a provider said by way of a browser.
pub(crate) struct Answer {
    /// The code, or why there is none.
    pub code: Result<Zeroizing<String>, String>,
    /// The issuer, if it said.
    pub issuer: Option<String>,
}

/// A browser's window that waits for an answer.
pub(crate) struct Window(TcpStream);

impl Callback {
    /// Listens on this port of 127.0.0.1, or on any free one.
    ///
    /// # Errors
    /// If the port is taken.
    pub(crate) fn listen(port: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = listener.map_err(|error| {
            Failure::failed(format_args!("port {port} of 127.0.0.1 cannot be opened: {error}"))
        })?;
        let port = listener.local_addr().map_err(Failure::failed)?.port();
        Ok(Self { listener, port })
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the browser that brings `state` back.
    ///
    /// # Errors
    /// [`Exit::Timeout`] if none does in time.
    pub(crate) fn wait(&self, state: &str, patience: Duration) -> Result<Returned, Failure> {
        let deadline = Instant::now() + patience;
        self.listener.set_nonblocking(true).map_err(Failure::failed)?;
        while Instant::now() < deadline {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Some(returned) = self.hear(stream, state) {
                        return Ok(returned);
                    }
                }
                Err(_) => std::thread::sleep(ACCEPT_PAUSE),
            }
        }
        Err(Failure::new(
            Exit::Timeout,
            "nobody logged in in time: begin again",
        ))
    }

    /// One request, of whoever: `None` if it is not the one that is waited for.
    fn hear(&self, stream: TcpStream, state: &str) -> Option<Returned> {
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(READ_WAIT)))
            .and_then(|()| stream.set_write_timeout(Some(READ_WAIT)));
        prepared.ok()?;
        let head = read_head(&stream)?;
        let mut window = Window(stream);
        match self.judge(&head, state) {
            Ok(answer) => Some(Returned { answer, window }),
            Err(status) => {
                window.say(status, "This is not the answer that Ringfence waits for.");
                None
            }
        }
    }

    fn judge(&self, head: &Head, state: &str) -> Result<Answer, &'static str> {
        // A page can have a name of its own lead here, and ask for it (red line 9).
        let hosts = [
            format!("127.0.0.1:{}", self.port),
            format!("localhost:{}", self.port),
        ];
        if !head.host.as_ref().is_some_and(|host| hosts.contains(host)) {
            return Err("421 Misdirected Request");
        }
        if head.origin.as_ref().is_some_and(|origin| origin != "null") {
            return Err("403 Forbidden");
        }
        let Some(query) = head.target.strip_prefix("/callback?") else {
            return Err("404 Not Found");
        };
        let mut fields = std::collections::BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if fields
                .insert(name.into_owned(), Zeroizing::new(value.into_owned()))
                .is_some()
            {
                // RFC 6749, section 3.1: no parameter twice.
                return Err("400 Bad Request");
            }
        }
        if fields.get("state").is_none_or(|given| **given != *state) {
            return Err("400 Bad Request");
        }
        let issuer = fields.get("iss").map(|issuer| issuer.to_string());
        let answer = match (fields.remove("code"), fields.get("error")) {
            (Some(code), None) => Ok(code),
            (_, Some(error)) => {
                let more = fields.get("error_description").map_or("", |text| text.as_str());
                Err(format!("{} {more}", error.as_str()).trim().to_owned())
            }
            (None, None) => return Err("400 Bad Request"),
        };
        Ok(Answer { code: answer, issuer })
    }
}

impl Window {
    /// Shows one sentence. Whether the person still looks is not ours to know.
    pub(crate) fn say(&mut self, status: &str, sentence: &str) {
        let body = format!(
            "<!doctype html><meta charset=utf-8><title>Ringfence</title><p>{}",
            plain(sentence)
        );
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = self.0.write_all(answer.as_bytes());
    }
}

/// What is read of a request.
struct Head {
    target: Zeroizing<String>,
    host: Option<String>,
    origin: Option<String>,
}

fn read_head(stream: &TcpStream) -> Option<Head> {
    let mut lines = BufReader::new(stream.take(HEAD_BYTES_MAX)).lines();
    let first = Zeroizing::new(lines.next()?.ok()?);
    let target = first.strip_prefix("GET ")?.split(' ').next()?;
    let mut head = Head {
        target: Zeroizing::new(target.to_owned()),
        host: None,
        origin: None,
    };
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            return Some(head);
        }
        let (name, value) = line.split_once(':')?;
        let field = match name.to_ascii_lowercase().as_str() {
            "host" => &mut head.host,
            "origin" => &mut head.origin,
            _ => continue,
        };
        // Two of them are a request that two readers read in two ways.
        if field.replace(value.trim().to_ascii_lowercase()).is_some() {
            return None;
        }
    }
}

/// A sentence that cannot be markup.
fn plain(sentence: &str) -> String {
    let sentence = sentence.replace('&', "&amp;");
    sentence.replace('<', "&lt;").replace('>', "&gt;")
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A browser sends its request at once.
const READ_WAIT: Duration = Duration::from_secs(2);
const HEAD_BYTES_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a request and gives the status of the answer, if there is one within the time.
    fn send(port: u16, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or("").to_owned())
    }

    fn get(port: u16, target: &str, more: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n")
    }

    #[test]
    fn a_code_is_taken_with_the_right_state_alone() {
        let callback = Callback::listen(0).unwrap();
        let port = callback.port();
        let browser = std::thread::spawn(move || {
            let odd = [
                get(port, "/callback?code=evil&state=other", ""),
                get(port, "/callback?code=evil", ""),
                get(port, "/callback?code=evil&state=s&state=s", ""),
                get(port, "/other?code=evil&state=s", ""),
                get(
                    port,
                    "/callback?code=evil&state=s",
                    "Origin: https://evil.example\r\n",
                ),
                "GET /callback?code=evil&state=s HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
                "POST /callback?code=evil&state=s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
            ];
            let statuses: Vec<String> = odd
                .iter()
                .map(|request| send(port, request).unwrap_or_default())
                .collect();
            let last = send(
                port,
                &get(port, "/callback?code=a%2Fb&state=s&iss=https%3A%2F%2Fi", ""),
            );
            (statuses, last.unwrap())
        });

        let mut returned = callback.wait("s", Duration::from_secs(10)).unwrap();
        returned.window.say("200 OK", "done");
        drop(returned.window);

        assert_eq!(*returned.answer.code.unwrap(), "a/b");
        assert_eq!(returned.answer.issuer.as_deref(), Some("https://i"));
        let (statuses, last) = browser.join().unwrap();
        assert!(
            statuses.iter().all(|status| !status.contains("200")),
            "{statuses:?}"
        );
        assert!(last.contains("200"), "{last}");
    }

    #[test]
    fn a_refusal_is_an_answer_too() {
        let callback = Callback::listen(0).unwrap();
        let port = callback.port();
        let request = get(
            port,
            "/callback?error=access_denied&error_description=no&state=s",
            "",
        );
        let browser = std::thread::spawn(move || send(port, &request));

        let returned = callback.wait("s", Duration::from_secs(10)).unwrap();
        assert_eq!(returned.answer.code.unwrap_err(), "access_denied no");
        drop(returned.window);
        let _ = browser.join();
    }

    #[test]
    fn who_says_nothing_does_not_hold_it_up_for_ever() {
        let callback = Callback::listen(0).unwrap();
        let _silent = TcpStream::connect((Ipv4Addr::LOCALHOST, callback.port())).unwrap();

        let late = callback.wait("s", Duration::from_millis(100)).err().unwrap();

        assert_eq!(late.exit, Exit::Timeout);
    }
}
