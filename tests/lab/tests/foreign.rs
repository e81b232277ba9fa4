//! Foreign programs that tests talk to run in the lab: stock WireGuard, PostgreSQL.

#![expect(clippy::unwrap_used, reason = "test fixtures fail by panicking")]

use std::time::Duration;

use ringfence_lab::{Host, Lab, Reach, Running, wait_until};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn two_hosts_run_stock_wireguard_with_interfaces_of_the_same_name() {
    let lab = Lab::new("stock").unwrap();
    let lan = lab.network("lan").unwrap();
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    a.join(&lan, &["10.0.0.1/24"]).unwrap();
    b.join(&lan, &["10.0.0.2/24"]).unwrap();
    let (a_wg, b_wg) = (Stock::start(&a), Stock::start(&b));

    a_wg.configure("10.9.0.1/24", &b_wg.public_key, "10.9.0.2/32", "10.0.0.2:51820");
    b_wg.configure("10.9.0.2/24", &a_wg.public_key, "10.9.0.1/32", "10.0.0.1:51820");

    assert_eq!(a.try_ping("10.9.0.2".parse().unwrap(), SOON), Reach::Open);
    let shown = b
        .command("wg")
        .args(["show", "wg0", "latest-handshakes"])
        .text()
        .unwrap();
    assert!(
        shown.starts_with(&a_wg.public_key) && !shown.trim_end().ends_with("\t0"),
        "{shown}"
    );
}

#[test]
fn wg_quick_brings_a_configuration_up_and_down() {
    let lab = Lab::new("wgquick").unwrap();
    let host = lab.host("a").unwrap();
    let key = host.command("wg").arg("genkey").text().unwrap();
    let file = format!("[Interface]\nPrivateKey = {key}\nAddress = 10.9.0.1/24, fd09::1/64\nMTU = 1400\n");
    host.command("sh")
        .args(["-c", "umask 077; cat > /etc/wireguard/wg0.conf"])
        .input(&file)
        .text()
        .unwrap();
    let links = || host.command("ip").args(["-br", "addr"]).text().unwrap();

    host.command("wg-quick").args(["up", "wg0"]).text().unwrap();
    let up = links();
    host.command("wg-quick").args(["down", "wg0"]).text().unwrap();

    assert!(up.contains("10.9.0.1/24") && up.contains("fd09::1/64"), "{up}");
    assert!(!links().contains("wg0"), "{}", links());
    assert!(!std::path::Path::new("/etc/wireguard/wg0.conf").exists());
}

#[test]
fn postgresql_serves_a_host_as_a_user_without_rights() {
    let lab = Lab::new("postgres").unwrap();
    let lan = lab.network("lan").unwrap();
    let (db, api) = (lab.host("db").unwrap(), lab.host("api").unwrap());
    db.join(&lan, &["10.0.0.1/24"]).unwrap();
    api.join(&lan, &["10.0.0.2/24"]).unwrap();
    let data = db.dir().join("data");
    let data = data.to_str().unwrap();
    db.command("install")
        .args(["-d", "-o", "postgres", "-m", "700", data])
        .text()
        .unwrap();
    let postgres = |program: &str| db.command(format!("{POSTGRES}/{program}")).as_user("postgres");

    postgres("initdb")
        .args(["-D", data, "-A", "trust", "--no-sync"])
        .text()
        .unwrap();
    std::fs::write(format!("{data}/pg_hba.conf"), "host all all 10.0.0.0/24 trust\n").unwrap();
    let server = postgres("postgres")
        .args(["-D", data, "-k", data, "-h", "10.0.0.1"])
        .spawn("postgres")
        .unwrap();
    server.wait_for_log("ready to accept connections", SOON).unwrap();

    let query = ["-h", "10.0.0.1", "-U", "postgres", "-tAc", "select 6 * 7"];
    assert_eq!(api.command("psql").args(query).text().unwrap(), "42\n");
}

struct Stock {
    host: Host,
    public_key: String,
    _daemon: Running,
}

impl Stock {
    fn start(host: &Host) -> Self {
        let daemon = host
            .command("wireguard-go")
            .args(["--foreground", "wg0"])
            .spawn("wireguard-go")
            .unwrap();
        wait_until(SOON, "wireguard-go's socket", || {
            host.command("wg")
                .args(["show", "wg0"])
                .run()
                .is_ok_and(|output| output.status.success())
        })
        .unwrap();
        let sh = |script: &str| host.command("sh").args(["-c", script]).text().unwrap();
        sh("umask 077; wg genkey > key; wg set wg0 private-key key listen-port 51820");
        Self {
            host: host.clone(),
            public_key: sh("wg pubkey < key").trim().to_owned(),
            _daemon: daemon,
        }
    }

    fn configure(&self, address: &str, peer: &str, allowed: &str, endpoint: &str) {
        let wg = self
            .host
            .command("wg")
            .args(["set", "wg0", "peer", peer, "allowed-ips", allowed]);
        wg.args(["endpoint", endpoint]).text().unwrap();
        self.host
            .command("ip")
            .args(["addr", "add", address, "dev", "wg0"])
            .text()
            .unwrap();
        self.host
            .command("ip")
            .args(["link", "set", "wg0", "up"])
            .text()
            .unwrap();
    }
}

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
