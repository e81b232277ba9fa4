//! The arguments of `access`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::{AccessId, Name};
use ringfence_policy::Service;

use super::{SocketArg, duration};

/// `ringfence access …`
#[derive(Subcommand)]
pub(crate) enum AccessCommand {
    /// Ask to reach a group for a time: for yourself at this machine, or for another node or person
    Request(Box<AccessRequestArgs>),
    /// List what waits for approval, what is granted, and what is to be reviewed
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  ringfence access ls --standing waiting\n  ringfence access ls --mine --json"
    )]
    Ls(AccessLsArgs),
    /// Approve a request of somebody else: with the last approval it needs it opens
    #[command(after_help = "Example:\n  ringfence access approve 17 --reason \"call with alice, 14:30\"")]
    Approve(AccessAnswerArgs),
    /// Deny a request
    #[command(after_help = "Example:\n  ringfence access deny 17 --reason \"use the replica\"")]
    Deny(AccessAnswerArgs),
    /// End what is granted: live connections by it are cut; or take a request back
    #[command(after_help = "Examples:\n  ringfence access end 17\n  ringfence access end 17 --mine")]
    End(AccessEndArgs),
    /// Review what somebody else opened before anybody approved
    #[command(
        after_help = "Example:\n  ringfence access review 17 --reason \"incident 2041, as it should be\""
    )]
    Review(AccessAnswerArgs),
}

/// `ringfence access request`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence access request --perimeter payments-db --to db --port tcp/5432 --for 2h --reason \"ledger is stuck\"\n  ringfence access request --perimeter payments-db --to db --for 1h --reason \"incident 2041\" --break-glass\n  ringfence access request --node backup-2 --perimeter payments-db --to db --for 6h --reason \"move to new disks\""
)]
pub(crate) struct AccessRequestArgs {
    /// In which perimeter
    #[arg(long, value_name = "P")]
    pub perimeter: Name,
    /// Which of its groups is to be reached
    #[arg(long, value_name = "GROUP")]
    pub to: Name,
    /// What is to be opened: tcp/5432, udp/1000-2000, icmp; may be given more than once [default: what rules open
    /// towards that group]
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',')]
    pub ports: Vec<Service>,
    /// For how long, from the moment it is granted: 1 minute to 24 hours
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub length: Duration,
    /// Why, for whoever approves
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// It cannot wait: opens at once where the policy file says so, to be reviewed afterwards
    #[arg(long)]
    pub break_glass: bool,
    /// For a node, by an administrator; for who is logged in there, if somebody is
    #[arg(long, value_name = "NODE", conflicts_with = "user")]
    pub node: Option<String>,
    /// For a person where they are logged in, by an administrator
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Where to ask
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `ringfence access ls`
#[derive(Args)]
pub(crate) struct AccessLsArgs {
    /// Only in this perimeter
    #[arg(long, value_name = "P")]
    pub perimeter: Option<Name>,
    /// Only what stands so
    #[arg(long, value_name = "WORD", value_parser = ["waiting", "open", "closed"])]
    pub standing: Option<String>,
    /// Only yours at this machine, as its node knows it; without an administrator's context there is no more
    #[arg(long)]
    pub mine: bool,
    /// Where to ask for them
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `ringfence access approve`, `deny` and `review`
#[derive(Args)]
pub(crate) struct AccessAnswerArgs {
    /// Its number, as `access ls` prints it
    pub id: AccessId,
    /// What there is to say to it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `ringfence access end`
#[derive(Args)]
pub(crate) struct AccessEndArgs {
    /// Its number, as `access ls` prints it
    pub id: AccessId,
    /// It is yours at this machine; without an administrator's context it has to be
    #[arg(long)]
    pub mine: bool,
    /// Where to ask then
    #[command(flatten)]
    pub socket: SocketArg,
}
