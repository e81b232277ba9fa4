//! The whole agent: starts every part in order, and takes it down again without a trace.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::thread::CapabilitySet;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use ringfence_control::local::ControllerStatus;
use ringfence_control::{NodeSession, tpm_binding};
use ringfence_dataplane::DataplaneConfig;

use crate::arguments::AgentArguments;
use crate::attest::Attestor;
use crate::command::{Command, LoopEvent};
use crate::control::{Control, Ended, Memory};
use crate::failure::Failure;
use crate::flow_files::FlowFiles;
use crate::flows::{Flows, FlowsInput};
use crate::guard::Guard;
use crate::identity::Identity;
use crate::link::{self, LinkEvent, Target};
use crate::local::{self, Desk};
use crate::logins::Logins;
use crate::netlink::Netlink;
use crate::packet_loop::{self, LaneParts, LoopEnded, LoopHandle, Running};
use crate::pings::Pings;
use crate::posture::Posture;
use crate::report::{ChangingFacts, NodeFacts, Reporter};
use crate::saved;
use crate::scripts::Scripts;
use crate::state::{NodeFile, StateDir};
use crate::tpm::TpmPlace;
use crate::uapi::Uapi;
use crate::udp::Udp;
use crate::unix::Listener;

/// Runs the agent until SIGTERM or SIGINT, or until the mesh removes this node.
///
/// # Errors
/// If a part of it cannot start, or a packet loop ends.
pub(crate) async fn run(
    mut state: StateDir,
    tpm: Option<&TpmPlace>,
    arguments: &AgentArguments,
    scripts: Scripts,
) -> Result<(), Failure> {
    let node = state.node()?;
    let identity = Identity::load(&mut state, tpm)?;
    check_privileges()?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let listener =
        Listener::bind(&arguments.socket, SOCKET_MODE).map_err(|error| bind_failure(arguments, &error))?;
    let sockets = bind(arguments, &state)?;
    let ports: Vec<u16> = sockets.iter().map(Udp::port).collect();
    let (listen_port, lane_ports) = (ports[0], ports[1..].to_vec());
    let (flows, flows_thread) =
        Flows::spawn(FlowFiles::new(state.path()), stream()?).context("starting the flow records")?;
    let Running {
        handle,
        events,
        mut threads,
    } = start_loops(sockets, arguments, &flows)?;
    let parts = Parts {
        state,
        node,
        identity,
        tpm,
        arguments,
        listen_port,
        lane_ports,
        packets: handle.clone(),
        flows: flows.clone(),
        scripts,
    };
    let Assembled {
        mut control,
        desk,
        target,
        link_queue,
    } = parts.assemble(events)?;
    let link = link::keep(target, link_queue);
    // Before anyone can ask: a status without what is in force would be wrong.
    let restored = control.restore().await;
    let local = tokio::spawn(local::serve(listener, desk));
    let stop = either(&mut terminate, &mut interrupt);
    let ended = tokio::select! {
        ended = work(&mut control, restored, stop) => ended,
        () = link => Err(LoopEnded),
        lane = threads.next_ended() => {
            tracing::error!(lane, "a packet loop has ended: the node stops");
            Err(LoopEnded)
        }
    };
    tell_systemd(&[NotifyState::Stopping]);
    local.abort();
    // Its socket's file goes with the task.
    let _ = local.await;
    control.uapi.close().await;
    control.save_peers();
    // Fails only if the loop has ended already.
    let _ = handle.send(Command::Shutdown).await;
    let joined = tokio::task::spawn_blocking(move || threads.join()).await;
    // After the last packet: what ended until then is written down.
    finish(&flows, flows_thread).await;
    // Only now: the devices took their routes with them.
    control.release_all().await;
    // The connection's last word leaves meanwhile: the controller need not wait for its idle timeout.
    tokio::time::sleep(GOODBYE_TIME).await;
    if !matches!(joined, Ok(Ok(()))) {
        return Err(anyhow!("a packet loop panicked").into());
    }
    conclude(ended.map_err(anyhow::Error::new)?)
}

/// What the program ends with.
fn conclude(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Stopped => {
            tracing::info!("stopped");
            Ok(())
        }
        Ended::Removed(reason) => Err(Failure::Denied(format!(
            "this node was removed from the mesh: {reason}"
        ))),
    }
}

/// Follows the controller until `stop` resolves, once what was saved is in force.
async fn work(
    control: &mut Control,
    restored: Result<(), LoopEnded>,
    stop: impl Future<Output = ()>,
) -> Result<Ended, LoopEnded> {
    restored?;
    tell_systemd(&[NotifyState::Ready]);
    let listen_port = control.listen_port;
    tracing::info!(node = %control.node.name, mesh = %control.node.mesh, listen_port, "running");
    control.run(stop).await
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Has the flow records written down.
async fn finish(flows: &Flows, thread: JoinHandle<()>) {
    flows.tell(FlowsInput::Stop);
    let ended = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::error!("the flow records' thread panicked");
    }
}

struct Parts<'a> {
    state: StateDir,
    node: NodeFile,
    identity: Identity,
    tpm: Option<&'a TpmPlace>,
    arguments: &'a AgentArguments,
    listen_port: u16,
    lane_ports: Vec<u16>,
    packets: LoopHandle,
    flows: Flows,
    scripts: Scripts,
}

/// The parts, wired to each other.
struct Assembled {
    control: Control,
    desk: Desk,
    target: Target,
    link_queue: mpsc::Sender<LinkEvent>,
}

impl Parts<'_> {
    fn assemble(self, loop_events: mpsc::Receiver<LoopEvent>) -> Result<Assembled, Failure> {
        let node = self.node;
        let controller = ControllerStatus {
            address: node.controllers.first().cloned(),
            ..ControllerStatus::default()
        };
        let (changing, changed) = watch::channel(ChangingFacts {
            name: node.name.clone(),
            controller,
        });
        let facts = NodeFacts {
            mesh: node.mesh.clone(),
            id: node.node,
            listen_port: self.listen_port,
            lane_ports: self.lane_ports.clone(),
        };
        let reporter = Reporter::new(self.packets.clone(), facts, changed);
        let pings = Pings::new(self.packets.clone());
        let (logins, login_asks) = Logins::new();
        let binding = tpm_binding(&node.mesh, node.node, self.identity.key.public_key_der());
        let (identity, newest) = watch::channel(Arc::new(self.identity));
        let (link_queue, link_events) = mpsc::channel(LINK_EVENTS_MAX);
        let target = Target {
            controllers: node.controllers.clone(),
            mesh: node.mesh.clone(),
            identity: newest,
        };
        let attestor = Attestor::spawn(self.tpm, binding).context("starting to attest")?;
        let control = Control {
            session: NodeSession::new(node.mesh.clone(), node.node, None),
            state: self.state,
            node,
            identity,
            packets: self.packets,
            flows: self.flows,
            loop_events,
            link_events,
            netlink: Netlink::connect().context("connecting to netlink")?,
            guard: guard(self.listen_port),
            uapi: Uapi::new(reporter.clone()),
            pings: pings.clone(),
            posture: Posture::spawn(self.scripts).context("starting to look after the posture")?,
            attestor,
            logins: logins.clone(),
            login_asks,
            changing,
            configured: self.arguments.endpoints.clone(),
            listen_port: self.listen_port,
            lane_ports: self.lane_ports,
            epoch: epoch()?,
            memory: Memory::default(),
        };
        Ok(Assembled {
            control,
            desk: Desk {
                reporter,
                pings,
                logins,
            },
            target,
            link_queue,
        })
    }
}

/// A packet loop for each socket.
fn start_loops(sockets: Vec<Udp>, arguments: &AgentArguments, flows: &Flows) -> Result<Running, Failure> {
    let lane = |udp| Ok::<_, Failure>(LaneParts { udp, seed: seed()? });
    let lanes = sockets.into_iter().map(lane).collect::<Result<_, _>>()?;
    let running = packet_loop::spawn(lanes, config(arguments), flows);
    Ok(running.context("starting the packet loops")?)
}

/// A socket for each lane. Those after the first take the ports that follow, so that a firewall can be told of them; else
/// those they had in the last run, where peers may still look for them; else any that is free.
fn bind(arguments: &AgentArguments, state: &StateDir) -> Result<Vec<Udp>, Failure> {
    let first = arguments.listen_port;
    let mut sockets = vec![Udp::bind(first).with_context(|| format!("UDP port {first}"))?];
    let listen_port = sockets[0].port();
    let former = saved::load_lane_ports(state);
    for lane in 1..arguments.lanes.count() {
        let wanted = [
            listen_port.checked_add(lane),
            former.get(usize::from(lane) - 1).copied(),
        ];
        let mut bound = wanted.into_iter().flatten().map(Udp::bind);
        let socket = bound
            .find_map(Result::ok)
            .map_or_else(|| Udp::bind(0), Ok)
            .with_context(|| format!("a UDP port for lane {lane}"))?;
        sockets.push(socket);
    }
    let ports: Vec<u16> = sockets.iter().skip(1).map(Udp::port).collect();
    if ports != former
        && let Err(error) = saved::save_lane_ports(state, &ports)
    {
        tracing::warn!(%error, "the ports of the lanes could not be saved: after a restart they may be others");
    }
    Ok(sockets)
}

fn guard(port: u16) -> Option<Guard> {
    Guard::new(port)
        .inspect_err(|error| {
            tracing::error!(%error, "overlay addresses are open to neighbours on the underlay: nftables is needed");
        })
        .ok()
}

fn config(arguments: &AgentArguments) -> DataplaneConfig {
    let default = DataplaneConfig::default();
    DataplaneConfig {
        mtu_bytes: arguments.mtu.unwrap_or(default.mtu_bytes),
        ..default
    }
}

/// Names the flow records of this run.
fn stream() -> Result<u64, Failure> {
    let [a, b, c, d, e, f, g, h, ..] = seed()?;
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the kernel gives no randomness: {error}"))?;
    Ok(seed)
}

/// A number that no earlier run of this node had.
fn epoch() -> Result<u64, Failure> {
    let [a, b, c, d, e, f, g, h, ..] = seed()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Says at once what would otherwise be an error for each segment.
fn check_privileges() -> Result<(), Failure> {
    let sets = rustix::thread::capabilities(None).context("reading this process's capabilities")?;
    if !sets.effective.contains(CapabilitySet::NET_ADMIN) {
        return Err(anyhow!("CAP_NET_ADMIN is needed to make TUN devices: run as root, or grant it").into());
    }
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(TUN_CONTROL);
    opened.with_context(|| {
        format!("{TUN_CONTROL}: this user needs read and write access, and the kernel `tun`")
    })?;
    Ok(())
}

fn bind_failure(arguments: &AgentArguments, error: &io::Error) -> Failure {
    let path = arguments.socket.display();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{path}: another ringfence-node answers there: choose another --socket")
        }
        _ => anyhow!("{path}: {error}"),
    }
    .into()
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

const TUN_CONTROL: &str = "/dev/net/tun";

/// Root, this user and its group may ask; who exactly is checked on each connection.
const SOCKET_MODE: u32 = 0o660;
/// Messages from the controller that may wait; then its connection does.
const LINK_EVENTS_MAX: usize = 64;
const GOODBYE_TIME: Duration = Duration::from_millis(50);
