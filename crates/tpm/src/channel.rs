//! A TPM behind a channel that somebody else opened, and the commands that several of its uses share.

use std::io;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::command::{Authorization, Code, Command, Response};
use crate::crypto::Key;
use crate::error::TpmError;
use crate::public::{EccPublic, Template};
use crate::wire::{Reader, Writer};

/// Carries one command to a TPM, and its response back.
pub trait Channel {
    /// Sends `command`, and gives the whole response to it.
    ///
    /// # Errors
    /// If the TPM cannot be reached. The channel is of no use after that.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// A TPM 2.0. What it makes in a TPM it removes again before it returns.
pub struct Tpm<C> {
    channel: C,
    random: ChaCha20Rng,
}

/// A key in the TPM for now.
pub(crate) struct Loaded {
    pub(crate) handle: u32,
    pub(crate) public: EccPublic,
}

impl<C: Channel> Tpm<C> {
    /// A TPM behind `channel`. Nonces and ephemeral keys are drawn from `seed`, which is used for nothing else.
    pub fn new(channel: C, seed: [u8; 32]) -> Self {
        Self {
            channel,
            random: ChaCha20Rng::from_seed(seed),
        }
    }

    pub(crate) fn draw(&mut self) -> Key {
        let mut bytes = Zeroizing::new([0; 32]);
        self.random.fill_bytes(&mut bytes[..]);
        bytes
    }

    pub(crate) fn run(
        &mut self,
        command: &Command<'_>,
        authorizations: &[Authorization],
    ) -> Result<Response, TpmError> {
        let response = self.channel.exchange(&command.encode(authorizations))?;
        command.decode(&Zeroizing::new(response))
    }

    /// A command by which nothing is made, with an empty password for each handle that takes one.
    pub(crate) fn ask(
        &mut self,
        code: Code,
        handles: &[u32],
        parameters: Writer,
        authorizations: &[Authorization],
    ) -> Result<Response, TpmError> {
        let command = Command {
            code,
            handles,
            parameters: Zeroizing::new(parameters.done()),
        };
        self.run(&command, authorizations)
    }

    /// Makes the one key that this TPM has by a template: the same each time, from a seed that it never tells.
    pub(crate) fn primary(&mut self, template: Template) -> Result<Loaded, TpmError> {
        let hierarchy = match template {
            Template::Storage => OWNER,
            Template::Endorsement | Template::Attestation => ENDORSEMENT,
        };
        let parameters = Writer::default()
            // Neither password nor data of the caller's.
            .sized(&[0; 4])
            .sized(&template.public())
            .sized(&[])
            .u32(0);
        let response = self.ask(
            Code::CreatePrimary,
            &[hierarchy],
            parameters,
            &[Authorization::empty()],
        )?;
        let handle = handle_of(&response)?;
        let public = Reader::new(&response.parameters, "public area").sized();
        let public = public.and_then(|bytes| {
            EccPublic::parse(template, bytes).map_err(|_| TpmError::Malformed("public area"))
        });
        match public {
            Ok(public) => Ok(Loaded { handle, public }),
            Err(error) => {
                self.flush(handle);
                Err(error)
            }
        }
    }

    /// Has `work` done on a key made by a template, and removes it.
    pub(crate) fn with_primary<T>(
        &mut self,
        template: Template,
        work: impl FnOnce(&mut Self, &Loaded) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let key = self.primary(template)?;
        let done = work(self, &key);
        self.flush(key.handle);
        done
    }

    /// Removes what was made. A TPM that cannot be reached any more has forgotten it, or its resource manager has.
    pub(crate) fn flush(&mut self, handle: u32) {
        let _ = self.ask(Code::FlushContext, &[], Writer::default().u32(handle), &[]);
    }
}

pub(crate) fn handle_of(response: &Response) -> Result<u32, TpmError> {
    response.handle.ok_or(TpmError::Malformed("response"))
}

const OWNER: u32 = 0x4000_0001;
pub(crate) const ENDORSEMENT: u32 = 0x4000_000b;
/// In place of a handle: none.
pub(crate) const NONE: u32 = 0x4000_0007;
