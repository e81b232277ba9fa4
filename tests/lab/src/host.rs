//! A host: a network namespace, its links, addresses and routes, and the private folders its programs see.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail};

use crate::{
    fabric::{Network, Percent},
    lab::Lab,
    namespace::{Namespace, Spawner},
    nat::{self, Nat},
    program::Program,
};

/// A host in a lab. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    namespace: Namespace,
    folder: PathBuf,
    spawner: Spawner,
    mounts: Mounts,
    state: Mutex<State>,
    /// Last, so that the host's own things are gone before its lab may end.
    lab: Lab,
}

#[derive(Default)]
struct State {
    links: Vec<Link>,
    routes: Vec<Route>,
    nat: Vec<(String, Nat)>,
}

struct Link {
    name: String,
    network: String,
    addresses: Vec<String>,
}

struct Route {
    to: String,
    via: String,
}

impl Host {
    pub(crate) fn create(lab: &Lab, name: &str) -> Result<Self> {
        let folder = lab.dir().join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let namespace = Namespace::create(&lab.namespace_name(name))?;
        let mounts = Mounts::create(&namespace)?;
        let spawner = Spawner::start(&namespace)?;
        let (name, lab) = (name.to_owned(), lab.clone());
        Ok(Self(Arc::new(Inner {
            name,
            namespace,
            folder,
            spawner,
            mounts,
            state: Mutex::default(),
            lab,
        })))
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The host's own folder, where its programs' logs are too.
    pub fn dir(&self) -> &Path {
        &self.0.folder
    }

    /// Plugs the host into a network; gives the name of the new link: `eth0`, `eth1`, …
    ///
    /// # Errors
    /// When it is plugged in already or an address (`10.0.0.1/24`) is not one.
    pub fn join(&self, network: &Network, addresses: &[&str]) -> Result<String> {
        let mut state = self.state();
        if state.links.iter().any(|link| link.network == network.name()) {
            bail!("{} is in network {} already", self.name(), network.name());
        }
        let link = format!("eth{}", state.links.len());
        let (port, bridge) = {
            let mut fabric = self.0.lab.fabric();
            (
                fabric.add_port(self.name(), network.name()),
                fabric.bridge(network.name()),
            )
        };
        self.0.lab.switch().ip(&[
            format!(
                "link add {port} type veth peer name {link} netns {}",
                self.0.namespace.name()
            ),
            format!("link set {port} master {bridge} up"),
        ])?;
        self.0.namespace.ip(&[format!("link set {link} up")])?;
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        let link = Link {
            name: link,
            network: network.name().to_owned(),
            addresses,
        };
        self.0.namespace.ip(&address_lines(&link))?;
        let name = link.name.clone();
        state.links.push(link);
        drop(state);
        // Loss that was asked for before this port was there counts for it too.
        self.0.lab.apply_fabric()?;
        Ok(name)
    }

    /// Adds a route: `route("default", "10.0.0.1")`.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn route(&self, to: &str, via: &str) -> Result<()> {
        let route = Route {
            to: to.to_owned(),
            via: via.to_owned(),
        };
        self.0.namespace.ip(&[route_line(&route)])?;
        self.state().routes.push(route);
        Ok(())
    }

    /// Gives the host other addresses on a network, as when a laptop roams. Routes that still make sense stay.
    ///
    /// # Errors
    /// When the host is not in that network or an address is not one.
    pub fn set_addresses(&self, network: &Network, addresses: &[&str]) -> Result<()> {
        let mut state = self.state();
        let link = find_link(&mut state.links, network, self.name())?;
        link.addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        let mut lines = vec![format!("addr flush dev {} scope global", link.name)];
        lines.extend(address_lines(link));
        self.0.namespace.ip(&lines)?;
        for route in &state.routes {
            // The kernel took the routes of the old addresses; one through a network left behind stays away.
            let _ = self.0.namespace.ip(&[route_line(route)]);
        }
        Ok(())
    }

    /// Pulls the plug out of a network.
    ///
    /// # Errors
    /// When the host is not in that network.
    pub fn link_down(&self, network: &Network) -> Result<()> {
        let mut state = self.state();
        let link = find_link(&mut state.links, network, self.name())?;
        self.0.namespace.ip(&[format!("link set {} down", link.name)])
    }

    /// Puts the plug back.
    ///
    /// # Errors
    /// When the host is not in that network.
    pub fn link_up(&self, network: &Network) -> Result<()> {
        let mut state = self.state();
        let link = find_link(&mut state.links, network, self.name())?;
        let mut lines = vec![format!("link set {} up", link.name)];
        // Setting a link down takes its IPv6 addresses.
        lines.extend(address_lines(link));
        self.0.namespace.ip(&lines)?;
        for route in &state.routes {
            let _ = self.0.namespace.ip(&[route_line(route)]);
        }
        Ok(())
    }

    /// Sets the MTU of the link to a network, on the host's side.
    ///
    /// # Errors
    /// When the host is not in that network or the kernel refuses the value.
    pub fn set_mtu(&self, network: &Network, mtu_bytes: u32) -> Result<()> {
        let mut state = self.state();
        let link = find_link(&mut state.links, network, self.name())?;
        self.0
            .namespace
            .ip(&[format!("link set {} mtu {mtu_bytes}", link.name)])
    }

    /// Loses this share of the host's IP packets at random, each way.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    pub fn set_loss(&self, loss: Percent) -> Result<()> {
        self.0.lab.fabric().set_host_loss(self.name(), loss);
        self.0.lab.apply_fabric()
    }

    /// Translates what leaves to `outside`. For hosts made by [`Lab::router`].
    ///
    /// # Errors
    /// When the host is not in that network or the rules cannot be loaded.
    pub fn nat(&self, outside: &Network, nat: Nat) -> Result<()> {
        let mut state = self.state();
        let link = find_link(&mut state.links, outside, self.name())?.name.clone();
        state.nat.retain(|(known, _)| *known != link);
        state.nat.push((link, nat));
        self.0.namespace.nft(&nat::ruleset(&state.nat))
    }

    /// Writes `/proc/sys/net/<key>` on this host.
    ///
    /// # Errors
    /// When there is no such key or the kernel refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.0.namespace.sysctl(key, value)
    }

    /// The first address that the host was given.
    pub fn address(&self) -> IpAddr {
        *self
            .addresses()
            .first()
            .expect("a host is asked for its address after it joined a network")
    }

    /// The first IPv4 address that the host was given.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses().into_iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    /// The first IPv6 address that the host was given.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses().into_iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6),
        })
    }

    /// All addresses that the host was given, in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let state = self.state();
        let texts = state.links.iter().flat_map(|link| &link.addresses);
        texts
            .filter_map(|text| text.split('/').next()?.parse().ok())
            .collect()
    }

    /// A program to be run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new(self.clone(), program.as_ref())
    }

    /// Runs `f` on a thread of its own with this host's network. Sockets made there keep that network and may be used
    /// anywhere afterwards. The file system is the caller's own.
    pub fn inside<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.0.namespace.inside(f)
    }

    /// What a person writes before a command to run it on this host while the lab is up.
    pub fn shell_prefix(&self) -> String {
        let (net, mount) = (self.0.namespace.name(), self.0.mounts.path());
        format!("nsenter --net=/run/netns/{net} --mount={mount} --")
    }

    pub(crate) fn forward_packets(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }

    pub(crate) fn spawn(&self, command: Command) -> std::io::Result<Child> {
        self.0.spawner.spawn(command)
    }

    pub(crate) fn mounts_path(&self) -> String {
        self.0.mounts.path()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mount namespace of the host's own, held open by a process inside it.
///
/// Control sockets such as `/run/wireguard/wg0.sock` are named by interface, and two hosts may well have interfaces of
/// the same name.
struct Mounts {
    keeper: Child,
}

impl Mounts {
    fn create(namespace: &Namespace) -> Result<Self> {
        let mut keeper = namespace
            .inside(|| {
                Command::new("unshare")
                    // Slave, so that removed namespaces do not live on in copies of their mounts.
                    .args(["--mount", "--propagation", "slave", "sh", "-c", MOUNT_SCRIPT])
                    .current_dir("/")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
            })
            .context("cannot run unshare")?;
        let mut ready = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        if ready.trim() != "ready" {
            let output = keeper.wait_with_output()?;
            bail!(
                "cannot make a host's private folders: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(Self { keeper })
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/mnt", self.keeper.id())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn find_link<'a>(links: &'a mut [Link], network: &Network, host: &str) -> Result<&'a mut Link> {
    let link = links.iter_mut().find(|link| link.network == network.name());
    link.with_context(|| format!("{host} is not in network {}", network.name()))
}

fn address_lines(link: &Link) -> Vec<String> {
    link.addresses
        .iter()
        .map(|address| format!("addr replace {address} dev {}", link.name))
        .collect()
}

fn route_line(route: &Route) -> String {
    format!("route replace {} via {}", route.to, route.via)
}

const MOUNT_SCRIPT: &str = "
set -e
mkdir -p /run/wireguard /etc/wireguard /run/ringfence
for folder in /run/wireguard /etc/wireguard /run/ringfence; do
    mount -t tmpfs -o mode=0755 lab $folder
done
mount -t sysfs lab /sys
echo ready
exec cat >/dev/null
";
