//! How long access that is being used lives on once it is taken away, with many nodes connected.
//!
//! The clock starts before the administrator's request is sent and stops when both ends of a TCP connection inside the
//! tunnel have been told of its end: TLS, the controller's log on disk, the push, the packet loops and the kernels are
//! all in it.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use ringfence_e2e::{Allow, Api, Live, Mesh, Node, NodeOptions, perimeter};
use ringfence_lab::Lab;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::summary::percentile;

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// How access was taken away.
    pub way: Way,
    /// Nodes that were connected.
    pub connected: u32,
    /// Nodes that had to enforce it, as the receipt has it.
    pub told: u32,
    /// Until the connection was cut at both ends, ms.
    pub cut_ms: f64,
    /// Until the last of them was known to enforce it, by the receipt and from the change on, ms.
    pub enforced_ms: f64,
}

/// How access is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A rule for everybody leaves the perimeter's policy: every node is told.
    Policy,
    /// The node that uses it is quarantined.
    Quarantine,
}

impl Way {
    const ALL: [Self; 2] = [Self::Policy, Self::Quarantine];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "a rule leaves the policy",
            Self::Quarantine => "a node is quarantined",
        })
    }
}

/// What several revocations of one way took together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) way: Way,
    pub(crate) count: usize,
    pub(crate) connected: u32,
    pub(crate) told: u32,
    /// p50, p99 and the longest, ms.
    pub(crate) cut_ms: [f64; 3],
    pub(crate) enforced_ms: [f64; 3],
}

/// Takes access away `times` in each way, with `nodes` connected; `say` is told how it goes.
///
/// # Errors
/// When a node does not come up, or a connection does not open or is not cut.
pub fn readings(nodes: u32, times: u32, say: impl Fn(&str)) -> Result<Vec<Revocation>> {
    let mut mesh = Mesh::start_in(Lab::new("bench-revoke")?, LOG)?;
    say(&format!("starting {nodes} nodes"));
    let (db, apps) = populate(&mut mesh, nodes)?;
    mesh.apply_and_wait(&policy(&OPEN))?;
    let bench = Bench {
        api: mesh.api()?,
        mesh,
        db,
        apps,
        connected: nodes,
    };
    let mut readings = Vec::new();
    for way in Way::ALL {
        say(&format!("{way}, {times} times"));
        for number in 0..times {
            let app = &bench.apps[number as usize % bench.apps.len()];
            readings.push(bench.revoke(way, app)?);
        }
    }
    Ok(readings)
}

/// By way, what the readings say together.
pub(crate) fn summaries(readings: &[Revocation]) -> Vec<Summary> {
    let of = |way: Way| {
        let same: Vec<&Revocation> = readings.iter().filter(|reading| reading.way == way).collect();
        let first = same.first()?;
        let shares = |value: fn(&Revocation) -> f64| {
            let values: Vec<f64> = same.iter().map(|reading| value(reading)).collect();
            [0.5, 0.99, 1.0].map(|share| percentile(&values, share).unwrap_or_default())
        };
        Some(Summary {
            way,
            count: same.len(),
            connected: first.connected,
            told: same.iter().map(|reading| reading.told).max()?,
            cut_ms: shares(|reading| reading.cut_ms),
            enforced_ms: shares(|reading| reading.enforced_ms),
        })
    };
    Way::ALL.into_iter().filter_map(of).collect()
}

struct Bench {
    api: Api,
    mesh: Mesh,
    db: Node,
    apps: Vec<Node>,
    connected: u32,
}

impl Bench {
    fn revoke(&self, way: Way, app: &Node) -> Result<Revocation> {
        let database = self.db.overlay(PERIMETER)?.v4.into();
        let live = Live::open(app.host(), self.db.host(), database, PORT)?;
        let started = Instant::now();
        let report = match way {
            Way::Policy => self.api.apply(&policy(&NARROW))?,
            Way::Quarantine => {
                let lock = json!({ "target": format!("node:{}", app.name()), "reason": "a benchmark" });
                self.api.post("/api/v1/locks", &lock)?.ok()?
            }
        };
        let (client, server) = live.wait_cut(PATIENCE)?;
        let cut = client.at.max(server.at).saturating_duration_since(started);
        let receipt = self.receipt(&report.json()?)?;
        self.open_again(way, app)?;
        Ok(Revocation {
            way,
            connected: self.connected,
            told: u32::try_from(number(&receipt, "told")?)?,
            cut_ms: cut.as_secs_f64() * 1e3,
            enforced_ms: number(&receipt, "max_ms")? as f64,
        })
    }

    fn receipt(&self, report: &Value) -> Result<Value> {
        let revision = report["revision"].as_str().context("a report has its revision")?;
        let path = format!("/api/v1/revisions/{revision}/receipt?wait_ms=5000");
        let receipt = self.api.get(&path)?.ok()?.json()?;
        anyhow::ensure!(receipt["complete"] == true, "not enforced everywhere: {receipt}");
        Ok(receipt)
    }

    fn open_again(&self, way: Way, app: &Node) -> Result<()> {
        match way {
            Way::Policy => {
                self.api.apply(&policy(&OPEN))?;
            }
            Way::Quarantine => {
                self.mesh
                    .cli(["release", &format!("node:{}", app.name())])?
                    .text()?;
            }
        }
        self.mesh.wait_enforced()?;
        Ok(())
    }
}

/// A database and so many nodes that use it, the database among them; a few are started at once.
fn populate(mesh: &mut Mesh, nodes: u32) -> Result<(Node, Vec<Node>)> {
    let mut hosts = (1..nodes)
        .map(|number| mesh.bare_host(&format!("app{number}")))
        .collect::<Result<Vec<_>>>()?
        .into_iter();
    let db = mesh.node("db", &["role=db"])?;
    let mut apps = Vec::new();
    loop {
        let some: Vec<_> = hosts.by_ref().take(STARTED_AT_ONCE).collect();
        if some.is_empty() {
            return Ok((db, apps));
        }
        let mesh = &*mesh;
        let started = thread::scope(|scope| {
            let each: Vec<_> = some
                .iter()
                .map(|host| {
                    let options = NodeOptions {
                        log: Some(LOG),
                        ..NodeOptions::default()
                    };
                    scope.spawn(move || mesh.node_on(host, host.name(), &["role=app"], options))
                })
                .collect();
            each.into_iter()
                .map(|node| node.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect::<Result<Vec<Node>>>()
        });
        apps.extend(started?);
    }
}

fn policy(rules: &[Allow]) -> String {
    perimeter(PERIMETER, "10m", &[("app", "role=app"), ("db", "role=db")], rules)
}

fn number(receipt: &Value, field: &str) -> Result<u64> {
    receipt[field]
        .as_u64()
        .with_context(|| format!("the receipt has no {field}: {receipt}"))
}

const fn app_to_db(port: &'static str) -> Allow {
    Allow {
        from: "app",
        to: "db",
        port,
    }
}

/// With the rule that is taken away, and without it: peers stay peers for another.
const OPEN: [Allow; 2] = [app_to_db("tcp/5432"), app_to_db("tcp/22")];
const NARROW: [Allow; 1] = [app_to_db("tcp/22")];
const PORT: u16 = 5432;
const PERIMETER: &str = "revoked";
const LOG: &str = "warn";
const PATIENCE: Duration = Duration::from_secs(10);
const STARTED_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_are_summed_up_by_way() {
        let reading = |way, cut_ms| Revocation {
            way,
            connected: 50,
            told: 2,
            cut_ms,
            enforced_ms: 1.0,
        };
        let readings: Vec<Revocation> = (1..=100)
            .map(|ms| reading(Way::Policy, f64::from(ms)))
            .chain([reading(Way::Quarantine, 7.0)])
            .collect();

        let [policy, quarantine] = summaries(&readings).try_into().unwrap();

        assert_eq!((policy.count, policy.cut_ms), (100, [50.0, 99.0, 100.0]));
        assert_eq!((quarantine.count, quarantine.cut_ms), (1, [7.0, 7.0, 7.0]));
    }
}
