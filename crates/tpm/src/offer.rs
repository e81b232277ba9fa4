//! What a TPM shows of itself, and how it answers a challenge.

use crate::attest::{Answer, qualifying};
use crate::channel::{Channel, ENDORSEMENT, Loaded, NONE, Tpm, handle_of};
use crate::command::{Authorization, Code};
use crate::credential::Challenge;
use crate::error::TpmError;
use crate::public::{NULL, SHA256, Template};
use crate::wire::{Reader, Writer};

/// What a TPM shows of itself. Nothing of it is believed: see [`crate::challenge`] and [`crate::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The public area of its endorsement key, at most [`PUBLIC_BYTES_MAX`].
    pub endorsement: Vec<u8>,
    /// The certificate of that key in DER, at most [`CERTIFICATE_BYTES_MAX`], if its maker has put one in it.
    pub certificate: Option<Vec<u8>>,
    /// The public area of an attestation key, at most [`PUBLIC_BYTES_MAX`].
    pub attestation: Vec<u8>,
}

impl<C: Channel> Tpm<C> {
    /// What this TPM shows of itself.
    ///
    /// # Errors
    /// [`TpmError`] if it cannot be reached or refuses.
    pub fn offer(&mut self) -> Result<Offer, TpmError> {
        let bytes = |_: &mut Self, key: &Loaded| Ok(key.public.as_bytes().to_vec());
        let endorsement = self.with_primary(Template::Endorsement, bytes)?;
        let attestation = self.with_primary(Template::Attestation, bytes)?;
        Ok(Offer {
            endorsement,
            certificate: self.certificate()?,
            attestation,
        })
    }

    /// Answers a challenge, for this `binding` alone.
    ///
    /// # Errors
    /// [`TpmError`] if it cannot be reached, or refuses: a challenge that was made for another TPM, too.
    pub fn answer(&mut self, challenge: &Challenge, binding: &[u8]) -> Result<Answer, TpmError> {
        self.with_primary(Template::Attestation, |tpm, attestation| {
            let secret = tpm.with_primary(Template::Endorsement, |tpm, endorsement| {
                tpm.activate(attestation, endorsement, challenge)
            })?;
            tpm.quote(attestation, &qualifying(&secret, binding))
        })
    }

    fn activate(
        &mut self,
        attestation: &Loaded,
        endorsement: &Loaded,
        challenge: &Challenge,
    ) -> Result<Vec<u8>, TpmError> {
        let policy = self.endorsement_policy()?;
        let authorizations = [
            Authorization::empty(),
            Authorization {
                session: policy,
                ..Authorization::empty()
            },
        ];
        let handles = [attestation.handle, endorsement.handle];
        let parameters = Writer::default()
            .sized(&challenge.credential)
            .sized(&challenge.secret);
        let response = self.ask(Code::ActivateCredential, &handles, parameters, &authorizations);
        // Used up if it went well; left over otherwise.
        self.flush(policy);
        let response = response?;
        let mut reader = Reader::new(&response.parameters, "credential");
        let secret = reader.sized()?.to_vec();
        reader.end()?;
        Ok(secret)
    }

    /// A session that proves the endorsement hierarchy's password, which is empty: what the endorsement key asks for.
    fn endorsement_policy(&mut self) -> Result<u32, TpmError> {
        let nonce = self.draw();
        let parameters = Writer::default()
            .sized(&nonce[..])
            .sized(&[])
            .u8(POLICY_SESSION)
            .u16(NULL)
            .u16(SHA256);
        let response = self.ask(Code::StartAuthSession, &[NONE, NONE], parameters, &[])?;
        let policy = handle_of(&response)?;
        // No nonce, no command, no reference, no end.
        let parameters = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0);
        let handles = [ENDORSEMENT, policy];
        let proved = self.ask(
            Code::PolicySecret,
            &handles,
            parameters,
            &[Authorization::empty()],
        );
        if let Err(error) = proved {
            self.flush(policy);
            return Err(error);
        }
        Ok(policy)
    }

    fn quote(&mut self, attestation: &Loaded, qualifying: &[u8; 32]) -> Result<Answer, TpmError> {
        // The key's own scheme, and no register: what is asked is which TPM answers, not what was started.
        let parameters = Writer::default().sized(qualifying).u16(NULL).u32(0);
        let handles = [attestation.handle];
        let response = self.ask(Code::Quote, &handles, parameters, &[Authorization::empty()])?;
        let mut reader = Reader::new(&response.parameters, "quote");
        Ok(Answer {
            quote: reader.sized()?.to_vec(),
            signature: reader.rest().to_vec(),
        })
    }

    fn certificate(&mut self) -> Result<Option<Vec<u8>>, TpmError> {
        let handles = [CERTIFICATE_INDEX];
        let read = match self.ask(Code::NvReadPublic, &handles, Writer::default(), &[]) {
            Ok(read) => read,
            // The maker has put none there.
            Err(TpmError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut reader = Reader::new(&read.parameters, "index");
        let mut public = Reader::new(reader.sized()?, "index");
        let (_index, _hash, _attributes) = (public.u32()?, public.u16()?, public.u32()?);
        let _policy = public.sized()?;
        let size = usize::from(public.u16()?);
        if size > CERTIFICATE_BYTES_MAX {
            return Ok(None);
        }
        self.read_index(size).map(|bytes| trimmed(&bytes))
    }

    fn read_index(&mut self, size: usize) -> Result<Vec<u8>, TpmError> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let part = (size - bytes.len()).min(READ_BYTES_MAX);
            let (part, at) = (part as u16, bytes.len() as u16);
            let parameters = Writer::default().u16(part).u16(at);
            let handles = [CERTIFICATE_INDEX, CERTIFICATE_INDEX];
            let read = self.ask(Code::NvRead, &handles, parameters, &[Authorization::empty()])?;
            let data = Reader::new(&read.parameters, "index").sized()?;
            if data.len() != usize::from(part) {
                return Err(TpmError::Malformed("index"));
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    }
}

/// The certificate without what fills the index behind it; `None` if there is none in it.
fn trimmed(bytes: &[u8]) -> Option<Vec<u8>> {
    // A DER sequence with a length of two bytes: every certificate.
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let [0x30, 0x82, high, low] = *head else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    rest.get(..length).map(|_| bytes[..4 + length].to_vec())
}

/// Bytes of a public area.
pub const PUBLIC_BYTES_MAX: usize = 256;
/// Bytes of an endorsement certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Where the certificate of the default P-256 endorsement key lies (EK credential profile, 2.2.1.4).
const CERTIFICATE_INDEX: u32 = 0x01c0_000a;
/// What every TPM gives at once.
const READ_BYTES_MAX: usize = 512;
const POLICY_SESSION: u8 = 1;
