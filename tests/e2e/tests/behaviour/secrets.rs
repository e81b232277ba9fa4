//! No private key, token or secret is in any log at the most verbose level, nor in what commands print or the API tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ringfence_e2e::{Device, Mesh, binary};
use ringfence_lab::Reach;

use crate::joining::secret_at;
use crate::stage::{API_TO_DB, SHOP, SOON, Shop, allow};

/// A secret in every form that a program might print it in.
#[derive(Clone)]
struct Secret {
    what: String,
    forms: Vec<String>,
}

impl Secret {
    fn of_bytes(what: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 16, "{what}: too short to be searched for");
        let part = &bytes[..16];
        let hex = hex::encode(part);
        let list: Vec<String> = part.iter().map(ToString::to_string).collect();
        // Of base64 the first 20 characters do: they are 15 bytes, and no ending.
        let base64 = |text: String| text[..20].to_owned();
        let spaced = |byte: &u8| format!("{byte:02x}");
        Self {
            what: what.to_owned(),
            forms: vec![
                base64(STANDARD.encode(bytes)),
                base64(URL_SAFE_NO_PAD.encode(bytes)),
                base64(STANDARD_NO_PAD.encode(bytes)),
                hex.to_uppercase(),
                hex,
                list.join(", "),
                list.join(","),
                part.iter().map(spaced).collect::<Vec<_>>().join(":"),
                part.iter()
                    .map(|byte| format!("0x{byte:x}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ],
        }
    }

    fn of_text(what: &str, text: &str) -> Self {
        let mut secret = Self::of_bytes(what, text.as_bytes());
        secret.forms.push(text[..20].to_owned());
        secret.forms.push(text[text.len() - 20..].to_owned());
        secret
    }

    fn is_in(&self, text: &str) -> Option<&str> {
        self.forms
            .iter()
            .map(String::as_str)
            .find(|form| text.contains(form))
    }
}

/// The private number in a PKCS #8 P-256 or Ed25519 key, and the PEM's own lines.
fn of_pem(what: &str, pem: &str) -> Vec<Secret> {
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let der = STANDARD.decode(&body).unwrap();
    // The private number is the octet string of 32 bytes: 04 20 and then it.
    let at = der.windows(2).position(|window| window == [4, 32]).unwrap() + 2;
    let mut secrets = vec![Secret::of_bytes(what, &der[at..at + 32])];
    secrets.push(Secret {
        what: format!("{what} as PEM"),
        forms: body
            .as_bytes()
            .chunks(64)
            .skip(1)
            .map(|line| String::from_utf8_lossy(&line[..20.min(line.len())]).into_owned())
            .collect(),
    });
    secrets
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = Secret::of_bytes("key", &[7; 32]);
    for leak in [
        format!("key={}", STANDARD.encode([7_u8; 32])),
        format!("{:?}", [7_u8; 32]),
        hex::encode([7_u8; 32]),
    ] {
        assert!(secret.is_in(&leak).is_some(), "{leak}");
    }
    assert!(secret.is_in("nothing here").is_none());
}

#[test]
fn no_secret_is_in_any_log_or_answer() {
    let rules = [
        API_TO_DB,
        allow("device", "db", "udp/53"),
        allow("api", "db", "icmp"),
    ];
    let mut shop = Shop::in_mesh(Mesh::start_verbose("secrets").unwrap());
    shop.enforce(&rules);
    let (device, unused) = (use_device(&mut shop), shop.mesh.token(&["role=api"]).unwrap());
    let mut said = enrolments(&shop, &unused);
    said.extend(answers(&shop));
    let secrets = [
        secrets_of(&shop),
        of_token("an unused token", &unused),
        vec![Secret::of_text("the device's key", device.private_key())],
    ]
    .concat();
    let processes = command_lines(shop.mesh.lab().dir());
    assert!(processes.contains("ringfence-node"), "{processes}");
    said.push(("the process list".to_owned(), processes));
    restart_and_revoke(&mut shop);

    let logs = shop.mesh.logs();
    let size: usize = logs.iter().map(|(_, log)| log.len()).sum();
    assert!(
        logs.len() >= 4 && size > 100_000,
        "{} logs with {size} bytes are not everything",
        logs.len()
    );
    assert!(
        logs.iter().any(|(_, log)| log.contains("TRACE")),
        "the logs are verbose"
    );
    said.extend(
        logs.into_iter()
            .map(|(path, log)| (path.display().to_string(), log)),
    );
    for (place, text) in &said {
        for secret in &secrets {
            assert_eq!(secret.is_in(text), None, "{} is in {place}", secret.what);
        }
    }
    let public = |(_, text): &(String, String)| text.contains(device.public_key());
    assert!(
        said.iter().any(public),
        "public keys are found, so private ones would be"
    );
    // The controller keeps tokens as hashes alone.
    let store = fs::read(shop.mesh.data_dir().join("store.sqlite")).unwrap();
    let log = fs::read(shop.mesh.data_dir().join("store.sqlite-wal")).unwrap_or_default();
    let store: String = store.iter().chain(&log).map(|byte| char::from(*byte)).collect();
    for secret in secrets.iter().filter(|secret| secret.what.contains("token")) {
        assert_eq!(secret.is_in(&store), None, "{} is in the store", secret.what);
    }
}

type Said = Vec<(String, String)>;

/// Traffic between nodes and with a stock client.
fn use_device(shop: &mut Shop) -> Device {
    drop(shop.live());
    let host = shop.mesh.bare_host("device").unwrap();
    let device = Device::add(&shop.mesh, &host, "device", SHOP, &["role=device"]).unwrap();
    shop.mesh.wait_enforced().unwrap();
    device.up().unwrap();
    let _server = shop.db.host().serve(Shop::at(&shop.db).v4(53)).unwrap();
    assert_eq!(host.try_udp(Shop::at(&shop.db).v4(53), SOON), Reach::Open);
    device
}

/// What an enrolment prints, refused and not.
fn enrolments(shop: &Shop, unused: &str) -> Said {
    let used = fs::read_to_string(shop.web.host().dir().join("token")).unwrap();
    let enroll = |token: &str, name: &str| {
        let node = shop
            .web
            .host()
            .command(binary("ringfence-node").unwrap())
            .env("RINGFENCE_LOG", "trace");
        let node = node
            .args(["enroll", "--state-dir", name, "--name", name])
            .env("RINGFENCE_TOKEN", token.trim());
        (name.to_owned(), node.run().unwrap().all())
    };
    vec![enroll(&used, "refused"), enroll(unused, "joined")]
}

/// What every command that shows something prints.
fn answers(shop: &Shop) -> Said {
    let commands = [
        "token ls --json",
        "node ls --json",
        "node show db",
        "peer ls --json",
        "peer config device",
        "perimeter show shop --json",
        "audit --since 1h --json",
        "audit verify",
        "verify shop --wait 300ms",
        "explain --from node:api --to node:db --port tcp/5432",
    ];
    let run = |command: &str| shop.mesh.cli(command.split(' ')).unwrap().run().unwrap().all();
    let mut said: Said = commands.map(|command| (command.to_owned(), run(command))).into();
    for args in [["status", "--json"], ["ping", "db"]] {
        said.push((args.join(" "), shop.api.local(args).unwrap().run().unwrap().all()));
    }
    let dump = shop.db.host().command("wg").args(["show", "all", "dump"]);
    said.push(("wg show".to_owned(), dump.text().unwrap()));
    said
}

/// Everything secret that is on a disk.
fn secrets_of(shop: &Shop) -> Vec<Secret> {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let mut secrets = of_pem("the CA's key", &read(shop.mesh.data_dir().join("ca.key")));
    let admin = shop.mesh.api().unwrap();
    secrets.push(Secret::of_text(
        "the admin token",
        admin.token().trim_start_matches("rfa_"),
    ));
    for node in [&shop.db, &shop.api, &shop.web] {
        let (name, key) = (node.name(), node.private_key(SHOP).unwrap());
        secrets.push(Secret::of_bytes(&format!("the segment key of {name}"), &key));
        secrets.extend(of_pem(
            &format!("the identity of {name}"),
            &read(node.state_dir().join("identity.pem")),
        ));
        secrets.extend(of_token(
            &format!("the token of {name}"),
            read(node.host().dir().join("token")).trim(),
        ));
    }
    secrets
}

fn restart_and_revoke(shop: &mut Shop) {
    shop.api.stop().unwrap();
    shop.api.start().unwrap();
    shop.mesh.stop_controller().unwrap();
    shop.mesh.start_controller().unwrap();
    shop.mesh.cli(["node", "remove", "web"]).unwrap().text().unwrap();
    shop.enforce(&[]);
}

fn of_token(what: &str, token: &str) -> Vec<Secret> {
    let bytes = URL_SAFE_NO_PAD
        .decode(token.strip_prefix("rft_").unwrap())
        .unwrap();
    let at = secret_at(&bytes);
    // The whole text shares its beginning, mesh and addresses, with others that are no secret.
    vec![
        Secret::of_bytes(what, &bytes[at..at + 32]),
        Secret {
            what: format!("the end of {what}"),
            forms: vec![token[token.len() - 24..].to_owned()],
        },
    ]
}

/// The arguments and names of every process that has to do with this lab.
fn command_lines(lab: &Path) -> String {
    let ps = Command::new("ps").args(["-eo", "args", "-ww"]).output().unwrap();
    let all = String::from_utf8_lossy(&ps.stdout).into_owned();
    let lab = lab.display().to_string();
    all.lines()
        .filter(|line| line.contains(&lab))
        .collect::<Vec<_>>()
        .join("\n")
}
