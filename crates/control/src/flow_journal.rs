//! How a node's spool lies on its disk: entries appended to files, read back up to the first that is torn.
//!
//! An entry is `length u32 BE | check [4] | kind u8 | CBOR`; the check is the head of a SHA-256 over what follows it.
//! Records and acknowledgements are appended as they come, a file is removed whole once nothing in it is owed.
//!
//! **Invariant:** reading never panics and never gives a record that was not written. A torn tail costs only records
//! after it in that file; each file is read for itself.

use sha2::{Digest as _, Sha256};

use crate::flow_spool::Spooled;
use crate::{FlowRecordsTaken, FlowReport};

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEntry {
    /// This is owed.
    Owed(Spooled),
    /// This is not any more.
    Taken(FlowRecordsTaken),
}

impl FlowEntry {
    /// Appends the entry to `bytes`.
    ///
    /// # Errors
    /// Says why it cannot be written: a fault of ours. `bytes` is then as it was.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; HEAD]);
        let written = match self {
            Self::Owed(Spooled {
                stream,
                number,
                report,
            }) => {
                bytes.push(OWED);
                ciborium::into_writer(&(stream, number, report), &mut *bytes)
            }
            Self::Taken(taken) => {
                bytes.push(TAKEN);
                ciborium::into_writer(taken, &mut *bytes)
            }
        };
        let length = u32::try_from(bytes.len() - start - HEAD);
        match (written, length) {
            (Ok(()), Ok(length)) if length as usize <= ENTRY_BYTES_MAX => {
                let check = check(&bytes[start + HEAD..]);
                bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
                bytes[start + 4..start + HEAD].copy_from_slice(&check);
                Ok(())
            }
            (written, _) => {
                bytes.truncate(start);
                Err(written.map_or_else(|error| error.to_string(), |()| "it is too long".to_owned()))
            }
        }
    }

    /// The entries of one file, up to the first that is torn, damaged or of a later format.
    pub fn read(mut bytes: &[u8]) -> Vec<Self> {
        let mut entries = Vec::new();
        while let Some((entry, rest)) = Self::read_one(bytes) {
            entries.push(entry);
            bytes = rest;
        }
        entries
    }

    /// What is still owed after `entries`, in the order it came.
    pub fn owed(entries: impl IntoIterator<Item = Self>) -> Vec<Spooled> {
        let mut owed = Vec::new();
        let mut taken = std::collections::BTreeMap::<u64, u64>::new();
        for entry in entries {
            match entry {
                Self::Owed(record) => owed.push(record),
                Self::Taken(FlowRecordsTaken { stream, through }) => {
                    let known = taken.entry(stream).or_default();
                    *known = through.max(*known);
                }
            }
        }
        owed.retain(|record: &Spooled| {
            taken
                .get(&record.stream)
                .is_none_or(|through| record.number >= *through)
        });
        owed
    }

    fn read_one(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (stated, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > ENTRY_BYTES_MAX {
            return None;
        }
        let (body, rest) = rest.split_at_checked(length)?;
        if check(body) != *stated {
            return None;
        }
        let (kind, body) = body.split_first()?;
        let entry = match *kind {
            OWED => {
                let (stream, number, report): (u64, u64, FlowReport) = ciborium::from_reader(body).ok()?;
                Self::Owed(Spooled {
                    stream,
                    number,
                    report,
                })
            }
            TAKEN => Self::Taken(ciborium::from_reader(body).ok()?),
            _ => return None,
        };
        Some((entry, rest))
    }
}

fn check(body: &[u8]) -> [u8; 4] {
    let hash: [u8; 32] = Sha256::digest(body).into();
    [hash[0], hash[1], hash[2], hash[3]]
}

const HEAD: usize = 8;
const OWED: u8 = 1;
const TAKEN: u8 = 2;
/// A record, with its name and kind.
const ENTRY_BYTES_MAX: usize = FlowReport::BYTES_MAX + 32;

#[cfg(test)]
mod tests;
