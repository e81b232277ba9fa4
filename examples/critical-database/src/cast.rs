//! Who is on stage: the controller, five machines with a node each, and what they serve.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use ringfence_e2e::{Mesh, Node, NodeOptions, Overlay, Postgres};
use ringfence_lab::{Lab, Serving};

/// The perimeter of the database.
pub(crate) const PAYMENTS: &str = "payments-db";
/// The perimeter of the shop.
pub(crate) const SHOP: &str = "web-shop";

/// Everyone, running.
pub(crate) struct Cast {
    pub(crate) db: Node,
    pub(crate) api: Node,
    pub(crate) dba: Node,
    pub(crate) web: Node,
    pub(crate) intruder: Node,
    pub(crate) mesh: Mesh,
}

/// What runs on the machines, until it is dropped.
pub(crate) struct Servers {
    _postgres: Postgres,
    _others: Vec<Serving>,
}

impl Cast {
    /// Enrols everyone: each with a one-time token whose labels an administrator chose.
    pub(crate) fn enter(lab: &Lab) -> Result<Self> {
        let mut mesh = Mesh::start_in(lab.clone(), LOG)?;
        let hosts = ROLES
            .iter()
            .map(|(name, _)| mesh.bare_host(name))
            .collect::<Result<Vec<_>>>()?;
        let nodes = thread::scope(|scope| {
            let mesh = &mesh;
            let started = ROLES.iter().zip(&hosts).map(|((name, label), host)| {
                scope.spawn(move || {
                    let options = NodeOptions {
                        log: Some(LOG),
                        ..NodeOptions::default()
                    };
                    mesh.node_on(host, name, &[label], options)
                })
            });
            let started: Vec<_> = started.collect();
            started
                .into_iter()
                .map(|node| node.join().map_err(|_| anyhow!("a machine panicked"))?)
                .collect::<Result<Vec<Node>>>()
        })?;
        let [db, api, dba, web, intruder] =
            <[Node; 5]>::try_from(nodes).map_err(|_| anyhow!("there are five roles"))?;
        Ok(Self {
            db,
            api,
            dba,
            web,
            intruder,
            mesh,
        })
    }

    /// The five, in the order of the programme.
    pub(crate) fn nodes(&self) -> [&Node; 5] {
        [&self.db, &self.api, &self.dba, &self.web, &self.intruder]
    }

    /// The label of each, as its token gave it.
    pub(crate) fn label(node: &Node) -> &'static str {
        let role = ROLES.iter().find(|(name, _)| *name == node.name());
        role.map_or("", |(_, label)| label)
    }

    /// Starts what the machines serve, on their overlay addresses alone: Ringfence guards what is inside a perimeter,
    /// not what a program offers to the whole network.
    pub(crate) fn serve(&self) -> Result<Servers> {
        let database = self.db.overlay(PAYMENTS)?;
        let mut others = Vec::new();
        for (node, perimeter, port) in [
            (&self.db, PAYMENTS, 22),
            (&self.api, SHOP, 8443),
            (&self.web, SHOP, 443),
        ] {
            for address in node.overlay(perimeter)?.both(port) {
                others.push(node.host().serve(address)?);
            }
        }
        let Overlay { v4, v6 } = database;
        let postgres = Postgres::start_on(self.db.host(), &format!("{v4},{v6}"))?;
        Ok(Servers {
            _postgres: postgres,
            _others: others,
        })
    }

    /// Runs `ringfence` as the administrator does, in the example's folder; gives what it printed.
    pub(crate) fn administrator(&self, args: &[&str]) -> Result<String> {
        self.mesh.cli(args)?.current_dir(FOLDER).text()
    }
}

/// All addresses at which a machine could be reached: of each segment, and of the LAN.
pub(crate) fn addresses(node: &Node, port: u16) -> Result<Vec<SocketAddr>> {
    let status = node.status()?;
    let segments = status["segments"].as_array().context("status has segments")?;
    let overlay = segments
        .iter()
        .filter_map(|segment| segment["addresses"].as_array())
        .flatten();
    let overlay = overlay.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
    let all = overlay.chain(node.host().addresses());
    Ok(all.map(|address| SocketAddr::new(address, port)).collect())
}

/// The address of the database inside its perimeter.
pub(crate) fn database(cast: &Cast) -> Result<IpAddr> {
    Ok(cast.db.overlay(PAYMENTS)?.v4.into())
}

/// Where the policies are.
pub(crate) fn folder() -> &'static Path {
    Path::new(FOLDER)
}

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The machines and the label that each one's token carries. What a node says of itself selects nothing.
const ROLES: [(&str, &str); 5] = [
    ("db", "role=db"),
    ("api", "role=api"),
    ("dba", "role=dba"),
    ("web", "role=web"),
    ("intruder", "role=office"),
];

const LOG: &str = "info";
