//! The command line about people: identity providers, logins.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::Name;

use super::{SocketArg, duration};

/// `ringfence provider …`
#[derive(Subcommand)]
pub(crate) enum ProviderCommand {
    /// Have an OpenID provider's word about people count
    #[command(
        after_help = "Example:\n  ringfence provider add --name corp --issuer https://login.example.com --client-id ringfence \\\n      --client-secret-file corp.secret --groups-claim groups --session 12h --mfa-amr mfa,otp,hwk"
    )]
    Add(Box<ProviderAddArgs>),
    /// List identity providers, without their client secrets
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence provider ls")]
    Ls,
    /// Remove one: the sessions of those it vouched for end
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  ringfence provider rm corp"
    )]
    Rm {
        /// Its name
        name: Name,
    },
}

/// `ringfence provider add`
#[derive(Args)]
pub(crate) struct ProviderAddArgs {
    /// What to call it: 1 to 63 of a-z, 0-9 and -
    #[arg(long)]
    pub name: Name,
    /// Its issuer: the https URL that discovery begins with
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Who this controller is to it
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// A file with the client secret; without one, PKCE alone proves this controller
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// What to ask for beside openid
    #[arg(
        long,
        value_name = "SCOPE",
        value_delimiter = ',',
        default_value = "profile,email"
    )]
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups; without one nobody has any
    #[arg(long, value_name = "CLAIM")]
    pub groups_claim: Option<String>,
    /// The claim that is a person's externalId in SCIM, if `sub` is not: oid of Entra ID
    #[arg(long, value_name = "CLAIM")]
    pub directory_claim: Option<String>,
    /// How long a session lasts
    #[arg(long, default_value = "12h", value_parser = duration)]
    pub session: Duration,
    /// Values of `acr` that prove a second factor, best first
    #[arg(long, value_name = "ACR", value_delimiter = ',')]
    pub mfa_acr: Vec<String>,
    /// Values of `amr` that prove one
    #[arg(long, value_name = "AMR", value_delimiter = ',')]
    pub mfa_amr: Vec<String>,
    /// It is in this organisation's own network: its addresses may be private ones
    #[arg(long)]
    pub allow_private_address: bool,
    /// The CA its certificates come from, in PEM, if the public does not trust it
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// `ringfence scim …`
#[derive(Subcommand)]
pub(crate) enum ScimCommand {
    /// Make the SCIM token of a provider and print it, alone, on stdout: from now on only those in its directory log in
    #[command(after_help = "Example:\n  ringfence scim token corp > corp-scim.token")]
    Token {
        /// The provider's name
        provider: Name,
    },
    /// List providers, and how many people and groups each keeps here
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence scim ls")]
    Ls,
    /// Withdraw the token of a provider: what was said with it stays
    #[command(after_help = "Example:\n  ringfence scim revoke corp")]
    Revoke {
        /// The provider's name
        provider: Name,
    },
}

/// `ringfence login`
#[derive(Args, Clone)]
#[command(
    after_help = "Examples:\n  ringfence login\n  ringfence login --provider corp --device\n  ringfence login --mfa   # prove a second factor again\n  ringfence login --account ada --set-up   # the first time with a local account\n  ringfence login --account ada"
)]
pub(crate) struct LoginArgs {
    /// At which identity provider; local for a local account [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<Name>,
    /// With a code, for a browser on another device
    #[arg(long, conflicts_with_all = ["no_browser", "port"])]
    pub device: bool,
    /// Only print the address, and open it yourself
    #[arg(long)]
    pub no_browser: bool,
    /// Prove who you are anew, with a second factor; with a local account, by a code alone
    #[arg(long)]
    pub mfa: bool,
    /// With a local account
    #[command(flatten)]
    pub local: LocalLoginArgs,
    /// The port of 127.0.0.1 that the browser comes back to, if the provider knows one alone [default: any]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Where to ask
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `ringfence login` with a local account
#[derive(Args, Clone, Default)]
pub(crate) struct LocalLoginArgs {
    /// With this local account: a password and the code of an authenticator
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "no_browser", "port"])]
    pub account: Option<Name>,
    /// Choose the password and second factor of the local account, by the secret that an administrator gave you
    #[arg(long, conflicts_with_all = ["device", "no_browser", "port", "mfa"])]
    pub set_up: bool,
    /// A file whose first line is that secret [default: asked for]
    #[arg(long, value_name = "FILE", requires = "set_up")]
    pub secret_file: Option<PathBuf>,
    /// A file whose first line is the password of the local account [default: asked for]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "no_browser", "port"])]
    pub password_file: Option<PathBuf>,
}
