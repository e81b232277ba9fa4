//! Devices that run a stock WireGuard client.

use ringfence_model::{Labels, Name, PublicKey, UnixMillis};
use ringfence_policy::Facts;

use super::keys;
use crate::draft::Draft;
use crate::limit::DEVICES_MAX;
use crate::{Device, Event, Refusal, membership};

pub(super) struct NewDevice {
    pub(super) name: Name,
    pub(super) perimeter: Name,
    pub(super) public_key: PublicKey,
    pub(super) labels: Labels,
    pub(super) expires: Option<UnixMillis>,
}

pub(super) fn add(draft: &mut Draft, new: NewDevice) -> Result<(), Refusal> {
    if draft.state.devices.len() >= DEVICES_MAX {
        return Err(Refusal::Limit {
            what: "devices",
            max: DEVICES_MAX,
        });
    }
    draft.check_name(&new.name)?;
    keys::check_key(draft, new.public_key)?;
    if new.expires.is_some_and(|expires| expires <= draft.wall) {
        return Err(Refusal::ExpiryPast);
    }
    let perimeter = draft.perimeter(&new.perimeter)?;
    if !membership::selects(perimeter.policy(), &new.labels, &Facts::default(), draft.wall) {
        return Err(Refusal::NoGroup {
            perimeter: new.perimeter,
            labels: new.labels.to_string(),
        });
    }
    let device = Device {
        id: draft.draw_member_id(),
        name: new.name,
        perimeter: new.perimeter,
        public_key: new.public_key,
        labels: new.labels,
        added_at: draft.wall,
        expires: new.expires,
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
