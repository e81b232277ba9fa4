//! Drills: what taking access away takes is measured on the live network, and nothing of it is left.

use std::time::Duration;

use serde_json::Value;

use crate::stage::{API_TO_DB, SHOP, SOON, Shop};

/// What says that access was not taken away at all, on a machine however busy.
const FAR_TOO_LONG_MS: u64 = 2_000;

#[test]
fn a_drill_measures_a_revocation_between_two_who_never_talk_and_leaves_nothing() {
    let shop = Shop::open("drill", &[API_TO_DB]);
    let live = shop.live();
    let before = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();

    let drills = shop
        .mesh
        .json([
            "drill",
            "revoke",
            "--perimeter",
            SHOP,
            "--from",
            "web",
            "--to",
            "db",
            "--rounds",
            "3",
        ])
        .unwrap();

    let rounds = drills["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3, "{drills}");
    for round in rounds {
        assert!(round["answered"].as_u64().unwrap() > 10, "{round}");
        let (silent, enforced) = (&round["silent_ms"], &round["enforced_ms"]);
        let (silent, enforced) = (silent.as_u64().unwrap(), enforced.as_u64().unwrap());
        assert_eq!(round["took_ms"], silent.max(enforced));
        assert!(silent.max(enforced) < FAR_TOO_LONG_MS, "{round}");
        let revision = round["revision"].as_str().unwrap();
        let receipt = shop.mesh.json(["receipt", revision]).unwrap();
        let told: Vec<&Value> = receipt["enforced"].as_array().unwrap().iter().collect();
        for node in ["web", "db"] {
            assert!(told.iter().any(|ack| ack["node"] == node), "{receipt}");
        }
    }
    assert_eq!(
        drills["max_ms"],
        rounds
            .iter()
            .map(|round| round["took_ms"].as_u64().unwrap())
            .max()
            .unwrap()
    );
    // Those who always talked never noticed, and those who never did do not know each other any more.
    live.exchange(SOON).unwrap();
    assert!(shop.web.peer(SHOP, "db").unwrap().is_none());
    assert!(shop.db.peer(SHOP, "web").unwrap().is_none());
    let after = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    assert_eq!(after["policy"], before["policy"]);
    let audit = shop.mesh.cli(["audit", "--since", "1h"]).unwrap().text().unwrap();
    for word in ["drill.begin", "drill.end", "for a drill"] {
        assert_eq!(audit.matches(word).count() % 3, 0, "{word}: {audit}");
        assert!(audit.contains(word), "{word}: {audit}");
    }
}

#[test]
fn a_drill_that_cannot_be_held_says_why_and_leaves_nothing() {
    let mut shop = Shop::open("no-drill", &[API_TO_DB]);
    let refused = |shop: &Shop, args: &[&str]| {
        let args = ["drill", "revoke", "--perimeter", SHOP].iter().chain(args);
        let output = shop.mesh.cli(args).unwrap().run().unwrap();
        assert_ne!(output.code(), Some(0), "{}", output.all());
        output.all()
    };

    let said = refused(&shop, &["--from", "nobody"]);
    assert!(said.contains("nobody is no node of perimeter shop"), "{said}");

    // A host that lets nothing in which it did not ask for.
    let table = "table inet own { chain in { type filter hook input priority 0; iifname \"rf*\" udp dport >= 49152 drop; }; }";
    shop.db
        .host()
        .command("nft")
        .args(["-f", "-"])
        .input(table)
        .text()
        .unwrap();
    let said = refused(&shop, &["--from", "web", "--to", "db"]);
    assert!(said.contains("is there a firewall of the host's own?"), "{said}");
    assert!(
        shop.web.peer(SHOP, "db").unwrap().is_none(),
        "nothing is left open"
    );

    for node in [&mut shop.api, &mut shop.web] {
        node.stop().unwrap();
    }
    ringfence_lab::wait_until(Duration::from_secs(20), "the two to be gone", || {
        let nodes = shop.mesh.json(["node", "ls"]).unwrap();
        let connected = |node: &&Value| node["connected"] == true;
        nodes["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(connected)
            .count()
            == 1
    })
    .unwrap();
    let said = refused(&shop, &[]);
    assert!(
        said.contains("needs two nodes of it that are connected"),
        "{said}"
    );
}
