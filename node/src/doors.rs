//! The node's readers of sockets, fed with bytes alone: what `tests/fuzz` knocks at.

use futures_util::FutureExt as _;

use crate::uapi::{Request, read_request};

/// How many requests to tell, and how many others, the socket for `wg` makes of these bytes.
pub fn wireguard_requests(mut bytes: &[u8]) -> (usize, usize) {
    let (mut told, mut refused) = (0, 0);
    loop {
        // A slice has all there will be: nothing waits.
        match read_request(&mut bytes).now_or_never() {
            Some(Ok(Request::Get)) => told += 1,
            Some(Ok(Request::Set | Request::Unknown)) => refused += 1,
            Some(Ok(Request::End) | Err(_)) | None => return (told, refused),
        }
    }
}
