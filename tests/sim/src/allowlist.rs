//! The first wall: a node knows those peers alone whom a rule joins with it.

use std::collections::BTreeSet;

use ringfence_control::Netmap;
use ringfence_model::Name;

use crate::oracle::Oracle;
use crate::violation::Violation;

impl Oracle {
    /// Whether a netmap tells a node what it may know, all of it and nothing else (wall 1).
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn check_netmap(&self, machine: usize, netmap: &Netmap) -> Result<(), Violation> {
        let fault = |what: String| {
            Violation::new("allowlist", format!("m{machine} at {}: {what}", netmap.revision)).of(machine)
        };
        let spec = self.spec(netmap.revision);
        let node = netmap.node;
        let grace_ms = EXPIRY_GRACE_MS + self.clock_span_ms();
        let wanted: BTreeSet<&Name> = spec
            .perimeters
            .keys()
            .filter(|name| spec.members(name).contains(&node))
            .collect();
        let got: BTreeSet<&Name> = netmap.segments.keys().collect();
        if wanted != got {
            return Err(fault(format!(
                "segments {got:?}, but it is a member of {wanted:?}"
            )));
        }
        for (name, segment) in &netmap.segments {
            let own_key = spec.keys.get(&(name.clone(), node));
            if segment.public_key.as_ref() != own_key {
                return Err(fault(format!("its key in {name} is not the one it registered")));
            }
            for peer in spec.members(name) {
                let key = spec.keys.get(&(name.clone(), peer)).filter(|_| own_key.is_some());
                let known = segment.peers.get(&peer).map(|map| &map.public_key);
                let may = spec.joins(name, node, peer, netmap.issued_at.0.saturating_sub(grace_ms));
                let must = spec.joins(name, node, peer, netmap.issued_at.0 + grace_ms);
                if known.is_some() && (!may || known != key) || (known.is_none() && must && key.is_some()) {
                    return Err(fault(format!(
                        "peer {peer} in {name}: listed {}, owed {must}",
                        known.is_some()
                    )));
                }
            }
            if let Some(stranger) = segment
                .peers
                .keys()
                .find(|peer| !spec.members(name).contains(peer))
            {
                return Err(fault(format!("peer {stranger} in {name} is no member")));
            }
        }
        Ok(())
    }
}

/// The controller drops an expired rule when its timer is due, not before; and one that is over stays so, whatever its
/// clock says later.
const EXPIRY_GRACE_MS: u64 = 5_000;
