//! `ringfence verify`: the network measured against the policy.

use serde_json::Value;

use crate::stage::{API_TO_DB, SHOP, Shop, allow};

#[test]
fn verify_measures_every_pair_and_finds_the_network_as_policy_says() {
    let mut shop = Shop::open(
        "verify",
        &[
            API_TO_DB,
            allow("api", "db", "udp/5353"),
            allow("web", "api", "icmp"),
        ],
    );
    let _intruder = shop.mesh.node("intruder", &["role=intruder"]).unwrap();
    let _server = shop.db.host().serve(Shop::at(&shop.db).v4(5432)).unwrap();

    let output = shop
        .mesh
        .cli(["verify", SHOP, "--wait", "1s", "--json"])
        .unwrap()
        .run()
        .unwrap();

    assert_eq!(output.code(), Some(0), "{}", output.all());
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(report["ok"] == true && rows.len() >= 30, "{report}");
    for row in rows {
        assert_eq!(row["expected"], row["measured"], "{row}");
    }
    let allowed: Vec<_> = rows.iter().filter(|row| row["measured"] == "allow").collect();
    assert_eq!(allowed.len(), 6, "three flows in two families: {allowed:?}");
    let outsiders: Vec<_> = rows.iter().filter(|row| row["outsider"] == true).collect();
    assert_eq!(outsiders.len(), 3, "{report}");
    assert!(
        outsiders
            .iter()
            .all(|row| row["from"] == "intruder" && row["measured"] == "deny"),
        "{outsiders:?}"
    );
    let text = shop
        .mesh
        .cli(["verify", SHOP, "--wait", "1s"])
        .unwrap()
        .text()
        .unwrap();
    assert!(
        text.contains("as policy says") && !text.contains("DIFFERS"),
        "{text}"
    );
}

#[test]
fn verify_finds_a_network_that_does_not_do_what_policy_says() {
    let shop = Shop::open("differs", &[API_TO_DB, allow("web", "api", "tcp/443")]);
    // Somebody has put a firewall of their own in the way.
    let block = "table inet block { chain out { type filter hook output priority 0; oifname rf-shop tcp dport 5432 drop; }; }";
    shop.api
        .host()
        .command("nft")
        .args(["-f", "-"])
        .input(block)
        .text()
        .unwrap();

    let output = shop
        .mesh
        .cli(["verify", SHOP, "--wait", "1s", "--json"])
        .unwrap()
        .run()
        .unwrap();

    assert_eq!(output.code(), Some(1), "{}", output.all());
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let rows = report["rows"].as_array().unwrap();
    let wrong: Vec<_> = rows
        .iter()
        .filter(|row| row["expected"] != row["measured"])
        .collect();
    assert_eq!(wrong.len(), 2, "one flow in two families: {wrong:?}");
    for row in wrong {
        assert_eq!(
            (row["from"].as_str(), row["to"].as_str(), row["service"].as_str()),
            (Some("api"), Some("db"), Some("tcp/5432")),
            "{row}"
        );
    }
}
