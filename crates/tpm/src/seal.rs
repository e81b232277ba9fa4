//! A secret that one TPM opens, and no other.
//!
//! It is sealed under the storage root key, with no further condition: the firmware, the kernel and its command line may
//! be updated. What it keeps out is another machine, not another program of this one.

use zeroize::Zeroizing;

use crate::channel::{Channel, Loaded, Tpm, handle_of};
use crate::command::{Authorization, Code, Command};
use crate::crypto::{Key, sha256};
use crate::error::TpmError;
use crate::public::{SHA256, Template, sealed_public};
use crate::session::Secret;
use crate::wire::{Reader, Writer};

/// A sealed secret of 32 bytes, for a file that anybody may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The name of the storage key it lies under. A TPM that has another key has not sealed it.
    storage: [u8; 34],
    public: Vec<u8>,
    private: Vec<u8>,
}

impl Sealed {
    /// All of it.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::default()
            .raw(&self.storage)
            .sized(&self.public)
            .sized(&self.private)
            .done()
    }

    /// What [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TpmError> {
        let malformed = TpmError::Malformed("sealed secret");
        let mut reader = Reader::new(bytes, "sealed secret");
        let storage = reader.raw(34)?.try_into().map_err(|_| malformed)?;
        let (public, private) = (reader.sized()?.to_vec(), reader.sized()?.to_vec());
        reader.end()?;
        Ok(Self {
            storage,
            public,
            private,
        })
    }

    fn name(&self) -> [u8; 34] {
        let mut name = [0; 34];
        name[..2].copy_from_slice(&SHA256.to_be_bytes());
        name[2..].copy_from_slice(&sha256(&[&self.public]));
        name
    }
}

impl<C: Channel> Tpm<C> {
    /// Seals a secret, and has the TPM open it once, so that what is returned is known to be of use.
    ///
    /// # Errors
    /// [`TpmError`] if the TPM cannot be reached or refuses.
    pub fn seal(&mut self, secret: &[u8; 32]) -> Result<Sealed, TpmError> {
        let sealed = self.with_primary(Template::Storage, |tpm, storage| tpm.seal_under(storage, secret))?;
        let opened = self.unseal(&sealed)?;
        if *opened == *secret {
            Ok(sealed)
        } else {
            Err(TpmError::Malformed("sealed secret"))
        }
    }

    /// Opens what [`Self::seal`] made on this TPM.
    ///
    /// # Errors
    /// [`TpmError::Another`] if it is not this TPM; otherwise if it cannot be reached or refuses.
    pub fn unseal(&mut self, sealed: &Sealed) -> Result<Key, TpmError> {
        self.with_primary(Template::Storage, |tpm, storage| {
            if storage.public.name() != sealed.storage {
                return Err(TpmError::Another);
            }
            let handle = tpm.load(storage, sealed)?;
            let opened = tpm.open(storage, sealed, handle);
            tpm.flush(handle);
            opened
        })
    }

    fn seal_under(&mut self, storage: &Loaded, secret: &[u8; 32]) -> Result<Sealed, TpmError> {
        // No password, and the secret (`TPMS_SENSITIVE_CREATE`).
        let sensitive = Zeroizing::new(Writer::default().sized(&[]).sized(secret).done());
        let parameters = Writer::default()
            .sized(&sensitive)
            .sized(&sealed_public())
            .sized(&[])
            .u32(0);
        let command = Command {
            code: Code::Create,
            handles: &[storage.handle],
            parameters: Zeroizing::new(parameters.done()),
        };
        let name = storage.public.name();
        let response = self.with_session(storage, |tpm, session| {
            tpm.run_in(session, command, &name, Secret::Goes)
        })?;
        let mut reader = Reader::new(&response.parameters, "sealed secret");
        let (private, public) = (reader.sized()?.to_vec(), reader.sized()?.to_vec());
        Ok(Sealed {
            storage: name,
            public,
            private,
        })
    }

    fn load(&mut self, storage: &Loaded, sealed: &Sealed) -> Result<u32, TpmError> {
        let parameters = Writer::default().sized(&sealed.private).sized(&sealed.public);
        let handles = [storage.handle];
        let response = self.ask(Code::Load, &handles, parameters, &[Authorization::empty()]);
        response.and_then(|response| handle_of(&response))
    }

    fn open(&mut self, storage: &Loaded, sealed: &Sealed, handle: u32) -> Result<Key, TpmError> {
        let command = Command {
            code: Code::Unseal,
            handles: &[handle],
            parameters: Zeroizing::default(),
        };
        let response = self.with_session(storage, |tpm, session| {
            tpm.run_in(session, command, &sealed.name(), Secret::Comes)
        })?;
        let mut reader = Reader::new(&response.parameters, "unsealed secret");
        let mut secret = Zeroizing::new([0; 32]);
        let data = reader.sized()?;
        if data.len() != secret.len() {
            return Err(TpmError::Malformed("unsealed secret"));
        }
        secret.copy_from_slice(data);
        reader.end()?;
        Ok(secret)
    }
}
