//! The perimeter that most tests play in: a database, an application and a web server.

use std::time::Duration;

use ringfence_e2e::{Allow, Live, Mesh, Node, Overlay, perimeter};

/// The perimeter.
pub(crate) const SHOP: &str = "shop";

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Long enough for an answer, short enough to wait for none.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(1500);

/// A mesh with three running nodes; no perimeter yet.
pub(crate) struct Shop {
    pub(crate) db: Node,
    pub(crate) api: Node,
    pub(crate) web: Node,
    // Last: it looks at what the nodes logged when it goes.
    pub(crate) mesh: Mesh,
}

impl Shop {
    pub(crate) fn start(name: &str) -> Self {
        Self::in_mesh(Mesh::start(name).unwrap())
    }

    pub(crate) fn in_mesh(mut mesh: Mesh) -> Self {
        Self {
            db: mesh.node("db", &["role=db"]).unwrap(),
            api: mesh.node("api", &["role=api"]).unwrap(),
            web: mesh.node("web", &["role=web"]).unwrap(),
            mesh,
        }
    }

    /// With these rules in force.
    pub(crate) fn open(name: &str, rules: &[Allow]) -> Self {
        let shop = Self::start(name);
        shop.enforce(rules);
        shop
    }

    /// Puts these rules in force, and waits until they are.
    pub(crate) fn enforce(&self, rules: &[Allow]) {
        self.mesh.apply_and_wait(&policy(rules)).unwrap();
    }

    /// A node's addresses in the shop.
    pub(crate) fn at(node: &Node) -> Overlay {
        node.overlay(SHOP).unwrap()
    }

    /// A TCP connection from the application to the database, port 5432.
    pub(crate) fn live(&self) -> Live {
        let db = Self::at(&self.db);
        Live::open(self.api.host(), self.db.host(), db.v4.into(), 5432).unwrap()
    }
}

/// The shop's policy, with a lease that outlasts a test.
pub(crate) fn policy(rules: &[Allow]) -> String {
    leased(rules, "10m")
}

/// The shop's policy.
pub(crate) fn leased(rules: &[Allow], lease: &str) -> String {
    let groups = [
        ("db", "role=db"),
        ("api", "role=api"),
        ("web", "role=web"),
        ("device", "role=device"),
    ];
    perimeter(SHOP, lease, &groups, rules)
}

/// One rule.
pub(crate) const fn allow(from: &'static str, to: &'static str, port: &'static str) -> Allow {
    Allow { from, to, port }
}

/// The application reaches the database.
pub(crate) const API_TO_DB: Allow = allow("api", "db", "tcp/5432");
