//! What is left of root.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::ConfineError;

/// Keeps those of `wanted` that this thread has, in no set more.
pub(crate) fn keep(wanted: CapabilitySet) -> Result<CapabilitySet, ConfineError> {
    let failed = |error: rustix::io::Errno| ConfineError::Capabilities(io::Error::from(error));
    let kept = capabilities(None).map_err(failed)?.permitted & wanted;
    for capability in (CapabilitySet::all() - kept).iter() {
        // Takes CAP_SETPCAP, which a daemon that is not root does not have; it starts no program that could gain by it.
        // EINVAL: a kernel that does not know this one.
        let _ = remove_capability_from_bounding_set(capability);
    }
    clear_ambient_capability_set().map_err(failed)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)?;
    Ok(kept)
}
