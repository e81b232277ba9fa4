//! `ringfence workload …`, as a type.

use std::path::PathBuf;

use clap::Subcommand;
use ringfence_model::Name;

/// `ringfence workload …`
#[derive(Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Have an issuer's tokens let machines in as a file says, in place of what its file said before
    #[command(after_help = "Example:\n  ringfence workload set -f prod-cluster.toml")]
    Set {
        /// The issuer's file, or - for standard input
        #[arg(short = 'f', long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List the issuers whose tokens let machines in
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence workload ls")]
    Ls,
    /// Show an issuer and its file
    #[command(
        after_help = "Example:\n  ringfence workload show prod-cluster --json | jq -r .file.text > prod-cluster.toml"
    )]
    Show {
        /// Which issuer
        name: Name,
    },
    /// Print what an issuer's machines join with, beside their platform's token: no secret, fit for a ConfigMap
    #[command(
        after_help = "Example:\n  kubectl create configmap ringfence --from-literal=locator=\"$(ringfence workload locator prod-cluster)\""
    )]
    Locator {
        /// Which issuer
        name: Name,
    },
    /// Say what a token would come to and why, and use nothing of it; exit code 1 if it lets nobody in
    #[command(
        after_help = "Example:\n  kubectl create token ledger --audience ringfence | ringfence workload test prod-cluster --jwt-file -"
    )]
    Test {
        /// Which issuer
        name: Name,
        /// File that holds the platform's token, or - for standard input
        #[arg(long, value_name = "FILE")]
        jwt_file: PathBuf,
    },
    /// Remove an issuer: its tokens let nobody in any more; who came in by them stays
    #[command(after_help = "Example:\n  ringfence workload remove prod-cluster")]
    Remove {
        /// Which issuer
        name: Name,
    },
}
