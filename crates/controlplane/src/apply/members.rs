//! Events of nodes and devices, applied.

use std::net::IpAddr;
use std::sync::Arc;

use ringfence_model::{Labels, Name, NodeId, OverlayAddresses, PublicKey, UnixMillis};

use super::{Misfit, NO_NODE, ensure};
use crate::address;
use crate::perimeter::{Seat, Standing};
use crate::state::State;
use crate::{Certificate, Device, LockTarget, Node};

impl State {
    pub(super) fn join(
        &mut self,
        name: &Name,
        member: NodeId,
        addresses: OverlayAddresses,
    ) -> Result<(), Misfit> {
        let key = self.devices.get(&member).map(|device| device.public_key);
        if key.is_none() {
            let joined = self.node_mut(member)?.perimeters.insert(name.clone());
            ensure(joined, "the node is a member already")?;
        }
        let perimeter = self.perimeter_mut(name)?;
        let host = address::host_number(perimeter.v6, &perimeter.v4, addresses);
        let host = host.ok_or(Misfit::Impossible("the addresses are not of the perimeter"))?;
        let held = perimeter.seats.get(&member);
        let is_lapsed = held.is_some_and(|seat| seat.is_lapsed);
        match held {
            Some(seat) => ensure(seat.host == host, "the member has other addresses")?,
            None => ensure(perimeter.hosts.take(host), "the addresses are held")?,
        }
        let seat = Seat {
            host,
            standing: Standing::Member,
            key,
            is_lapsed,
        };
        perimeter.seats.insert(member, seat);
        Ok(())
    }

    pub(super) fn leave(&mut self, name: &Name, member: NodeId) -> Result<(), Misfit> {
        let perimeter = self.perimeter_mut(name)?;
        let seat = perimeter.seats.get_mut(&member);
        let seat = seat.ok_or(Misfit::Impossible("it has no seat there"))?;
        seat.standing = Standing::Away;
        let key = seat.key.take();
        if let Some(node) = self.nodes.get_mut(&member) {
            Arc::make_mut(node).perimeters.remove(name);
            // A device keeps its key for as long as it is known: only it may come back with it.
            self.forget_key(key);
        }
        Ok(())
    }

    pub(super) fn add_node(&mut self, node: &Node) -> Result<(), Misfit> {
        ensure(node.perimeters.is_empty(), "it is a member before it joined")?;
        self.claim_name(&node.name, node.id)?;
        let before = self.nodes.insert(node.id, Arc::new(node.clone()));
        ensure(before.is_none(), "its id is held")
    }

    pub(super) fn rename(&mut self, id: NodeId, before: &Name, after: &Name) -> Result<(), Misfit> {
        ensure(self.names.remove(before) == Some(id), "it is called otherwise")?;
        self.claim_name(after, id)?;
        self.node_mut(id)?.name = after.clone();
        Ok(())
    }

    pub(super) fn relabel(&mut self, id: NodeId, after: &Labels) -> Result<(), Misfit> {
        self.node_mut(id)?.labels = after.clone();
        Ok(())
    }

    pub(super) fn see_source(
        &mut self,
        id: NodeId,
        before: Option<IpAddr>,
        after: Option<IpAddr>,
    ) -> Result<(), Misfit> {
        let held = std::mem::replace(&mut self.node_mut(id)?.source, after);
        ensure(held == before, "it came from elsewhere")
    }

    pub(super) fn certify(&mut self, id: NodeId, certificate: &Certificate) -> Result<(), Misfit> {
        self.node_mut(id)?.certificate = Some(certificate.clone());
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId, wall: UnixMillis) -> Result<(), Misfit> {
        let gone = self.nodes.remove(&id).ok_or(NO_NODE)?;
        ensure(gone.perimeters.is_empty(), "it is a member still")?;
        ensure(!self.sessions.contains_key(&id), "someone is logged in there")?;
        self.posture.forget(id);
        self.names.remove(&gone.name);
        self.vacate_all(id, wall);
        Ok(())
    }

    /// Gives back every seat of someone who is gone, those of perimeters it had left included, and forgets its locks.
    fn vacate_all(&mut self, id: NodeId, wall: UnixMillis) {
        self.forget_locks(&LockTarget::Node { node: id });
        for perimeter in self.perimeters.values_mut() {
            if perimeter.seats.contains_key(&id) {
                let key = Arc::make_mut(perimeter).vacate(id, wall);
                if let Some(key) = key {
                    self.keys.remove(&key);
                }
            }
        }
    }

    pub(super) fn add_device(&mut self, device: &Device) -> Result<(), Misfit> {
        self.claim_name(&device.name, device.id)?;
        let holder = self.keys.insert(device.public_key, device.id);
        ensure(holder.is_none(), "its key is held")?;
        let before = self.devices.insert(device.id, Arc::new(device.clone()));
        ensure(before.is_none(), "its id is held")
    }

    pub(super) fn remove_device(&mut self, device: &Device, wall: UnixMillis) -> Result<(), Misfit> {
        let gone = self.devices.remove(&device.id);
        let gone = gone.ok_or(Misfit::Impossible("there is no such device"))?;
        self.names.remove(&gone.name);
        self.vacate_all(gone.id, wall);
        self.keys.remove(&gone.public_key);
        Ok(())
    }

    pub(super) fn set_key(&mut self, id: NodeId, name: &Name, key: PublicKey) -> Result<(), Misfit> {
        let seat = self.perimeter_mut(name)?.seats.get_mut(&id);
        let seat = seat.filter(|seat| seat.standing == Standing::Member);
        let seat = seat.ok_or(Misfit::Impossible("the node is no member"))?;
        let before = seat.key.replace(key);
        self.forget_key(before);
        ensure(self.keys.insert(key, id).is_none(), "the key is held")
    }

    fn forget_key(&mut self, key: Option<PublicKey>) {
        if let Some(key) = key {
            self.keys.remove(&key);
        }
    }

    fn claim_name(&mut self, name: &Name, id: NodeId) -> Result<(), Misfit> {
        ensure(self.names.insert(name.clone(), id).is_none(), "the name is taken")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Misfit> {
        self.nodes.get_mut(&id).map(Arc::make_mut).ok_or(NO_NODE)
    }
}
