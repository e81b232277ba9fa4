//! Those who are attacked, a device that turns bad, and how it is seen what got through.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_e2e::packet::{parse_udp, udp};
use ringfence_e2e::{Allow, Mesh, Node, Overlay, perimeter, public_key_of, random_bytes};
use ringfence_lab::{Host, Serving};

use crate::rogue::Rogue;

/// The perimeter.
pub(crate) const SHOP: &str = "shop";
/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Long enough for an answer, short enough to wait for none.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(1200);

/// A database, an application that uses it, and a device that may ask the database one thing.
pub(crate) struct Shop {
    pub(crate) db: Node,
    pub(crate) api: Node,
    // Last: it looks at what the nodes logged when it goes.
    pub(crate) mesh: Mesh,
}

impl Shop {
    pub(crate) fn open(name: &str, rules: &[Allow]) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let shop = Self {
            db: mesh.node("db", &["role=db"]).unwrap(),
            api: mesh.node("api", &["role=api"]).unwrap(),
            mesh,
        };
        shop.mesh.apply_and_wait(&policy(rules)).unwrap();
        shop
    }

    /// A node's addresses in the shop.
    pub(crate) fn at(node: &Node) -> Overlay {
        node.overlay(SHOP).unwrap()
    }
}

/// The shop's policy.
pub(crate) fn policy(rules: &[Allow]) -> String {
    let groups = [("db", "role=db"), ("api", "role=api"), ("device", "role=device")];
    perimeter(SHOP, "10m", &groups, rules)
}

/// One rule.
pub(crate) const fn allow(from: &'static str, to: &'static str, port: &'static str) -> Allow {
    Allow { from, to, port }
}

/// What most attacks are made on: the device may ask for names and connect to the database, and nothing else.
pub(crate) const RULES: [Allow; 3] = [
    allow("api", "db", "tcp/5432"),
    allow("device", "db", "udp/53"),
    allow("device", "db", "tcp/5432"),
];

/// A peer in good standing that turned bad: the key is honest, nothing else is.
pub(crate) struct Mallory {
    pub(crate) rogue: Rogue,
    pub(crate) own: Overlay,
    pub(crate) key: [u8; 32],
    pub(crate) host: Host,
    victim: Host,
    interface: String,
    honest: [(SocketAddr, SocketAddr); 2],
    _echo: Vec<Serving>,
}

impl Mallory {
    /// Adds a device and shakes hands with the database as it.
    pub(crate) fn join(shop: &mut Shop) -> Self {
        let key = random_bytes().unwrap();
        let host = shop.mesh.bare_host("mallory").unwrap();
        let public_key = public_key_of(key);
        let add = [
            "peer",
            "add",
            "mallory",
            "--perimeter",
            SHOP,
            "--label",
            "role=device",
            "--public-key",
            &public_key,
        ];
        shop.mesh.cli(add).unwrap().text().unwrap();
        shop.mesh.wait_enforced().unwrap();
        shop.db.wait_peer(SHOP, "mallory").unwrap();
        let listed = shop.mesh.json(["peer", "ls"]).unwrap();
        let address = |at: usize| listed["peers"][0]["addresses"][at].as_str().unwrap().to_owned();
        let own = Overlay {
            v4: address(0).parse().unwrap(),
            v6: address(1).parse().unwrap(),
        };
        let db = Shop::at(&shop.db);
        let mut rogue = Rogue::new(
            &host,
            key,
            &shop.db.public_key(SHOP).unwrap(),
            shop.db.endpoint().unwrap(),
        );
        assert!(rogue.shake(SOON).is_some(), "the device's handshake is answered");
        Self {
            rogue,
            own,
            key,
            host,
            victim: shop.db.host().clone(),
            interface: shop.db.segment(SHOP).unwrap()["interface"]
                .as_str()
                .unwrap()
                .to_owned(),
            honest: [(own.v4(999), db.v4(53)), (own.v6(999), db.v6(53))],
            _echo: db.both(53).map(|at| shop.db.host().serve(at).unwrap()).into(),
        }
    }

    /// How many packets came out of tunnels on the victim so far, by the kernel's count.
    pub(crate) fn delivered(&self) -> u64 {
        delivered(&self.victim, &self.interface)
    }

    /// Sends these, and tells how many of them got through to the victim's kernel.
    pub(crate) fn try_packets<'a>(&mut self, packets: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let before = self.delivered();
        for packet in packets {
            self.rogue.send(packet);
        }
        self.settle();
        self.delivered() - before - 1
    }

    /// Sends something honest and waits for its echo: all that was sent before has been judged by then.
    pub(crate) fn settle(&mut self) {
        assert!(
            self.ask(),
            "an honest packet after the others is delivered and answered"
        );
    }

    /// Whether an honest question is answered.
    pub(crate) fn ask(&mut self) -> bool {
        let (src, dst) = self.honest[0];
        let word = random_bytes::<8>().unwrap();
        self.rogue.send(&udp(src, dst, &word));
        let began = std::time::Instant::now();
        while let Some(left) = SOON.checked_sub(began.elapsed()) {
            let Some(answer) = self.rogue.receive(left) else {
                return false;
            };
            if parse_udp(&answer) == Some((dst, src, &word[..])) {
                return true;
            }
        }
        false
    }
}

/// Packets that came out of an interface into the kernel.
pub(crate) fn delivered(host: &Host, interface: &str) -> u64 {
    let table = host.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap()
}
