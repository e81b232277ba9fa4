//! `ringfence-controller run`: the daemon.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use ringfence_controlplane::{Actor, Command, Refusal};
use ringfence_transport::{Incoming, Server, ServerConfig, ServerLimits, fingerprint, https_server_config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, ApiState, Gate, JoinFacts};
use crate::ca::{CertificateAuthority, SERVER_VALIDITY, ServerCertificate};
use crate::core::{self, CommitError, Core, CoreGone, CoreHandle, wall_now};
use crate::data_dir::{
    ACCOUNTS_FILE, CA_FILE, CA_KEY_FILE, CONFIG_FILE, DataDir, FLOWS_FILE, PROVIDERS_FOLDER, STORE_FILE,
};
use crate::enroll::{self, EnrollContext};
use crate::flows::Flows;
use crate::https;
use crate::identity::{ClientSecrets, LocalAccounts, Logins, Workloads};
use crate::init::{Config, host_of, port_of};
use crate::session::{self, SessionContext};
use crate::sessions::Sessions;
use crate::store::{Log as _, SqliteLog};

/// What a data directory holds, read and checked.
struct Opened {
    // Held for as long as the controller runs: no second instance.
    _dir: DataDir,
    config: Config,
    authority: Arc<CertificateAuthority>,
    core: CoreHandle,
    flows: Flows,
    logins: Logins,
    workloads: Workloads,
    accounts: LocalAccounts,
    admin_token_hash: [u8; 32],
}

/// Runs the controller in `path` until it is told to stop.
///
/// # Errors
/// If the directory, the store or a port cannot be used.
pub async fn run(path: &Path) -> Result<()> {
    let opened = open(path)?;
    let config = &opened.config;
    let hosts: Vec<String> = config
        .advertise
        .iter()
        .map(|advertised| host_of(advertised))
        .collect();
    let first = config
        .advertise
        .first()
        .context("controller.toml advertises no address")?;
    let listen = config
        .listen
        .unwrap_or_else(|| SocketAddr::from(([0_u16; 8], port_of(first))));
    end_what_is_due(&opened.core)
        .await?
        .context("what expired while the controller was down cannot be ended, so nobody is told anything")?;
    let certificate = opened.authority.sign_server(&hosts, wall_now())?;
    let (https_config, https_watch) = watch::channel(Arc::new(https_of(&certificate)?));
    let server = Server::bind(
        listen,
        ServerConfig {
            mesh: config.mesh.clone(),
            chain: certificate.chain,
            key: certificate.key,
            ca: opened.authority.certificate().clone(),
            limits: ServerLimits::default(),
            reset_key: opened.authority.reset_key(),
        },
    )?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("TCP {listen} cannot be opened"))?;
    let (stop, stopped) = watch::channel(false);
    let sessions = Sessions::default();
    let state = ApiState {
        core: opened.core.clone(),
        flows: opened.flows.clone(),
        logins: opened.logins.clone(),
        workloads: opened.workloads.clone(),
        accounts: opened.accounts.clone(),
        sessions: sessions.clone(),
        gate: Arc::new(Gate::new(opened.admin_token_hash, hosts.clone())),
        join: Arc::new(JoinFacts {
            controllers: config.advertise.clone(),
            ca_fingerprint: fingerprint(opened.authority.certificate()),
        }),
    };
    let rest = tokio::spawn(https::serve(listener, https_watch, api::router(state), stopped));
    let ticks = tokio::spawn(tick(opened.core.clone()));
    let records = tokio::spawn(record_receipts(opened.core.clone()));
    tracing::info!(%listen, mesh = %config.mesh, "ready");
    // Not under systemd: nobody is told.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    serve(&opened, sessions, server, &hosts, &https_config).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.send_replace(true);
    ticks.abort();
    records.abort();
    // What is being answered may be a change that is stored already: let the answer out.
    let _ = tokio::time::timeout(STOP_WAIT, rest).await;
    let _ = tokio::time::timeout(STOP_WAIT, opened.core.stop()).await;
    tracing::info!("stopped");
    Ok(())
}

fn open(path: &Path) -> Result<Opened> {
    let dir = DataDir::open(path)?;
    let text = dir.read(CONFIG_FILE)?;
    let config: Config =
        toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", dir.file(CONFIG_FILE).display()))?;
    let authority =
        CertificateAuthority::load(config.mesh.clone(), &dir.read(CA_FILE)?, &dir.read(CA_KEY_FILE)?)?;
    let mut log = SqliteLog::open(&dir.file(STORE_FILE))?;
    let mut controller = core::load(&mut log)?;
    controller.begin(wall_now());
    if controller.mesh().name != config.mesh {
        return Err(anyhow!(
            "the store is of mesh {}, controller.toml says {}: they do not belong together",
            controller.mesh().name,
            config.mesh
        ));
    }
    let admin_token_hash = log
        .admin_token_hash()?
        .context("the store has no admin token: `init` did not finish")?;
    let core = Core::spawn(controller, Box::new(log)).context("the core's thread does not start")?;
    let flows = Flows::spawn(dir.file(FLOWS_FILE)).context("the flow records' thread does not start")?;
    let secrets = ClientSecrets::new(dir.file(PROVIDERS_FOLDER));
    let accounts = LocalAccounts::open(core.clone(), config.mesh.clone(), &dir.file(ACCOUNTS_FILE))
        .context("the secrets of local accounts cannot be opened")?;
    Ok(Opened {
        logins: Logins::new(core.clone(), secrets),
        workloads: Workloads::new(core.clone()),
        accounts,
        _dir: dir,
        config,
        authority: Arc::new(authority),
        core,
        flows,
        admin_token_hash,
    })
}

/// Takes connections, renews the server's certificate, and returns when it is told to stop.
async fn serve(
    opened: &Opened,
    sessions: Sessions,
    mut server: Server,
    hosts: &[String],
    https_config: &watch::Sender<Arc<rustls::ServerConfig>>,
) -> Result<()> {
    let context = SessionContext {
        core: opened.core.clone(),
        flows: opened.flows.clone(),
        logins: opened.logins.clone(),
        accounts: opened.accounts.clone(),
        sessions,
        authority: Arc::clone(&opened.authority),
        mesh: opened.config.mesh.clone(),
    };
    let enroll_context = EnrollContext {
        session: context.clone(),
        workloads: opened.workloads.clone(),
        controllers: opened.config.advertise.clone(),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut renewal = tokio::time::interval(SERVER_VALIDITY / 3);
    // The first tick is at once, and the certificate is new.
    renewal.tick().await;
    loop {
        tokio::select! {
            incoming = server.accept() => match incoming {
                Some(Incoming::Control(request)) => drop(tokio::spawn(session::serve(context.clone(), request))),
                Some(Incoming::Enroll(attempt)) => drop(tokio::spawn(enroll::serve(enroll_context.clone(), attempt))),
                None => return Err(anyhow!("the control port was closed")),
            },
            _ = renewal.tick() => {
                let certificate = opened.authority.sign_server(hosts, wall_now())?;
                https_config.send_replace(Arc::new(https_of(&certificate)?));
                server.set_certificate(certificate.chain, certificate.key)?;
            }
            // Fail closed and loudly: whoever runs this starts it again, and the log is whole.
            () = opened.core.ended() => return Err(anyhow!("the core has stopped: its last words are above")),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    server.shutdown().await;
    Ok(())
}

/// Ends what is due: tokens, devices, rules.
async fn tick(core: CoreHandle) {
    let mut progress = core.progress();
    loop {
        progress.mark_unchanged();
        let Ok(due) = core.with(|core| core.controller().poll_timeout()).await else {
            return;
        };
        let wait = due.map(|due| due.saturating_since(wall_now()));
        match wait {
            // The wall clock may be set: look again now and then, whatever the plan was.
            Some(wait) if wait.is_zero() => {
                match end_what_is_due(&core).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "what has expired cannot be ended");
                        tokio::time::sleep(TICK_RETRY).await;
                    }
                    Err(_) => return,
                }
                tokio::time::sleep(TICK_MIN).await;
            }
            Some(wait) => {
                let _ = tokio::time::timeout(wait.min(TICK_MAX), progress.changed()).await;
            }
            None => {
                let _ = tokio::time::timeout(TICK_MAX, progress.changed()).await;
            }
        }
    }
}

/// Writes down what came of what was taken away. On a full disk it waits: there is room for what takes away alone.
async fn record_receipts(core: CoreHandle) {
    let mut progress = core.progress();
    loop {
        progress.mark_unchanged();
        let Ok(due) = core.with(|core| core.controller().poll_receipts()).await else {
            return;
        };
        let wait = due.map_or(TICK_MAX, |due| due.saturating_since(wall_now()).min(TICK_MAX));
        if due.is_none() || !wait.is_zero() {
            let _ = tokio::time::timeout(wait, progress.changed()).await;
            continue;
        }
        let actor = Actor::system("clock", "receipts");
        match core.commit(actor, Command::RecordReceipts).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the receipts of revisions cannot be recorded");
                tokio::time::sleep(TICK_MAX).await;
            }
            Err(_) => return,
        }
    }
}

/// Ends tokens, devices and rules whose time is over. Before a controller that was down serves anybody, too: else the
/// first nodes to come back are told to trust whom they no longer may.
async fn end_what_is_due(core: &CoreHandle) -> Result<Result<(), CommitError>, CoreGone> {
    let actor = Actor::system("clock", "tick");
    match core.commit(actor, Command::Tick).await? {
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(Ok(())),
        Err(error) => Ok(Err(error)),
    }
}

/// Starts a new term, so that nodes take a restored controller's word for newer than what they have.
///
/// # Errors
/// If the directory or the store cannot be used.
pub async fn new_term(path: &Path) -> Result<ringfence_model::Revision> {
    let opened = open(path)?;
    let actor = Actor::system("operator", "new-term");
    let change = opened.core.commit(actor, Command::StartTerm).await??;
    opened.core.stop().await;
    Ok(change.revision)
}

fn https_of(certificate: &ServerCertificate) -> Result<rustls::ServerConfig> {
    Ok(https_server_config(
        certificate.chain.clone(),
        certificate.key.clone_key(),
    )?)
}

const STOP_WAIT: Duration = Duration::from_secs(3);
const TICK_MIN: Duration = Duration::from_millis(100);
/// After a failure, which the disk most likely causes: often enough to notice room, rare enough to read the log.
const TICK_RETRY: Duration = Duration::from_secs(5);
const TICK_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use ringfence_controlplane::{Controller, TokenHash};
    use ringfence_model::{Labels, Name, Revision, UnixMillis};

    use super::*;

    #[tokio::test]
    async fn what_expired_while_the_controller_was_down_ends_when_it_starts() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SqliteLog::create(&dir.path().join(STORE_FILE)).unwrap();
        let long_ago = UnixMillis(1_000);
        let mesh = Name::parse("acme").unwrap();
        let (controller, founded) =
            Controller::found(mesh, &Actor::system("init", "init"), long_ago, [3; 32]);
        let token = Command::CreateToken {
            labels: Labels::parse_pairs(["role=db"]).unwrap(),
            ttl: Duration::from_mins(1),
            uses: 1,
            secret_hash: TokenHash::of_secret(&[7; 32]),
        };
        let admin = Actor::admin("admin", "test".to_owned());
        let made = controller.propose(&admin, token, long_ago, [5; 32]).unwrap();
        log.append(Revision::ZERO, &core::entry_of(&founded).unwrap())
            .unwrap();
        log.append(founded.revision, &core::entry_of(&made).unwrap())
            .unwrap();
        let core = Core::spawn(core::load(&mut log).unwrap(), Box::new(log)).unwrap();

        end_what_is_due(&core).await.unwrap().unwrap();
        let revision = core.revision().await.unwrap();
        end_what_is_due(&core).await.unwrap().unwrap();

        let due = core.with(|core| core.controller().poll_timeout()).await.unwrap();
        assert_eq!(due, None);
        assert_eq!(revision.n, made.revision.n + 1);
        assert_eq!(
            core.revision().await.unwrap(),
            revision,
            "nothing was left to end"
        );
    }
}
