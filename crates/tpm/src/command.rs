//! Commands and responses: header, handles, authorizations, parameters.

use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::wire::{Reader, Writer};

/// What a TPM can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    ActivateCredential,
    Create,
    CreatePrimary,
    FlushContext,
    Load,
    NvRead,
    NvReadPublic,
    PolicySecret,
    Quote,
    StartAuthSession,
    Unseal,
}

/// One command, ready to be authorized.
pub(crate) struct Command<'a> {
    pub(crate) code: Code,
    pub(crate) handles: &'a [u32],
    /// Wiped: a secret to seal goes in them.
    pub(crate) parameters: Zeroizing<Vec<u8>>,
}

/// How a command is authorized: one entry a handle that asks for it.
pub(crate) struct Authorization {
    pub(crate) session: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) attributes: u8,
    pub(crate) hmac: Vec<u8>,
}

/// What came back.
pub(crate) struct Response {
    pub(crate) handle: Option<u32>,
    /// Wiped: what was sealed comes in them.
    pub(crate) parameters: Zeroizing<Vec<u8>>,
    pub(crate) authorizations: Vec<Authorization>,
}

impl Code {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::ActivateCredential => 0x147,
            Self::Create => 0x153,
            Self::CreatePrimary => 0x131,
            Self::FlushContext => 0x165,
            Self::Load => 0x157,
            Self::NvRead => 0x14e,
            Self::NvReadPublic => 0x169,
            Self::PolicySecret => 0x151,
            Self::Quote => 0x158,
            Self::StartAuthSession => 0x176,
            Self::Unseal => 0x15e,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::ActivateCredential => "ActivateCredential",
            Self::Create => "Create",
            Self::CreatePrimary => "CreatePrimary",
            Self::FlushContext => "FlushContext",
            Self::Load => "Load",
            Self::NvRead => "NV_Read",
            Self::NvReadPublic => "NV_ReadPublic",
            Self::PolicySecret => "PolicySecret",
            Self::Quote => "Quote",
            Self::StartAuthSession => "StartAuthSession",
            Self::Unseal => "Unseal",
        }
    }

    /// Whether its response begins with a handle.
    const fn makes_handle(self) -> bool {
        match self {
            Self::CreatePrimary | Self::Load | Self::StartAuthSession => true,
            Self::ActivateCredential
            | Self::Create
            | Self::FlushContext
            | Self::NvRead
            | Self::NvReadPublic
            | Self::PolicySecret
            | Self::Quote
            | Self::Unseal => false,
        }
    }
}

impl Authorization {
    /// With an empty password.
    pub(crate) fn empty() -> Self {
        Self {
            session: PASSWORD,
            nonce: Vec::new(),
            attributes: 0,
            hmac: Vec::new(),
        }
    }

    fn write(&self, writer: Writer) -> Writer {
        writer
            .u32(self.session)
            .sized(&self.nonce)
            .u8(self.attributes)
            .sized(&self.hmac)
    }
}

impl Command<'_> {
    /// The whole command as the TPM reads it.
    pub(crate) fn encode(&self, authorizations: &[Authorization]) -> Zeroizing<Vec<u8>> {
        let mut body = Writer::default();
        for handle in self.handles {
            body = body.u32(*handle);
        }
        let tag = if authorizations.is_empty() {
            TAG_PLAIN
        } else {
            let mut area = Writer::default();
            for authorization in authorizations {
                area = authorization.write(area);
            }
            let area = area.done();
            body = body.u32(length(&area)).raw(&area);
            TAG_SESSIONS
        };
        let body = Zeroizing::new(body.raw(&self.parameters).done());
        let whole = length(&body) + HEADER_BYTES;
        let command = Writer::default()
            .u16(tag)
            .u32(whole)
            .u32(self.code.number())
            .raw(&body);
        Zeroizing::new(command.done())
    }

    /// Reads what came back to it.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Response, TpmError> {
        let mut reader = Reader::new(bytes, "response");
        let (tag, whole, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
        if usize::try_from(whole).ok() != Some(bytes.len()) {
            return Err(TpmError::Malformed("response"));
        }
        if code != 0 {
            let command = self.code.as_str();
            return Err(TpmError::Refused { command, code });
        }
        let handle = self.code.makes_handle().then(|| reader.u32()).transpose()?;
        if tag != TAG_SESSIONS {
            let parameters = Zeroizing::new(reader.rest().to_vec());
            return Ok(Response {
                handle,
                parameters,
                authorizations: Vec::new(),
            });
        }
        let size = reader.u32()?;
        let size = usize::try_from(size).map_err(|_| TpmError::Malformed("response"))?;
        let parameters = Zeroizing::new(reader.raw(size)?.to_vec());
        Ok(Response {
            handle,
            parameters,
            authorizations: read_authorizations(reader)?,
        })
    }
}

fn read_authorizations(mut reader: Reader<'_>) -> Result<Vec<Authorization>, TpmError> {
    let mut authorizations = Vec::new();
    while !reader.is_at_end() {
        if authorizations.len() == SESSIONS_MAX {
            return Err(TpmError::Malformed("response"));
        }
        authorizations.push(Authorization {
            session: 0,
            nonce: reader.sized()?.to_vec(),
            attributes: reader.u8()?,
            hmac: reader.sized()?.to_vec(),
        });
    }
    Ok(authorizations)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a command of ours is short")
}

/// The session that is no session: a password, here an empty one.
const PASSWORD: u32 = 0x4000_0009;
const TAG_PLAIN: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
const HEADER_BYTES: u32 = 10;
const SESSIONS_MAX: usize = 3;
