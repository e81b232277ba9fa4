//! Another user's process on a node's machine: the local socket, the state, the ports.

use std::os::unix::fs::PermissionsExt as _;

use ringfence_e2e::binary;

use crate::stage::{RULES, Shop};

const NOBODY: &str = "65534";

#[test]
fn a_process_without_rights_is_told_nothing_by_the_local_socket() {
    let shop = Shop::open("socket", &RULES);
    let host = shop.db.host();
    let ask = || {
        // A copy that everybody may run, so that what is refused is the socket.
        let program = host.dir().join("anyones-ringfence");
        std::fs::copy(binary("ringfence").unwrap(), &program).unwrap();
        let ask = host
            .command(program)
            .args(["status", "--json", "--socket"])
            .arg(shop.db.socket());
        ask.as_user(NOBODY).run().unwrap()
    };
    for folder in [shop.mesh.lab().dir(), host.dir()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    let mode = std::fs::metadata(shop.db.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let refused = ask();
    assert_ne!(refused.code(), Some(0), "{}", refused.all());
    assert_eq!(refused.stdout, "");

    // Even when somebody opened the file up to all: the kernel says who is calling.
    std::fs::set_permissions(shop.db.socket(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = ask();
    assert_ne!(refused.code(), Some(0), "{}", refused.all());
    assert_eq!(refused.stdout, "");
    assert!(
        shop.db.log().contains("a caller without rights was refused"),
        "{}",
        shop.db.log()
    );
    assert_eq!(shop.db.status().unwrap()["node"], "db", "its owner is answered");
}

#[test]
fn a_node_listens_on_nothing_but_its_tunnels_and_shows_its_keys_to_nobody() {
    let shop = Shop::open("listens", &RULES);
    let host = shop.db.host();

    let tcp = host.command("ss").args(["-Hltn"]).text().unwrap();
    assert_eq!(tcp, "", "no TCP port");
    let udp = host.command("ss").args(["-Hlun"]).text().unwrap();
    let port = format!(":{} ", shop.db.endpoint().unwrap().port());
    // Besides it there is the control channel's own socket, which is a client's.
    assert!(udp.lines().any(|line| line.contains(&port)), "{udp}");
    assert!(udp.lines().count() <= 2, "{udp}");

    let pid = shop.db.running().pid();
    let read = |file: String| {
        let cat = host.command("cat").arg(file).as_user(NOBODY);
        cat.run().unwrap()
    };
    let key = shop.db.state_dir().join("keys/shop.key");
    for file in [
        format!("/proc/{pid}/mem"),
        format!("/proc/{pid}/environ"),
        format!("/proc/{pid}/maps"),
        key.display().to_string(),
    ] {
        let run = read(file.clone());
        assert!(
            run.code() != Some(0) && run.stdout.is_empty(),
            "{file}: {}",
            run.all()
        );
    }
    for (folder, mode) in [
        (shop.db.state_dir(), 0o700),
        (shop.db.state_dir().join("keys"), 0o700),
        (key, 0o600),
    ] {
        let got = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(got, mode, "{}", folder.display());
    }
}
