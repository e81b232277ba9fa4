//! Why a TPM did not do what it was asked.

use std::io;

/// Why a TPM did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// It cannot be reached.
    #[error("the TPM does not answer: {0}")]
    Channel(#[from] io::Error),
    /// It answered with something else.
    #[error("the TPM answered with a malformed {0}")]
    Malformed(&'static str),
    /// It refused.
    #[error("the TPM refuses {command}: {}", words(*.code))]
    Refused {
        /// What it was asked.
        command: &'static str,
        /// Its response code.
        code: u32,
    },
    /// A response did not come from the TPM that the session is with.
    #[error("a response of the TPM was changed on its way")]
    Changed,
    /// What was sealed was sealed by another TPM, or by this one before it was cleared.
    #[error("this is not the TPM that sealed it, or it was cleared since")]
    Another,
    /// The system's randomness gave what is no key.
    #[error("the random bytes make no key")]
    Entropy,
}

impl TpmError {
    /// Whether another try, later, may go well: the TPM was not reached, or was busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Channel(_) => true,
            Self::Refused { code, .. } => code & WARNING == WARNING,
            Self::Malformed(_) | Self::Changed | Self::Another | Self::Entropy => false,
        }
    }
}

/// A response code in words, for those that an administrator can do something about (part 2, 6.6).
fn words(code: u32) -> String {
    let plain = if code & FORMAT_ONE == FORMAT_ONE {
        code & 0x0bf
    } else {
        code
    };
    let means = match plain {
        0x08e | 0x0a2 => {
            "a password is set on its owner or endorsement hierarchy, which must be empty for this"
        }
        0x085 => "a hierarchy is switched off in the firmware",
        0x09f => "the data was not made by this TPM",
        0x100 => "it was not started: the firmware does this on a real machine",
        0x143 => "it does not know this command",
        0x902 => "it has no room for another object",
        0x903 => "it has no room for another session",
        0x921 => "it is locked out after too many wrong passwords",
        0x922 => "it is busy",
        _ => return format!("response code 0x{code:03x}"),
    };
    format!("{means} (0x{code:03x})")
}

/// Set in codes that carry a parameter, handle or session number, which is masked away.
const FORMAT_ONE: u32 = 0x080;
/// Set in codes that may pass.
const WARNING: u32 = 0x900;
