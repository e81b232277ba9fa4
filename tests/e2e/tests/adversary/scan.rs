//! Port scans by nmap: from a machine in no perimeter, and from a member whose own node does not hold it back.

use ringfence_e2e::Device;
use ringfence_lab::{Host, Serving};

use crate::stage::{BRIEFLY, SHOP, Shop, allow};

/// Services on every address of the database's host: a scan that got through would find them.
const SERVED: [u16; 5] = [22, 53, 80, 5432, 8080];

fn serve(host: &Host) -> Vec<Serving> {
    SERVED
        .iter()
        .map(|port| host.serve(([0_u16; 8], *port).into()).unwrap())
        .collect()
}

/// What nmap found: ports by state, and the reasons of all that is not open.
struct Found {
    open: Vec<String>,
    reasons: Vec<String>,
}

/// Scans with no more load than the lab's own network carries.
fn nmap(from: &Host, target: &str, how: &str) -> Found {
    let six = if target.contains(':') { &["-6"][..] } else { &[] };
    let command = from.command("nmap").args([
        "-n",
        "-Pn",
        "--reason",
        "--max-retries",
        "1",
        "--min-rate",
        "8000",
        "-oX",
        "-",
    ]);
    let command = command.args([
        "--initial-rtt-timeout",
        "60ms",
        "--max-rtt-timeout",
        "150ms",
        "--host-timeout",
        "60s",
    ]);
    let xml = command
        .args(how.split(' '))
        .args(six)
        .arg(target)
        .timeout(std::time::Duration::from_mins(2))
        .text()
        .unwrap();
    assert!(!xml.contains("timedout=\"true\""), "{xml}");
    let attribute = |element: &str, name: &str| {
        let (_, rest) = element.split_once(&format!(" {name}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    let mut found = Found {
        open: Vec::new(),
        reasons: Vec::new(),
    };
    for element in xml.split('<') {
        if element.starts_with("extrareasons") {
            found.reasons.extend(attribute(element, "reason"));
        }
    }
    for port in xml.split("<port ").skip(1) {
        let state = port.split_once("<state").unwrap().1;
        let (name, reason) = (
            attribute(state, "state").unwrap(),
            attribute(state, "reason").unwrap(),
        );
        if name == "open" {
            let head = format!(" {port}");
            found.open.push(format!(
                "{}/{}",
                attribute(&head, "protocol").unwrap(),
                attribute(&head, "portid").unwrap()
            ));
        } else {
            found.reasons.push(reason);
        }
    }
    found.reasons.sort();
    found.reasons.dedup();
    found
}

/// Nothing is open, and nothing was answered, not even with a refusal.
#[track_caller]
fn assert_silent(found: &Found, what: &str) {
    assert_eq!(found.open, Vec::<String>::new(), "{what}");
    assert_eq!(found.reasons, ["no-response"], "{what}");
}

#[test]
fn a_scan_from_an_intruder_on_the_network_hears_nothing_from_the_overlay() {
    let mut shop = Shop::open("intruder", &[allow("api", "db", "tcp/5432")]);
    let _served = serve(shop.db.host());
    let intruder = shop.mesh.bare_host("intruder").unwrap();
    let (db, underlay) = (Shop::at(&shop.db), shop.db.host());
    // It knows the overlay addresses, and routes them at the database's host.
    intruder
        .route(&db.v4.to_string(), &underlay.ipv4().unwrap().to_string())
        .unwrap();
    intruder
        .route(&db.v6.to_string(), &underlay.ipv6().unwrap().to_string())
        .unwrap();

    for target in [db.v4.to_string(), db.v6.to_string()] {
        assert_silent(&nmap(&intruder, &target, "-sS -p-"), &target);
        for how in ["-sA", "-sF", "-sX", "-sN", "-sU"] {
            assert_silent(
                &nmap(&intruder, &target, &format!("{how} -p22,53,80,5432,8080,51820")),
                how,
            );
        }
    }
    assert_silent(
        &nmap(&intruder, &db.v4.to_string(), "-sS -f -p22,53,80,5432,8080"),
        "in fragments",
    );
    assert_silent(
        &nmap(&intruder, &db.v4.to_string(), "-sS -g 5432 -p22,53,80,5432,8080"),
        "from a port that is allowed",
    );
    // The tunnel's own port does not tell that it is one.
    let port = shop.db.endpoint().unwrap().port();
    let tunnels = nmap(
        &intruder,
        &underlay.ipv4().unwrap().to_string(),
        &format!("-sU -p{port}"),
    );
    assert_silent(&tunnels, "the tunnel's port");
    // The scan itself works: the host's own network is not what Ringfence guards.
    assert!(
        nmap(&intruder, &underlay.ipv4().unwrap().to_string(), "-sS -p5432")
            .open
            .contains(&"tcp/5432".to_owned())
    );
}

#[test]
fn a_scan_from_a_member_finds_what_policy_opens_and_silence() {
    let rules = [
        allow("api", "db", "tcp/5432"),
        allow("device", "db", "tcp/5432"),
        allow("device", "db", "udp/53"),
    ];
    let mut shop = Shop::open("member", &rules);
    let _served = serve(shop.db.host());
    let host = shop.mesh.bare_host("laptop").unwrap();
    let device = Device::add(&shop.mesh, &host, "laptop", SHOP, &["role=device"]).unwrap();
    shop.mesh.wait_enforced().unwrap();
    device.up().unwrap();
    let db = Shop::at(&shop.db);
    assert_eq!(host.try_tcp(db.v4(5432), BRIEFLY * 4), ringfence_lab::Reach::Open);

    for target in [db.v4.to_string(), db.v6.to_string()] {
        let found = nmap(&host, &target, "-sS -p-");
        assert_eq!(
            (found.open, found.reasons),
            (vec!["tcp/5432".to_owned()], vec!["no-response".to_owned()]),
            "{target}"
        );
        for how in ["-sA", "-sF", "-sX", "-sN"] {
            assert_silent(&nmap(&host, &target, &format!("{how} -p22,53,80,5432,8080")), how);
        }
        let found = nmap(&host, &target, "-sU -p22,53,80,5432,8080,51820");
        assert_eq!(found.reasons, ["no-response"], "{target}");
    }
    // A member that has nothing allowed towards another hears nothing of it, through the tunnel or around it.
    let api = Shop::at(&shop.api);
    let found = nmap(&host, &api.v4.to_string(), "-sS -p22,5432");
    assert_eq!(found.open, Vec::<String>::new(), "another member");
}

#[test]
fn a_scan_from_a_members_own_node_is_refused_there_and_finds_only_what_policy_opens() {
    let shop = Shop::open("ownnode", &[allow("api", "db", "tcp/5432")]);
    let _served = serve(shop.db.host());
    let db = Shop::at(&shop.db);
    assert_eq!(
        shop.api.host().try_tcp(db.v4(5432), BRIEFLY * 4),
        ringfence_lab::Reach::Open
    );
    let before = shop.db.drops("not_allowed").unwrap();

    for target in [db.v4.to_string(), db.v6.to_string()] {
        let found = nmap(shop.api.host(), &target, "-sS -p22,53,80,5432,8080");
        assert_eq!(found.open, ["tcp/5432"], "{target}");
        // Its own node tells at once; the database's node never hears of it.
        assert!(
            found
                .reasons
                .iter()
                .all(|reason| reason.contains("prohibited") || reason.contains("unreach")),
            "{:?}",
            found.reasons
        );
    }
    assert_eq!(shop.db.drops("not_allowed").unwrap(), before);
}
