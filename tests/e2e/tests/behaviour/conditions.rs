//! What a rule requires is judged all the time: who does not meet it any more is cut off.

use std::time::Duration;

use ringfence_lab::wait_until;

use crate::stage::{API_TO_DB, SHOP, Shop, policy};

/// Until a move shows: the node's next word to the controller from where it is now, and a look at it.
const SHOWN: Duration = Duration::from_secs(40);

#[test]
fn a_node_that_moves_out_of_a_rules_prefixes_loses_it_and_has_it_again_when_it_comes_back() {
    let shop = Shop::start("moves");
    let inside = "require = { source = [\"10.77.0.0/25\", \"fd77::/120\"] }\n";
    shop.mesh
        .apply_and_wait(&(policy(&[API_TO_DB]) + inside))
        .unwrap();
    shop.api.wait_peer(SHOP, "db").unwrap();
    let live = shop.live();

    let move_to = |addresses: [&str; 2]| {
        shop.api
            .host()
            .set_addresses(shop.mesh.lan(), &addresses)
            .unwrap();
    };
    move_to(["10.77.0.199/24", "fd77::199/64"]);

    let (client, server) = live.wait_cut(SHOWN).unwrap();
    assert!(client.is_reset() && server.is_reset(), "{client:?}, {server:?}");
    assert!(shop.db.peer(SHOP, "api").unwrap().is_none());

    move_to(["10.77.0.98/24", "fd77::98/64"]);
    wait_until(SHOWN, "the rule to be there again", || {
        matches!(shop.api.peer(SHOP, "db"), Ok(Some(_)))
    })
    .unwrap();
    shop.live().exchange(SHOWN).unwrap();
}
