//! Devices that run a stock WireGuard client.

use ringfence_model::{Labels, Name, PublicKey, UnixMillis};
use ringfence_policy::Facts;

use super::keys;
use crate::draft::Draft;
use crate::limit::DEVICES_MAX;
use crate::{Device, Event, Refusal, membership};

pub(super) fn add(
    draft: &mut Draft,
    name: Name,
    (perimeter, public_key): (Name, PublicKey),
    (labels, expires): (Labels, Option<UnixMillis>),
) -> Result<(), Refusal> {
    if draft.state.devices.len() >= DEVICES_MAX {
        return Err(Refusal::Limit {
            what: "devices",
            max: DEVICES_MAX,
        });
    }
    draft.check_name(&name)?;
    keys::check_key(draft, public_key)?;
    if expires.is_some_and(|expires| expires <= draft.wall) {
        return Err(Refusal::ExpiryPast);
    }
    let policy = draft.perimeter(&perimeter)?.policy();
    if !membership::selects(policy, &labels, &Facts::default(), draft.wall) {
        let labels = labels.to_string();
        return Err(Refusal::NoGroup { perimeter, labels });
    }
    let device = Device {
        id: draft.draw_member_id(),
        name,
        perimeter,
        public_key,
        labels,
        added_at: draft.wall,
        expires,
    };
    let (id, perimeter) = (device.id, device.perimeter.clone());
    draft.record(Event::DeviceAdded { device });
    membership::join(draft, &perimeter, id)
}

pub(super) fn remove(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let mut devices = draft.state.devices.values();
    let device = devices.find(|device| device.name == *name);
    let device = device.ok_or_else(|| Refusal::NoDevice(name.clone()))?;
    let before = device.as_ref().clone();
    draft.record(Event::DeviceRemoved { before });
    Ok(())
}
