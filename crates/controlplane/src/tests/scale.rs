//! Ten thousand members in one perimeter, who all talk to one of them: what it may know fits a message, and a change of
//! one member is told to those two alone.

use ringfence_control::{Delta, Message as _, NETMAP_BYTES_MAX, ToNode};

use super::world::{World, name};
use crate::limit::MEMBERS_PER_PERIMETER_MAX;
use crate::{Controller, Event, PushKind, Refusal};

/// A database, an app that is a node, and so many apps more that are devices.
fn crowd(devices: u64) -> World {
    let (mut world, _, app) = World::with_database();
    // By way of the log it would be ten thousand changes, each of which copies the state.
    let mut state = world.controller.state().clone();
    let (revision, wall) = (state.revision, world.wall);
    let perimeter = state.perimeters[&name("ledger")].clone();
    let wanted = (devices + 1_100) / 1_000;
    for _ in 1..=wanted {
        let block = state
            .v4_blocks
            .next(crate::address::V4_BLOCKS, wall, |_| true)
            .unwrap();
        let added = Event::BlockAdded {
            perimeter: perimeter.name.clone(),
            v4: crate::address::v4_block(block),
        };
        state.apply_event(&added, revision, wall).unwrap();
    }
    for number in 0..devices {
        let device = crate::Device {
            id: ringfence_model::NodeId(1_000_000 + number),
            name: name(&format!("device-{number}")),
            perimeter: perimeter.name.clone(),
            public_key: key(number),
            labels: super::world::labels("role=app"),
            added_at: wall,
            expires: None,
        };
        let joined = Event::MemberJoined {
            perimeter: perimeter.name.clone(),
            member: device.id,
            name: device.name.clone(),
            addresses: {
                let seats = &state.perimeters[&perimeter.name];
                seats.place_for(device.id, wall).unwrap()
            },
        };
        state
            .apply_event(&Event::DeviceAdded { device }, revision, wall)
            .unwrap();
        state.apply_event(&joined, revision, wall).unwrap();
    }
    world.controller = Controller::of(state);
    assert!(world.controller.state().nodes.contains_key(&app));
    world
}

fn key(number: u64) -> ringfence_model::PublicKey {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ringfence_model::PublicKey::from_bytes(bytes)
}

#[test]
fn a_netmap_of_ten_thousand_peers_fits_and_one_more_member_is_told_to_two_nodes() {
    let mut world = crowd(10_000);
    let database = world.controller.state().names[&name("db")];
    let before = world.netmap(database);
    let peers = &before.segments[&name("ledger")].peers;
    assert_eq!(peers.len(), 10_001);

    let whole = ToNode::Full(before.clone()).encode().unwrap();
    let newcomer = world.enroll("late", "role=app");
    world.register(newcomer, "ledger").unwrap();

    assert!(whole.len() < NETMAP_BYTES_MAX / 4, "{} bytes", whole.len());
    let mut told: Vec<_> = world.pushes.iter().map(|push| (push.node, push.kind)).collect();
    told.sort_unstable();
    let mut concerned = [(database, PushKind::Netmap), (newcomer, PushKind::Netmap)];
    concerned.sort_unstable();
    assert_eq!(told, concerned);
    let after = world.netmap(database);
    let delta = Delta::between(&before, &after);
    assert_eq!(delta.apply(&before), Ok(after));
    let delta = ToNode::Delta(delta).encode().unwrap();
    assert!(delta.len() < 1_000, "one peer, not all: {} bytes", delta.len());
}

#[test]
fn one_member_too_many_is_refused() {
    let mut world = crowd(MEMBERS_PER_PERIMETER_MAX as u64 - 2);
    let token = world.token("role=app", 1);

    let refused = world.join(token, "late").unwrap_err();

    assert!(
        matches!(
            refused,
            Refusal::Limit {
                max: MEMBERS_PER_PERIMETER_MAX,
                ..
            }
        ),
        "{refused:?}"
    );
}
