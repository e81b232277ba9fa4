//! The command line, as a type. Stable from 0.1 on.

mod access;
mod account;
mod api_token;
mod drill;
mod explain;
mod identity;
mod lock;
mod member;
mod people;
mod perimeter;
mod posture;
mod watch;
mod why;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringfence_model::{Labels, Name};

pub(crate) use self::access::{
    AccessAnswerArgs, AccessCommand, AccessEndArgs, AccessLsArgs, AccessRequestArgs,
};
pub(crate) use self::account::AccountCommand;
pub(crate) use self::api_token::{ApiTokenCommand, ApiTokenCreateArgs, RoleArg};
pub(crate) use self::drill::{DrillCommand, RevokeDrillArgs};
pub(crate) use self::explain::{ExplainArgs, as_if};
pub(crate) use self::lock::{LockArgs, LockHow, QuarantineArgs, ReleaseArgs, UnlockArgs};
pub(crate) use self::member::{NodeCommand, PeerCommand, TokenCommand};
pub(crate) use self::people::{SessionCommand, UserCommand};
pub(crate) use self::perimeter::{ApplyArgs, CreateArgs, PerimeterCommand};
pub(crate) use self::posture::{FactArgs, PostureCommand, PostureTestArgs};
pub(crate) use self::watch::WatchArgs;
pub(crate) use self::why::WhyArgs;
pub(crate) use self::workload::WorkloadCommand;
pub(crate) use identity::{LocalLoginArgs, LoginArgs, ProviderAddArgs, ProviderCommand, ScimCommand};

/// Zero-trust micro-perimeters on a WireGuard mesh.
#[derive(Parser)]
#[command(name = "ringfence", version, max_term_width = 110, propagate_version = true, after_help = TOP_EXAMPLES)]
pub(crate) struct Cli {
    /// Where the controller is: the file that `ringfence-controller init` wrote as DIR/admin.toml
    /// [default: ~/.config/ringfence/context.toml]
    #[arg(long, global = true, value_name = "FILE", env = "RINGFENCE_CONTEXT")]
    pub context: Option<PathBuf>,
    /// Answer in JSON, on stdout alone
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make, apply, list and remove perimeters
    #[command(subcommand)]
    Perimeter(PerimeterCommand),
    /// Make and withdraw join tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make and revoke API tokens: for other administrators, auditors and owners of perimeters
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Say whose tokens let machines in without a join token: Kubernetes, CI, clouds
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// List, label, rename and remove nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Add and remove devices that run a stock WireGuard client
    #[command(subcommand)]
    Peer(PeerCommand),
    /// List and end sessions of people
    #[command(subcommand)]
    Session(SessionCommand),
    /// List people, and say who may log in
    #[command(subcommand)]
    User(UserCommand),
    /// Ask for access for a time, approve or deny it, end it, review it
    #[command(subcommand)]
    Access(AccessCommand),
    /// Cut a node or person off at once, but for those who look into it
    Quarantine(QuarantineArgs),
    /// End a quarantine: what policy allows is open again
    Release(ReleaseArgs),
    /// Lock a node, person, perimeter, label, join token or workload issuer: what is there is cut, what comes is refused
    Lock(LockArgs),
    /// Lift a lock
    Unlock(UnlockArgs),
    /// List what is locked
    #[command(after_help = "Example:\n  ringfence locks --json")]
    Locks,
    /// Say what is asked of machines, and show how each stands to it
    #[command(subcommand)]
    Posture(PostureCommand),
    /// Add and remove identity providers, whose word about people counts
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Add and remove people who need no identity provider: a password and a second factor of their own
    #[command(subcommand)]
    Account(AccountCommand),
    /// Have identity providers say by SCIM who their people are, and who left
    #[command(subcommand)]
    Scim(ScimCommand),
    /// Log in at this machine, so that it may reach what your groups may
    Login(LoginArgs),
    /// Log out at this machine: what it reaches by you alone closes at once
    #[command(after_help = "Example:\n  ringfence logout")]
    Logout(SocketArg),
    /// Say who is logged in at this machine
    #[command(after_help = "Example:\n  ringfence whoami --json")]
    Whoami(SocketArg),
    /// Tell when a second factor or the session ends, before it does and when it has, on the desktop too
    Watch(WatchArgs),
    /// Why this machine reaches something, or what it lacks, and whom to ask
    Why(WhyArgs),
    /// Say whether policy lets one member reach another, by which rule, or what is missing
    Explain(ExplainArgs),
    /// Read the log of changes, or prove that it was not rewritten
    Audit(AuditArgs),
    /// List conversations that ended: who, with whom, by which rule, how much, and why they ended
    Flows(FlowsArgs),
    /// Show this node: segments, peers, endpoints, traffic, lease
    Status(StatusArgs),
    /// Have the nodes try every pair and port over the real network, and compare with policy
    Verify(VerifyArgs),
    /// Measure on the live network how long taking access away takes; leaves nothing behind
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Measure the way to a peer of this node, through the tunnel
    Ping(PingArgs),
    /// Wait until every connected node enforces a revision
    Wait(WaitArgs),
    /// Show who enforces a revision and after how long, and when those that are away have closed
    Receipt(ReceiptArgs),
    /// Print shell completions
    #[command(after_help = "Example:\n  ringfence completions bash > /etc/bash_completion.d/ringfence")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  ringfence man | man -l -")]
    Man,
}

/// `ringfence audit`
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  ringfence audit --since 24h\n  ringfence audit verify"
)]
pub(crate) struct AuditArgs {
    /// How far back
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub since: Duration,
    /// How many entries at the most, the newest
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
    /// Or: check it
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
}

/// `ringfence audit …`
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that every entry follows from the one before by hash; exit code 1 if not
    #[command(after_help = "Example:\n  ringfence audit verify")]
    Verify,
}

/// `ringfence flows`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence flows --perimeter payments-db --since 24h\n  ringfence flows --node api-1 --json | jq '.flows[] | select(.end == \"revoked\")'"
)]
pub(crate) struct FlowsArgs {
    /// Only in this perimeter
    #[arg(long, value_name = "P")]
    pub perimeter: Option<Name>,
    /// Only those with this node at either end: its name or id
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// How far back
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub since: Duration,
    /// How many at the most, the newest
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
}

/// Where this machine's node answers.
#[derive(Args, Clone)]
pub(crate) struct SocketArg {
    /// The node's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET, env = "RINGFENCE_SOCKET")]
    pub socket: PathBuf,
}

/// `ringfence status`
#[derive(Args)]
#[command(
    after_help = "Example:\n  ringfence status\n  ringfence status --json | jq '.segments[].peers[].endpoint'"
)]
pub(crate) struct StatusArgs {
    /// List every peer, however many there are
    #[arg(long)]
    pub all: bool,
    /// Where to ask
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `ringfence verify`
#[derive(Args)]
#[command(
    after_help = "Example:\n  ringfence verify payments-db && echo 'the network does what the policy says'"
)]
pub(crate) struct VerifyArgs {
    /// Which perimeter
    pub perimeter: Name,
    /// How long each attempt may take
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub wait: Duration,
}

/// `ringfence ping`
#[derive(Args)]
#[command(after_help = "Example:\n  ringfence ping db-1 --perimeter payments-db")]
pub(crate) struct PingArgs {
    /// The peer's name or id
    pub node: String,
    /// In which perimeter [default: the first that has the peer]
    #[arg(long)]
    pub perimeter: Option<Name>,
    /// How many
    #[arg(short = 'c', long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub count: u32,
    /// Where to ask
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `ringfence wait`
#[derive(Args)]
#[command(
    after_help = "Example:\n  ringfence perimeter apply -f payments-db.toml && ringfence wait --revision latest --timeout 10s"
)]
pub(crate) struct WaitArgs {
    /// Which: `latest`, or as apply printed it
    #[arg(long, default_value = "latest")]
    pub revision: String,
    /// How long to wait
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// `ringfence receipt`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence receipt 1.42\n  ringfence receipt latest --wait=30s --json | jq .p99_ms"
)]
pub(crate) struct ReceiptArgs {
    /// Which: `latest`, or as a change printed it
    pub revision: String,
    /// Wait until every connected node enforces it, 10s if no time is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10s", value_parser = duration)]
    pub wait: Option<Duration>,
}

/// Labels given one by one.
///
/// # Errors
/// Says which one is wrong.
pub(crate) fn labels(pairs: &[String]) -> Result<Labels, crate::failure::Failure> {
    Labels::parse_pairs(pairs.iter().flat_map(|pair| pair.split(',')))
        .map_err(|error| crate::failure::Failure::new(crate::failure::Exit::Usage, error))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write it as in 90s, 15m, 1h or 90d"))
}

const DEFAULT_SOCKET: &str = "/run/ringfence/node.sock";

const TOP_EXAMPLES: &str = "\
Examples:
  ringfence perimeter create payments-db --asset role=db --client role=api --port tcp/5432 --owner alice@example.com
  ringfence perimeter apply -f perimeters/ --dry-run
  ringfence verify payments-db

Exit codes: 0 done, 1 failed, 2 usage, 3 not enrolled, 4 denied, 5 timeout, 6 controller unreachable";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let leaf = command.get_subcommands().next().is_none();
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                !leaf || help.contains("Example"),
                "{} has no example",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
