//! A session whose key only this end and the TPM know, so that secrets pass the wires between encrypted (part 1, 19).
//!
//! It is salted for the storage key. Whoever listens on the bus sees neither what is sealed nor what is unsealed; whoever
//! answers in the TPM's place would need a storage key with the name that is written down beside what was sealed.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::channel::{Channel, Loaded, NONE, Tpm, handle_of};
use crate::command::{Authorization, Code, Command, Response};
use crate::crypto::{Key, agree, decrypt, encrypt, halves, hmac, kdf_a, sha256};
use crate::error::TpmError;
use crate::public::{AES, CFB, SHA256};
use crate::wire::{Reader, Writer};

/// A salted session.
pub(crate) struct Session {
    handle: u32,
    key: Key,
    nonce_tpm: Vec<u8>,
}

/// Which way a secret goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// It is the first parameter of the command.
    Goes,
    /// It is the first parameter of the response.
    Comes,
}

impl<C: Channel> Tpm<C> {
    /// Has `work` done in a session salted for `storage`, and ends it.
    pub(crate) fn with_session<T>(
        &mut self,
        storage: &Loaded,
        work: impl FnOnce(&mut Self, &mut Session) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let mut session = self.start_session(storage)?;
        let done = work(self, &mut session);
        self.flush(session.handle);
        done
    }

    fn start_session(&mut self, storage: &Loaded) -> Result<Session, TpmError> {
        let (ephemeral, nonce_caller) = (self.draw(), self.draw());
        let agreed = agree(&ephemeral, storage.public.point(), "SECRET");
        let (salt, own) = agreed.ok_or(TpmError::Entropy)?;
        let point = Writer::default().sized(&own.x).sized(&own.y).done();
        let parameters = Writer::default()
            .sized(&nonce_caller[..])
            .sized(&point)
            .u8(HMAC_SESSION)
            .u16(AES)
            .u16(128)
            .u16(CFB)
            .u16(SHA256);
        let response = self.ask(Code::StartAuthSession, &[storage.handle, NONE], parameters, &[])?;
        let mut reader = Reader::new(&response.parameters, "session");
        let nonce_tpm = reader.sized()?.to_vec();
        reader.end()?;
        Ok(Session {
            handle: handle_of(&response)?,
            key: kdf_a(&salt[..], "ATH", &nonce_tpm, &nonce_caller[..], 256),
            nonce_tpm,
        })
    }

    /// Runs a command on one key or object called `name`, authorized by `session`, with its secret encrypted.
    pub(crate) fn run_in(
        &mut self,
        session: &mut Session,
        mut command: Command<'_>,
        name: &[u8],
        secret: Secret,
    ) -> Result<Response, TpmError> {
        let nonce_caller = self.draw();
        let attributes = CONTINUE
            | match secret {
                Secret::Goes => DECRYPT,
                Secret::Comes => ENCRYPT,
            };
        if secret == Secret::Goes {
            let (key, iv) = session.cipher(&nonce_caller[..], &session.nonce_tpm);
            encrypt(&key, &iv, first(&mut command.parameters)?);
        }
        let code = command.code.number().to_be_bytes();
        let asked = sha256(&[&code, name, &command.parameters]);
        let nonces = [&nonce_caller[..], &session.nonce_tpm];
        let authorization = Authorization {
            session: session.handle,
            nonce: nonce_caller.to_vec(),
            attributes,
            hmac: session.proof(&asked, nonces, attributes).to_vec(),
        };
        let mut response = self.run(&command, &[authorization])?;
        let [proof] = &response.authorizations[..] else {
            return Err(TpmError::Malformed("response"));
        };
        let answered = sha256(&[&[0; 4], &code, &response.parameters]);
        let nonces = [&proof.nonce[..], &nonce_caller[..]];
        let expected = session.proof(&answered, nonces, proof.attributes);
        if !bool::from(expected[..].ct_eq(&proof.hmac)) {
            return Err(TpmError::Changed);
        }
        session.nonce_tpm.clone_from(&proof.nonce);
        if secret == Secret::Comes {
            // Whoever changed the response could not have made its proof; a TPM says itself that it encrypted.
            if proof.attributes & ENCRYPT == 0 {
                return Err(TpmError::Changed);
            }
            let (key, iv) = session.cipher(&session.nonce_tpm, &nonce_caller[..]);
            decrypt(&key, &iv, first(&mut response.parameters)?);
        }
        Ok(response)
    }
}

impl Session {
    fn cipher(&self, newer: &[u8], older: &[u8]) -> (Zeroizing<[u8; 16]>, Zeroizing<[u8; 16]>) {
        halves(&kdf_a(&self.key[..], "CFB", newer, older, 256))
    }

    /// The HMAC over what is asked or answered. What is asked for has an empty password, so the key is the session's alone.
    fn proof(&self, digest: &[u8; 32], [newer, older]: [&[u8]; 2], attributes: u8) -> [u8; 32] {
        hmac(&self.key[..], &[digest, newer, older, &[attributes]])
    }
}

/// The content of the first parameter, which is a buffer behind its length.
fn first(parameters: &mut [u8]) -> Result<&mut [u8], TpmError> {
    let malformed = TpmError::Malformed("response");
    let Some((length, rest)) = parameters.split_first_chunk_mut::<2>() else {
        return Err(malformed);
    };
    rest.get_mut(..usize::from(u16::from_be_bytes(*length)))
        .ok_or(malformed)
}

const HMAC_SESSION: u8 = 0;
const CONTINUE: u8 = 1;
const DECRYPT: u8 = 1 << 5;
const ENCRYPT: u8 = 1 << 6;
