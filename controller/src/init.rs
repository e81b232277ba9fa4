//! `ringfence-controller init`: founds a mesh.

use std::path::Path;

use anyhow::{Context as _, Result};
use ringfence_controlplane::{Actor, Controller};
use ringfence_model::Name;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ca::NewAuthority;
use crate::core::{entropy, entry_of, wall_now};
use crate::data_dir::{ADMIN_FILE, CA_FILE, CA_KEY_FILE, CONFIG_FILE, DataDir, STORE_FILE};
use crate::store::{Log as _, SqliteLog};

/// What a controller is run with, as `controller.toml` holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The mesh.
    pub mesh: Name,
    /// Where nodes and administrators reach this controller: `host:port`, best first.
    pub advertise: Vec<String>,
    /// Where it listens, UDP and TCP: `address:port`. All addresses on the first advertised port if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<std::net::SocketAddr>,
    /// Ports of identity providers beside 443: the controller can open connections to no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_ports: Vec<u16>,
}

/// The context file of the first administrator.
#[derive(Serialize)]
struct AdminContext<'a> {
    server: &'a str,
    ca_pem: &'a str,
    token: &'a str,
}

/// Founds a mesh in `path`: CA, log, configuration, and the administrator's context, each readable by the owner alone.
///
/// # Errors
/// If the directory holds a controller already or cannot be written; nothing usable is left then.
pub fn init(path: &Path, config: &Config) -> Result<()> {
    let dir = DataDir::create(path)?;
    let founded = found(&dir, config);
    if founded.is_err() {
        dir.clear();
    }
    founded
}

fn found(dir: &DataDir, config: &Config) -> Result<()> {
    let authority = NewAuthority::generate(&config.mesh, wall_now())?;
    let token = new_admin_token()?;
    // The log is the last of what makes it a controller: a directory without one is refused by `run`.
    dir.write_secret(CA_FILE, authority.certificate_pem.as_bytes())?;
    dir.write_secret(CA_KEY_FILE, authority.key_pem.as_bytes())?;
    let text = toml::to_string(config).context("the configuration cannot be written")?;
    dir.write_secret(CONFIG_FILE, text.as_bytes())?;
    let context = AdminContext {
        server: &config.advertise[0],
        ca_pem: &authority.certificate_pem,
        token: &token,
    };
    let context = Zeroizing::new(toml::to_string(&context).context("the context cannot be written")?);
    dir.write_secret(ADMIN_FILE, context.as_bytes())?;
    found_log(dir, config, &token)
}

fn found_log(dir: &DataDir, config: &Config, token: &str) -> Result<()> {
    let mut log = SqliteLog::create(&dir.file(STORE_FILE))?;
    log.set_admin_token_hash(&Sha256::digest(token.as_bytes()).into())?;
    let actor = Actor::system("init", "init");
    let (_, change) = Controller::found(config.mesh.clone(), &actor, wall_now(), entropy()?);
    let entry = entry_of(&change)?;
    log.append(ringfence_model::Revision::ZERO, &entry)?;
    Ok(())
}

/// `rfa_` and 256 random bits: long enough that its plain SHA-256 may be kept.
fn new_admin_token() -> Result<Zeroizing<String>> {
    use base64::Engine as _;
    let bytes = Zeroizing::new(entropy()?);
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes);
    Ok(Zeroizing::new(format!("rfa_{text}")))
}

/// Checks a `HOST:PORT` given by a person.
///
/// # Errors
/// Says how to write it.
pub fn parse_advertise(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{text:?} is not HOST:PORT: write it as in controller.example:7443, 192.0.2.1:7443 or [2001:db8::1]:7443"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let is_address =
        name.parse::<std::net::IpAddr>().is_ok() && (host.starts_with('[') == name.contains(':'));
    if port == 0 || !(is_name || is_address) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// The host of a checked `HOST:PORT`, without brackets.
pub fn host_of(advertised: &str) -> String {
    let host = advertised.rsplit_once(':').map_or(advertised, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// The port of a checked `HOST:PORT`.
pub fn port_of(advertised: &str) -> u16 {
    advertised
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config() -> Config {
        Config {
            mesh: Name::parse("acme").unwrap(),
            advertise: vec!["192.0.2.1:7443".to_owned()],
            listen: None,
            provider_ports: Vec::new(),
        }
    }

    #[test]
    fn init_writes_everything_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");

        init(&path, &config()).unwrap();

        for file in [CA_FILE, CA_KEY_FILE, STORE_FILE, ADMIN_FILE, CONFIG_FILE] {
            let mode = std::fs::metadata(path.join(file)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{file}");
        }
        assert!(
            init(&path, &config()).is_err(),
            "a second init must not overwrite the first"
        );
    }

    #[test]
    fn an_init_that_fails_leaves_nothing_and_can_be_run_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let dir = DataDir::create(&path).unwrap();
        // The context cannot be put where a folder stands: keys are written by then.
        std::fs::create_dir(dir.file(ADMIN_FILE)).unwrap();
        drop(dir);
        std::fs::set_permissions(path.join(ADMIN_FILE), std::fs::Permissions::from_mode(0o700)).unwrap();

        assert!(init(&path, &config()).is_err());
        assert!(!path.join(CA_KEY_FILE).exists());
        std::fs::remove_dir(path.join(ADMIN_FILE)).unwrap();
        assert!(init(&path, &config()).is_ok());
    }

    #[test]
    fn the_admin_token_is_kept_as_a_hash_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        init(&path, &config()).unwrap();
        let admin = std::fs::read_to_string(path.join(ADMIN_FILE)).unwrap();
        let token = admin
            .split('"')
            .find(|part| part.starts_with("rfa_"))
            .unwrap()
            .to_owned();

        let store = std::fs::read(path.join(STORE_FILE)).unwrap();

        assert!(
            !store
                .windows(token.len())
                .any(|window| window == token.as_bytes())
        );
        let hash = SqliteLog::open(&path.join(STORE_FILE))
            .unwrap()
            .admin_token_hash()
            .unwrap();
        assert_eq!(hash, Some(Sha256::digest(token.as_bytes()).into()));
    }

    #[test]
    fn advertised_addresses_are_checked() {
        for good in ["controller.example:7443", "192.0.2.1:1", "[2001:db8::1]:7443"] {
            assert!(parse_advertise(good).is_ok(), "{good}");
        }
        for odd in [
            "controller",
            "controller:0",
            "controller:99999",
            ":7443",
            "2001:db8::1:7443",
            "a b:1",
            "a/b:1",
        ] {
            assert!(parse_advertise(odd).is_err(), "{odd}");
        }
        assert_eq!(host_of("[2001:db8::1]:7443"), "2001:db8::1");
    }
}
