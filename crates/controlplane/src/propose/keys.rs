//! WireGuard keys of nodes, one for each segment.

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, PublicKey};

use crate::draft::Draft;
use crate::{Event, Refusal};

pub(super) fn register(
    draft: &mut Draft,
    id: NodeId,
    perimeter: Name,
    public_key: PublicKey,
) -> Result<(), Refusal> {
    draft.node(id)?;
    let seat = draft.perimeter(&perimeter)?.seat(id);
    let Some(seat) = seat else {
        return Err(Refusal::NotMember { node: id, perimeter });
    };
    if seat.key == Some(public_key) {
        return Err(Refusal::Unchanged);
    }
    let before = seat.key;
    check_key(draft, public_key)?;
    draft.record(Event::KeyRegistered {
        node: id,
        perimeter,
        before,
        after: public_key,
    });
    Ok(())
}

/// Whether a key can be anyone's new one. A key names one segment in the whole mesh: with two, a packet could not be
/// told from the other's.
pub(super) fn check_key(draft: &Draft, public_key: PublicKey) -> Result<(), Refusal> {
    if public_key.is_low_order() {
        return Err(Refusal::LowOrderKey);
    }
    if draft.state.keys.contains_key(&public_key) && !is_off(Safeguard::KeyOwnership) {
        return Err(Refusal::KeyTaken);
    }
    Ok(())
}
