//! A node that mutes the controller keeps nothing past its lease, whatever runs on it.

use std::time::Duration;

use ringfence_e2e::Stranger;
use ringfence_lab::{Reach, wait_until};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, Shop, leased};

#[test]
fn who_mutes_the_controller_is_nobodys_peer_once_its_lease_is_over() {
    let mut shop = Shop::start("mute");
    let leased = leased(&[API_TO_DB], "10s");
    shop.mesh.apply_and_wait(&leased).unwrap();
    let at = Shop::at(&shop.db).v4(5432);
    let _server = shop.db.host().serve(at).unwrap();
    let db_key = shop.db.public_key(SHOP).unwrap();
    let db_endpoint = shop.db.endpoint().unwrap();
    // Whoever has taken the machine over has its key, and runs what they like in place of the agent.
    let stolen = shop.api.private_key(SHOP).unwrap();
    shop.api.stop().unwrap();
    let mut thief = Stranger::new(shop.api.host(), stolen, &db_key, db_endpoint).unwrap();
    assert!(thief.shake(BRIEFLY).unwrap(), "its lease is not over");

    wait_until(Duration::from_secs(20), "its peer to forget it", || {
        shop.db.peer(SHOP, "api").unwrap().is_none()
    })
    .unwrap();

    assert!(!thief.shake(BRIEFLY).unwrap(), "its lease is over");
    let audit = shop.mesh.cli(["audit"]).unwrap().text().unwrap();
    assert!(
        audit.contains("silent for longer than the lease of perimeter shop"),
        "{audit}"
    );

    shop.api.start().unwrap();
    wait_until(Duration::from_secs(20), "the way to be open again", || {
        shop.api.host().try_tcp(at, BRIEFLY) == Reach::Open
    })
    .unwrap();
}
