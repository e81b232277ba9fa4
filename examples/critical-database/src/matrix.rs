//! Who reaches what: what policy says, and what real connections find.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ringfence_e2e::Node;
use ringfence_lab::Reach;

use crate::cast::{Cast, addresses};
use ringfence_example_stage::{Mark, dimmed, marked};

/// One measurement of everything.
pub(crate) struct Matrix {
    targets: Vec<Target>,
    cells: Vec<Cell>,
}

/// A port of a machine, at every address that the machine has.
struct Target {
    machine: String,
    port: u16,
    addresses: Vec<(SocketAddr, Way)>,
}

/// What became of one machine's attempts on one target.
struct Cell {
    from: String,
    to: String,
    expected: Verdict,
    reached: Vec<Attempt>,
}

/// One connection.
struct Attempt {
    way: Way,
    reach: Reach,
}

/// By which of its addresses a machine was tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In a perimeter, IPv4.
    Overlay4,
    /// In a perimeter, IPv6.
    Overlay6,
    /// On the LAN, where nothing may be open to anybody.
    Lan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Open,
    Closed,
}

impl Matrix {
    /// Asks the controller what should be, and tries every address of every target from everywhere, all at once.
    pub(crate) fn measure(cast: &Cast) -> Result<Self> {
        let targets = [
            (&cast.db, 5432),
            (&cast.db, 22),
            (&cast.api, 8443),
            (&cast.web, 443),
        ]
        .into_iter()
        .map(|(node, port)| Target::new(node, port))
        .collect::<Result<Vec<_>>>()?;
        let pairs = cast
            .nodes()
            .into_iter()
            .flat_map(|node| targets.iter().map(move |target| (node, target)));
        let pairs = pairs.filter(|(node, target)| node.name() != target.machine);
        let cells = thread::scope(|scope| {
            let running: Vec<_> = pairs
                .map(|(node, target)| scope.spawn(|| measure(cast, node, target)))
                .collect();
            let done = running
                .into_iter()
                .map(|cell| cell.join().map_err(|_| anyhow!("a measurement panicked"))?);
            done.collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { targets, cells })
    }

    /// As a table of these machines.
    pub(crate) fn table(&self, machines: &[&Node]) -> String {
        let mut text = format!("{:<11}", "from \\ to");
        for target in &self.targets {
            let _ = write!(text, "{:<11}", target.name());
        }
        text.push('\n');
        for machine in machines {
            let _ = write!(text, "{:<11}", machine.name());
            for target in &self.targets {
                text.push_str(&self.cell(machine, target));
            }
            text.push('\n');
        }
        text
    }

    fn cell(&self, from: &Node, to: &Target) -> String {
        let cell = self
            .cells
            .iter()
            .find(|cell| cell.from == from.name() && cell.to == to.name());
        // Padding goes outside the colour codes, which take no place.
        match cell.map(|cell| (cell.measured(), cell.is_as_expected())) {
            None => format!("{:<11}", "-"),
            Some((Verdict::Open, true)) => format!("{}       ", marked(Mark::Good, "open")),
            Some((Verdict::Closed, true)) => format!("{}     ", dimmed("closed")),
            Some((Verdict::Open, false)) => format!("{}      ", marked(Mark::Bad, "OPEN!")),
            Some((Verdict::Closed, false)) => format!("{}    ", marked(Mark::Bad, "CLOSED!")),
        }
    }

    /// In one line: how much was tried and how much of it is as policy says.
    pub(crate) fn summary(&self) -> (Mark, String) {
        let right = self.cells.iter().filter(|cell| cell.is_as_expected()).count();
        let mut ways: BTreeMap<Reach, usize> = BTreeMap::new();
        for Attempt { reach, .. } in self.cells.iter().flat_map(|cell| &cell.reached) {
            *ways.entry(*reach).or_default() += 1;
        }
        let tried: usize = ways.values().sum();
        let ways: Vec<String> = ways
            .iter()
            .map(|(reach, count)| format!("{count} {}", word(*reach)))
            .collect();
        let mark = if self.is_as_expected() {
            Mark::Good
        } else {
            Mark::Bad
        };
        let text = format!(
            "{right} of {} as policy says, by {tried} real connections ({})",
            self.cells.len(),
            ways.join(", ")
        );
        (mark, text)
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        self.cells.iter().all(Cell::is_as_expected)
    }
}

impl Target {
    fn new(node: &Node, port: u16) -> Result<Self> {
        Ok(Self {
            machine: node.name().to_owned(),
            port,
            addresses: addresses(node, port)?
                .into_iter()
                .map(|address| (address, Way::of(address, node)))
                .collect(),
        })
    }

    fn name(&self) -> String {
        format!("{}:{}", self.machine, self.port)
    }
}

impl Way {
    fn of(address: SocketAddr, node: &Node) -> Self {
        match address {
            _ if node.host().addresses().contains(&address.ip()) => Self::Lan,
            SocketAddr::V4(_) => Self::Overlay4,
            SocketAddr::V6(_) => Self::Overlay6,
        }
    }
}

impl Cell {
    fn measured(&self) -> Verdict {
        if self.opened().next().is_some() {
            Verdict::Open
        } else {
            Verdict::Closed
        }
    }

    /// What is allowed is open by IPv4 and by IPv6, each once, and never on the LAN.
    fn is_as_expected(&self) -> bool {
        let opened: Vec<Way> = self.opened().collect();
        match self.expected {
            Verdict::Open => {
                opened.len() == 2 && opened.contains(&Way::Overlay4) && opened.contains(&Way::Overlay6)
            }
            Verdict::Closed => opened.is_empty(),
        }
    }

    fn opened(&self) -> impl Iterator<Item = Way> + '_ {
        let open = self.reached.iter().filter(|attempt| attempt.reach == Reach::Open);
        open.map(|attempt| attempt.way)
    }
}

fn measure(cast: &Cast, from: &Node, to: &Target) -> Result<Cell> {
    let reached = thread::scope(|scope| {
        let attempts = to
            .addresses
            .iter()
            .map(|(address, way)| (way, scope.spawn(|| from.host().try_tcp(*address, PATIENCE))));
        let attempts: Vec<_> = attempts.collect();
        let done = attempts.into_iter().map(|(way, attempt)| {
            let reach = attempt.join().map_err(|_| anyhow!("an attempt panicked"))?;
            Ok(Attempt { way: *way, reach })
        });
        done.collect::<Result<Vec<_>>>()
    })?;
    Ok(Cell {
        from: from.name().to_owned(),
        to: to.name(),
        expected: expected(cast, from, to)?,
        reached,
    })
}

/// What `ringfence explain` says.
fn expected(cast: &Cast, from: &Node, to: &Target) -> Result<Verdict> {
    let (from, machine) = (format!("node:{}", from.name()), format!("node:{}", to.machine));
    let port = format!("tcp/{}", to.port);
    let answer = cast
        .mesh
        .json(["explain", "--from", &from, "--to", &machine, "--port", &port])?;
    Ok(if answer["verdict"] == "allow" {
        Verdict::Open
    } else {
        Verdict::Closed
    })
}

fn word(reach: Reach) -> &'static str {
    match reach {
        Reach::Open => "open",
        Reach::Refused => "refused",
        Reach::Unreachable => "unreachable",
        Reach::Silent => "silent",
    }
}

/// Long enough for a handshake on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);
