//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use ringfence_control::LANES_MAX;
use ringfence_model::Name;

use crate::tpm::{TPM_DEVICE, TpmPlace};

/// The Ringfence agent: makes this machine a member of the perimeters that policy puts it in.
#[derive(Debug, Parser)]
#[command(name = "ringfence-node", version, propagate_version = true)]
pub struct Arguments {
    /// How much to log to standard error. `RINGFENCE_LOG` takes finer directives, as in `info,ringfence_node=debug`.
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
    /// How to write the log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take an identity in a mesh with a join token or the word of this machine's platform, and exit.
    Enroll(EnrollArguments),
    /// Run the agent on an identity taken before.
    Run(RunArguments),
    /// Enrol if that has not been done, then run.
    Up(UpArguments),
    /// Run the scripts that facts come from, for the agent that started this. Not for people.
    #[command(name = RUN_SCRIPTS, hide = true)]
    RunScripts(ScriptArguments),
}

/// Of `enroll`.
#[derive(Debug, Args)]
pub struct EnrollArguments {
    /// Where the identity is.
    #[command(flatten)]
    pub state: StateArguments,
    /// The token and the name.
    #[command(flatten)]
    pub join: JoinArguments,
}

/// Of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Where the identity is.
    #[command(flatten)]
    pub state: StateArguments,
    /// How the agent runs.
    #[command(flatten)]
    pub agent: AgentArguments,
}

/// Of `up`.
#[derive(Debug, Args)]
pub struct UpArguments {
    /// Where the identity is.
    #[command(flatten)]
    pub state: StateArguments,
    /// The token and the name.
    #[command(flatten)]
    pub join: JoinArguments,
    /// How the agent runs.
    #[command(flatten)]
    pub agent: AgentArguments,
}

/// Where the node keeps its identity.
#[derive(Debug, Args)]
pub struct StateArguments {
    /// Directory for identity, keys and the saved netmap; only its owner may read it.
    #[arg(long, env = "RINGFENCE_STATE_DIR", default_value = STATE_DIR_DEFAULT, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Keep the identity key sealed in this machine's TPM 2.0, and attest it: the path of a device, /dev/tpmrm0 if none
    /// is given, or `unix:/PATH` of an swtpm. A plain key from before is sealed and wiped. Without that TPM the node does
    /// not start.
    #[arg(long, env = "RINGFENCE_TPM", value_name = "DEVICE", num_args = 0..=1, default_missing_value = TPM_DEVICE, value_parser = TpmPlace::parse)]
    pub tpm: Option<TpmPlace>,
}

/// How to join.
#[derive(Debug, Default, Args)]
pub struct JoinArguments {
    /// File that holds the join token; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The join token itself. Other users can see it in the process list: prefer a file or `RINGFENCE_TOKEN`.
    #[arg(long, env = "RINGFENCE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Secret>,
    /// Join by the word of this machine's platform (Kubernetes, CI, cloud) in place of a join token: what
    /// `ringfence workload locator` prints, which is no secret.
    #[arg(long, env = "RINGFENCE_WORKLOAD", value_name = "LOCATOR", conflicts_with_all = ["token", "token_file"])]
    pub workload: Option<String>,
    /// File into which the platform writes its token (a JWT) for this machine; `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "workload", conflicts_with = "jwt_env")]
    pub jwt_file: Option<PathBuf>,
    /// Name of the environment variable in which the platform gives its token.
    #[arg(long, value_name = "VARIABLE", requires = "workload")]
    pub jwt_env: Option<String>,
    /// Name for this node; the host's name if absent. The controller may name workloads otherwise.
    #[arg(long, value_name = "NAME", value_parser = Name::parse)]
    pub name: Option<Name>,
}

/// How the agent runs.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// UDP port of the tunnels; 0 takes any free one.
    #[arg(long, default_value_t = LISTEN_PORT_DEFAULT, value_name = "PORT")]
    pub listen_port: u16,
    /// Unix socket that answers `ringfence status` and `ringfence ping`.
    #[arg(long, env = "RINGFENCE_SOCKET", default_value = SOCKET_DEFAULT, value_name = "PATH")]
    pub socket: PathBuf,
    /// Address and port at which peers can reach this node, as behind a port forwarding. May be given several times.
    #[arg(long = "endpoint", value_name = "ADDR:PORT")]
    pub endpoints: Vec<SocketAddr>,
    /// A file or folder that posture checks may ask the SHA-256 of, besides those of the system's programs. May be given
    /// several times.
    #[arg(long = "posture-file", value_name = "PATH")]
    pub posture_files: Vec<PathBuf>,
    /// Whose scripts posture checks may take facts from, as `script.NAME`.
    #[command(flatten)]
    pub scripts: ScriptArguments,
    /// Largest packet inside the tunnels.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..=9000))]
    pub mtu: Option<u16>,
    /// How many cores carry packets, each with a UDP port of its own after the first: a number, or `auto`, which is one
    /// for each core from three cores on, four at most. Each after the first takes some 1 MB of memory idle, 1.4 MB
    /// after traffic, and what peers and rules take once more.
    #[arg(long, env = "RINGFENCE_LANES", default_value = "1", value_name = "N", value_parser = Lanes::parse)]
    pub lanes: Lanes,
}

/// Whose scripts are run.
#[derive(Clone, Debug, Args)]
pub struct ScriptArguments {
    /// Public keys of OpenSSH, one a line, which may sign scripts that posture checks take facts from. The file is root's
    /// alone to write; where there is none when the node starts, no script is ever run.
    #[arg(long, default_value = SIGNERS_DEFAULT, value_name = "FILE")]
    pub fact_signers: PathBuf,
    /// Folder of those scripts, root's alone to write: NAME, and NAME.sig by `ssh-keygen -Y sign -n ringfence-fact`.
    #[arg(long, default_value = SCRIPTS_DEFAULT, value_name = "DIR")]
    pub fact_scripts: PathBuf,
}

/// How many lanes a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// As fits the machine.
    Auto,
    /// So many.
    Count(u16),
}

impl Lanes {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count| (1..=LANES_MAX).contains(count));
        count
            .map(|count| Self::Count(count as u16))
            .ok_or_else(|| format!("a number from 1 to {LANES_MAX}, or `auto`"))
    }

    /// How many on this machine.
    pub fn count(self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Count(count) => count,
            // Two cores are full with what one thread and the kernel beside it do.
            Self::Auto if cores < 3 => 1,
            Self::Auto => cores.min(AUTO_LANES_MAX) as u16,
        }
    }
}

/// A secret from the command line or the environment: never printed, wiped on drop.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// The secret text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Broken: wake someone.
    Error,
    /// Odd, still working.
    Warn,
    /// States that an operator would name.
    Info,
    /// Branches off the happy path.
    Debug,
    /// Every packet.
    Trace,
}

impl LogFormat {
    /// As the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl LogLevel {
    /// As log directives have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How to write the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the state is unless told otherwise.
const STATE_DIR_DEFAULT: &str = "/var/lib/ringfence";
/// Where the local socket is unless told otherwise.
const SOCKET_DEFAULT: &str = "/run/ringfence/node.sock";
/// Where the keys are that may sign scripts, unless told otherwise.
const SIGNERS_DEFAULT: &str = "/etc/ringfence/fact-signers";
/// Where scripts are unless told otherwise.
const SCRIPTS_DEFAULT: &str = "/etc/ringfence/facts.d";
/// What the program is told to do by itself alone.
pub(crate) const RUN_SCRIPTS: &str = "run-scripts";
/// The most lanes that are made without being asked for by number.
const AUTO_LANES_MAX: usize = 4;
/// WireGuard's customary port.
const LISTEN_PORT_DEFAULT: u16 = 51820;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_token_is_never_printed() {
        let arguments =
            Arguments::try_parse_from(["ringfence-node", "enroll", "--token", "rft_secret"]).unwrap();

        assert!(!format!("{arguments:?}").contains("rft_secret"));
    }

    #[test]
    fn odd_names_and_two_tokens_are_usage_errors() {
        for odd in [
            &["ringfence-node", "up", "--workload", "rfw_x", "--token", "t"][..],
            &[
                "ringfence-node",
                "up",
                "--workload",
                "rfw_x",
                "--jwt-file",
                "f",
                "--jwt-env",
                "V",
            ],
            &["ringfence-node", "up", "--jwt-file", "f"],
            &["ringfence-node", "enroll", "--token", "t", "--name", "Odd Name"],
            &["ringfence-node", "enroll", "--token", "t", "--token-file", "f"],
            &["ringfence-node", "run", "--listen-port", "65536"],
            &["ringfence-node", "run", "--endpoint", "example.com"],
            &["ringfence-node", "run", "--lanes", "0"],
            &["ringfence-node", "run", "--lanes", "17"],
            &["ringfence-node", "run", "--lanes", "many"],
        ] {
            let error = Arguments::try_parse_from(odd).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{odd:?}");
        }
    }
}
