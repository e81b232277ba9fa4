//! Words for what is known about a machine: a name, a value, who says so, and since when.
//!
//! **Invariant:** a name has one way to be written, and each name of the catalogue has one kind of value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ringfence_model::{Name, UnixMillis};
use serde::{Deserialize, Serialize};

use super::version::Version;

/// What a fact is about: `disk.encrypted`, `process.auditd`, `file./etc/audit/auditd.conf`, `script.backups-run`,
/// `custom.edr-healthy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FactName {
    /// Something every node knows how to look up.
    Native(NativeFact),
    /// Whether a process of this name runs.
    Process(String),
    /// The SHA-256 of the file with this absolute path.
    File(String),
    /// What a script says that an administrator signed, and that the node runs.
    Script(Name),
    /// What an administrator, or a program of theirs, says.
    Custom(Name),
}

/// What every node knows how to look up, or shows in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NativeFact {
    /// Secure boot is enforced by the firmware.
    BootSecure,
    /// The root file system lies on an encrypted device.
    DiskEncrypted,
    /// A packet filter judges what comes in.
    FirewallActive,
    /// The kernel's version.
    KernelVersion,
    /// The node program's version.
    NodeVersion,
    /// The distribution, as `os-release` calls it.
    OsId,
    /// When security updates were last installed.
    OsSecurityUpdate,
    /// The distribution's version.
    OsVersion,
    /// Whether sshd lets anyone in by password.
    SshPasswordLogin,
    /// The clock follows a source of time.
    TimeSynchronized,
    /// Which TPM proved itself to the controller.
    TpmState,
}

/// What kind of value a fact has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// True or false.
    Bool,
    /// Any words.
    Text,
    /// A version.
    Version,
    /// A moment.
    Time,
}

/// What a fact says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Any words.
    Text(String),
    /// A version.
    Version(Version),
    /// A moment, by the controller's clock.
    Time(UnixMillis),
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FactSource {
    /// The node looked it up.
    Node,
    /// The controller verified it.
    Controller,
    /// A script that an administrator signed, run by the node.
    Script {
        /// Its name.
        name: Name,
        /// The fingerprint of the key that signed it; `None` if none did that counts.
        signer: Option<String>,
    },
    /// Someone wrote it through the API.
    Api(String),
}

/// One fact about one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it says; or why nothing is known, in words for people.
    pub value: Result<FactValue, String>,
    /// Who says so.
    pub source: FactSource,
    /// When it was so, by the controller's clock.
    pub measured_at: UnixMillis,
    /// When it stops counting, for one that was given a time to live. Such a fact has no other age.
    pub expires: Option<UnixMillis>,
}

/// What is known about one machine.
pub type KnownFacts = BTreeMap<FactName, Fact>;

/// Why a text is no [`FactName`] or [`FactSource`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct FactWordError(String, &'static str);

impl NativeFact {
    /// All of them, in order of their words.
    pub const ALL: [Self; 11] = [
        Self::BootSecure,
        Self::DiskEncrypted,
        Self::FirewallActive,
        Self::KernelVersion,
        Self::NodeVersion,
        Self::OsId,
        Self::OsSecurityUpdate,
        Self::OsVersion,
        Self::SshPasswordLogin,
        Self::TimeSynchronized,
        Self::TpmState,
    ];

    /// As files and messages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BootSecure => "boot.secure",
            Self::DiskEncrypted => "disk.encrypted",
            Self::FirewallActive => "firewall.active",
            Self::KernelVersion => "kernel.version",
            Self::NodeVersion => "node.version",
            Self::OsId => "os.id",
            Self::OsSecurityUpdate => "os.security_update",
            Self::OsVersion => "os.version",
            Self::SshPasswordLogin => "ssh.password_login",
            Self::TimeSynchronized => "time.synchronized",
            Self::TpmState => "tpm.state",
        }
    }

    /// What kind of value it has.
    pub const fn kind(self) -> FactKind {
        match self {
            Self::BootSecure
            | Self::DiskEncrypted
            | Self::FirewallActive
            | Self::SshPasswordLogin
            | Self::TimeSynchronized => FactKind::Bool,
            Self::OsId | Self::TpmState => FactKind::Text,
            Self::KernelVersion | Self::NodeVersion | Self::OsVersion => FactKind::Version,
            Self::OsSecurityUpdate => FactKind::Time,
        }
    }
}

impl FactName {
    /// What kind of value it has; `None` for one of a script and a custom one, which may have any.
    pub fn kind(&self) -> Option<FactKind> {
        match self {
            Self::Native(native) => Some(native.kind()),
            Self::Process(_) => Some(FactKind::Bool),
            Self::File(_) => Some(FactKind::Text),
            Self::Script(_) | Self::Custom(_) => None,
        }
    }

    /// Whether it is the node itself that looks it up.
    pub fn is_of_node(&self) -> bool {
        match self {
            // It is the controller that verifies what a TPM attests.
            Self::Native(NativeFact::TpmState) | Self::Custom(_) => false,
            Self::Native(_) | Self::Process(_) | Self::File(_) | Self::Script(_) => true,
        }
    }

    /// A process by name.
    ///
    /// # Errors
    /// [`FactWordError`] if no process can be called that.
    pub fn process(name: &str) -> Result<Self, FactWordError> {
        let plain = |c: char| c.is_ascii_graphic() && c != '/';
        if name.is_empty() || name.len() > PROCESS_BYTES_MAX || !name.chars().all(plain) {
            return Err(FactWordError(cut(name), "the name of a process"));
        }
        Ok(Self::Process(name.to_owned()))
    }

    /// A file by its path.
    ///
    /// # Errors
    /// [`FactWordError`] if it is not absolute, or not the shortest way to write it.
    pub fn file(path: &str) -> Result<Self, FactWordError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let mut parts = path.split('/');
        let is_absolute = parts.next() == Some("");
        let fits = path.len() <= FILE_BYTES_MAX && !path.chars().any(char::is_control);
        if !is_absolute || !fits || !parts.all(plain) {
            return Err(FactWordError(cut(path), "the absolute path of a file"));
        }
        Ok(Self::File(path.to_owned()))
    }
}

impl FactValue {
    /// A value as people write it: `true`, `5`, `v7.1` for a version, any other text.
    pub fn from_word(word: &str) -> Self {
        let version = word.strip_prefix('v').and_then(Version::parse);
        match (word.parse(), word.parse(), version) {
            (Ok(is), _, _) => Self::Bool(is),
            (_, Ok(number), _) => Self::Number(number),
            (_, _, Some(version)) => Self::Version(version),
            _ => Self::Text(word.to_owned()),
        }
    }

    /// Whether it is small enough to keep.
    pub fn fits(&self) -> bool {
        match self {
            Self::Bool(_) | Self::Number(_) | Self::Time(_) => true,
            Self::Text(text) => text.len() <= VALUE_BYTES_MAX,
            Self::Version(version) => version.as_str().len() <= VALUE_BYTES_MAX,
        }
    }
}

impl Fact {
    /// One that a node has looked up.
    pub fn of_node(value: Result<FactValue, String>, measured_at: UnixMillis) -> Self {
        Self {
            value,
            source: FactSource::Node,
            measured_at,
            expires: None,
        }
    }
}

impl fmt::Display for FactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(native) => f.pad(native.as_str()),
            Self::Process(name) => write!(f, "process.{name}"),
            Self::File(path) => write!(f, "file.{path}"),
            Self::Script(name) => write!(f, "script.{name}"),
            Self::Custom(name) => write!(f, "custom.{name}"),
        }
    }
}

impl FromStr for FactName {
    type Err = FactWordError;

    fn from_str(text: &str) -> Result<Self, FactWordError> {
        let unknown = || FactWordError(cut(text), "the name of a fact");
        match text.split_once('.').ok_or_else(unknown)? {
            ("process", name) => Self::process(name),
            ("file", path) => Self::file(path),
            ("script", name) => Name::parse(name).map(Self::Script).map_err(|_| unknown()),
            ("custom", name) => Name::parse(name).map(Self::Custom).map_err(|_| unknown()),
            _ => {
                let native = NativeFact::ALL.into_iter().find(|native| native.as_str() == text);
                native.map(Self::Native).ok_or_else(unknown)
            }
        }
    }
}

impl TryFrom<String> for FactName {
    type Error = FactWordError;

    fn try_from(text: String) -> Result<Self, FactWordError> {
        text.parse()
    }
}

impl From<FactName> for String {
    fn from(name: FactName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for FactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(is) => is.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.pad(text),
            Self::Version(version) => f.pad(version.as_str()),
            Self::Time(at) => {
                let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
                match jiff::Timestamp::from_second(ms / 1000) {
                    Ok(moment) => moment.fmt(f),
                    Err(_) => f.pad("the end of time"),
                }
            }
        }
    }
}

impl fmt::Display for FactSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.pad("node"),
            Self::Controller => f.pad("controller"),
            Self::Script { name, signer: None } => write!(f, "script:{name}"),
            Self::Script {
                name,
                signer: Some(signer),
            } => write!(f, "script:{name} {signer}"),
            Self::Api(name) => write!(f, "api:{name}"),
        }
    }
}

impl TryFrom<String> for FactSource {
    type Error = FactWordError;

    fn try_from(text: String) -> Result<Self, FactWordError> {
        let unknown = || FactWordError(cut(&text), "a source of facts");
        match text.split_once(':') {
            None if text == "node" => Ok(Self::Node),
            None if text == "controller" => Ok(Self::Controller),
            Some(("script", script)) => {
                let (name, signer) = match script.split_once(' ') {
                    Some((name, signer)) => (name, Some(signer)),
                    None => (script, None),
                };
                if !signer.is_none_or(is_fingerprint) {
                    return Err(unknown());
                }
                Ok(Self::Script {
                    name: Name::parse(name).map_err(|_| unknown())?,
                    signer: signer.map(str::to_owned),
                })
            }
            Some(("api", name)) => Ok(Self::Api(name.to_owned())),
            Some(_) | None => Err(unknown()),
        }
    }
}

impl From<FactSource> for String {
    fn from(source: FactSource) -> Self {
        source.to_string()
    }
}

/// Whether a text is the fingerprint of a key as OpenSSH writes it: `SHA256:` and 43 of base64.
pub fn is_fingerprint(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let digits = text.strip_prefix("SHA256:");
    digits.is_some_and(|digits| digits.len() == 43 && digits.bytes().all(is_digit))
}

/// What of a wrong word fits in a message.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(80)].to_owned()
}

/// Bytes of a process's name.
pub const PROCESS_BYTES_MAX: usize = 64;
/// Bytes of the path of a file that is looked at.
pub const FILE_BYTES_MAX: usize = 256;
/// Bytes of a fact's text.
pub const VALUE_BYTES_MAX: usize = 256;
