//! Frames on a control stream: `length u32 BE | kind u16 BE | body`, where length counts the body alone.
//!
//! **Invariant:** the decoder never holds more than has arrived, nor more than one frame's limit and what came with
//! it; a length over the limit is refused before its body is waited for.

/// One message in its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is. Unknown kinds are skipped, so that either end may be newer.
    pub kind: u16,
    /// CBOR.
    pub body: Vec<u8>,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than the limit.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// What the header says.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// How much of `buffer` has been given out already.
    taken: usize,
    limit: usize,
}

impl FrameDecoder {
    /// One that takes bodies of up to [`FRAME_BYTES_MAX`].
    pub fn new() -> Self {
        Self::with_limit(FRAME_BYTES_MAX)
    }

    /// One that takes bodies of up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            taken: 0,
            limit,
        }
    }

    /// Adds what has arrived. Drain [`Self::next_frame`] before adding more: that is what bounds the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more has arrived.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]: the stream is of no more use, and every further call says so again.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some((header, rest)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let (length, kind) = parse_header(*header, self.limit)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let body = body.to_vec();
        self.taken += FRAME_HEADER_BYTES + length;
        Ok(Some(Frame { kind, body }))
    }

    /// Whether the stream stands between two frames: anything else at its end means it was cut.
    pub fn is_at_boundary(&self) -> bool {
        self.taken == self.buffer.len()
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads a header: length of the body, and kind.
///
/// # Errors
/// [`FrameError::TooLong`] if the body is over `limit`.
pub fn parse_header(header: [u8; FRAME_HEADER_BYTES], limit: usize) -> Result<(usize, u16), FrameError> {
    let [length @ .., high, low] = header;
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(FrameError::TooLong { bytes, limit });
    }
    Ok((bytes, u16::from_be_bytes([high, low])))
}

/// Puts `body` in its envelope.
///
/// # Errors
/// [`FrameError::TooLong`] if it is over [`FRAME_BYTES_MAX`].
pub fn encode_frame(kind: u16, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    encode_frame_within(FRAME_BYTES_MAX, kind, body)
}

/// The same for a body of up to `limit` bytes.
///
/// # Errors
/// [`FrameError::TooLong`] if it is over `limit`.
pub fn encode_frame_within(limit: usize, kind: u16, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let bytes = body.len();
    let too_long = FrameError::TooLong { bytes, limit };
    let length = u32::try_from(bytes).map_err(|_| too_long)?;
    if bytes > limit {
        return Err(too_long);
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

/// The longest body that anybody may send to a controller.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The longest body that a controller sends to a node, which has one controller at a time and so holds one such body at
/// most: a netmap of 16,384 peers that all have the longest names weighs 3.8 MiB, and what is left is for its rules.
pub const NETMAP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Length and kind.
pub const FRAME_HEADER_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_body_arrives() {
        let mut decoder = FrameDecoder::with_limit(10);

        decoder.push(&[0, 0, 0, 11, 0, 1]);

        let refused = Err(FrameError::TooLong { bytes: 11, limit: 10 });
        assert_eq!(decoder.next_frame(), refused);
        assert_eq!(decoder.next_frame(), refused);
    }

    #[test]
    fn the_longest_body_passes_and_one_more_byte_does_not() {
        let frame = encode_frame(1, &vec![7; FRAME_BYTES_MAX]).unwrap();
        let mut decoder = FrameDecoder::new();
        decoder.push(&frame);

        assert_eq!(decoder.next_frame().unwrap().unwrap().body.len(), FRAME_BYTES_MAX);
        assert!(encode_frame(1, &vec![7; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_stream_cut_inside_a_frame_is_noticed() {
        let frame = encode_frame(3, b"body").unwrap();
        let mut decoder = FrameDecoder::new();

        decoder.push(&frame[..frame.len() - 1]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(!decoder.is_at_boundary());

        decoder.push(&frame[frame.len() - 1..]);
        assert!(decoder.next_frame().unwrap().is_some());
        assert!(decoder.is_at_boundary());
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..50)), 0..10),
            chunk in 1_usize..40,
        ) {
            let mut stream = Vec::new();
            for (kind, body) in &frames {
                stream.extend(encode_frame(*kind, body).unwrap());
            }
            let mut decoder = FrameDecoder::new();
            let mut seen = Vec::new();
            for piece in stream.chunks(chunk) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push((frame.kind, frame.body));
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(decoder.is_at_boundary());
        }

        #[test]
        fn no_bytes_panic_the_decoder(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let mut decoder = FrameDecoder::with_limit(64);
            for piece in pieces {
                decoder.push(&piece);
                while let Ok(Some(frame)) = decoder.next_frame() {
                    prop_assert!(frame.body.len() <= 64);
                }
            }
        }
    }
}
