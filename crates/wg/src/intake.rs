//! The way in: one datagram from the socket, cheapest checks first.
//!
//! **Invariant:** nothing that fails to authenticate is answered, but for a cookie while loaded.

use std::net::SocketAddr;
use std::time::Instant;

use ringfence_model::sabotage::{Safeguard, is_off};

use crate::bucket::Allowance;
use crate::clock::GateVerdict;
use crate::demux::{Claim, ReceiverIndex};
use crate::drop::WgDrop;
use crate::output::{Destination, MessageKind, Opened, OpenedKind, WgTransmit};
use crate::peer::{Call, Peer};
use crate::segment::{Segment, SegmentHandle};
use crate::slots::PeerSlot;
use crate::source_bucket::{Dry, Standing};
use crate::wireguard::WireGuard;

impl WireGuard {
    /// Opens one datagram. A packet in it is written into `buf`, which must be as long as the datagram.
    ///
    /// Whose address the packet inside may carry is for the caller to check: it owns the addresses. An answer, if
    /// there is one, waits in [`Self::poll_transmit`].
    ///
    /// # Errors
    /// [`WgDrop`] says why the datagram was refused.
    pub fn open<'b>(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        buf: &'b mut [u8],
        now: Instant,
    ) -> Result<Opened<'b>, WgDrop> {
        // boringtun panics on a shorter buffer, before it authenticates anything.
        if buf.len() < datagram.len() {
            return Err(WgDrop::BufferTooSmall);
        }
        let opened = match Claim::read(datagram).ok_or(WgDrop::NotWireGuard)? {
            Claim::Initiation => self.open_initiation(src, datagram, now)?,
            Claim::Response { receiver } => self.open_response(src, datagram, receiver, now)?,
            Claim::CookieReply { receiver } => return self.open_cookie_reply(src, datagram, receiver, now),
            Claim::Data { receiver, counter } => {
                // Past this the receiving window's arithmetic overflows and it would take old counters again.
                if counter >= REJECT_AFTER_MESSAGES {
                    return Err(WgDrop::CounterTooHigh);
                }
                return self.open_data(src, receiver, datagram, buf, now);
            }
        };
        self.learn_source(opened.slot, src, now);
        Ok(opened)
    }

    fn open_data<'b>(
        &mut self,
        src: SocketAddr,
        receiver: ReceiverIndex,
        datagram: &[u8],
        buf: &'b mut [u8],
        now: Instant,
    ) -> Result<Opened<'b>, WgDrop> {
        let (peer, _, mut call) = self.receiver(receiver, now)?;
        let packet = peer.open_data(receiver, datagram, buf, &mut call)?;
        let kind = if packet.is_empty() {
            OpenedKind::Keepalive
        } else {
            OpenedKind::Data(packet)
        };
        let opened = Opened {
            segment: peer.segment,
            slot: peer.slot,
            kind,
        };
        // Once in a while, and not a lookup for each packet.
        if peer.src != Some(src) {
            self.learn_source(opened.slot, src, now);
        }
        Ok(opened)
    }

    fn open_initiation(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Opened<'static>, WgDrop> {
        let taken = self.sources.take(src.ip(), now);
        if taken.is_err() {
            self.second_looks(now)
                .take(SECOND_LOOKS, now)
                .ok_or(WgDrop::SourceLimited)?;
        }
        let segment = self.segment_for(datagram).ok_or(WgDrop::NoSegment)?;
        match taken {
            Ok(Standing::Proven) => {}
            Ok(Standing::Stranger) if is_off(Safeguard::HandshakeAdmission) => {}
            Ok(Standing::Stranger) => self.admit_stranger(segment, src, datagram, now)?,
            Err(dry) => self.admit_returned(dry, segment, src, datagram, now)?,
        }
        let slot = self.sender_of(segment, datagram)?;
        let (peer, _, mut call) = self.peer(slot, now)?;
        peer.open_initiation(src, datagram, &mut call)?;
        Ok(Opened {
            segment,
            slot,
            kind: OpenedKind::HandshakeInitiation,
        })
    }

    fn open_response(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        receiver: ReceiverIndex,
        now: Instant,
    ) -> Result<Opened<'static>, WgDrop> {
        let (peer, segment, mut call) = self.receiver(receiver, now)?;
        if !segment.mac1.verify(datagram) {
            return Err(WgDrop::NotAuthentic);
        }
        peer.open_response(src, datagram, &mut call)?;
        let opened = Opened {
            segment: peer.segment,
            slot: peer.slot,
            kind: OpenedKind::HandshakeResponse,
        };
        Ok(opened)
    }

    fn open_cookie_reply(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        receiver: ReceiverIndex,
        now: Instant,
    ) -> Result<Opened<'static>, WgDrop> {
        let (peer, _, mut call) = self.receiver(receiver, now)?;
        peer.open_cookie_reply(src, datagram, &mut call)?;
        Ok(Opened {
            segment: peer.segment,
            slot: peer.slot,
            kind: OpenedKind::CookieReply,
        })
    }

    /// The segment whose key a handshake message is made for.
    fn segment_for(&self, datagram: &[u8]) -> Option<SegmentHandle> {
        let (handle, _) = self
            .segments
            .iter()
            .find(|(_, segment)| segment.mac1.verify(datagram))?;
        Some(*handle)
    }

    /// Bounds what strangers cost: whoever can forge source addresses gets past the buckets.
    fn admit_stranger(
        &mut self,
        segment: SegmentHandle,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), WgDrop> {
        let noise = &self.segments.get(&segment).ok_or(WgDrop::NoSegment)?.noise;
        match noise.gate(src.ip(), datagram)? {
            GateVerdict::Pass => self
                .strangers(now)
                .take(STRANGER_HANDSHAKES, now)
                .ok_or(WgDrop::Overloaded),
            GateVerdict::Cookie(reply) => Err(self.send_cookie(src, reply)),
        }
    }

    /// Anybody can spend the bucket of an address by forging it, a member's too: who shows that it receives there
    /// spends another.
    fn admit_returned(
        &mut self,
        Dry(standing): Dry,
        segment: SegmentHandle,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), WgDrop> {
        let noise = &self.segments.get(&segment).ok_or(WgDrop::NoSegment)?.noise;
        match noise.challenge(src.ip(), datagram)? {
            GateVerdict::Pass => {}
            GateVerdict::Cookie(reply) => return Err(self.send_cookie(src, reply)),
        }
        self.sources
            .take_returned(src.ip(), now)
            .ok_or(WgDrop::SourceLimited)?;
        match standing {
            Standing::Proven => Ok(()),
            Standing::Stranger => self
                .strangers(now)
                .take(STRANGER_HANDSHAKES, now)
                .ok_or(WgDrop::Overloaded),
        }
    }

    fn send_cookie(&mut self, src: SocketAddr, reply: Vec<u8>) -> WgDrop {
        self.outbox.send(WgTransmit {
            slot: None,
            to: Destination::Address(src),
            kind: MessageKind::CookieReply,
            datagram: reply,
        });
        WgDrop::CookieSent
    }

    /// Who an initiation says it is from, if that is a peer of this segment: a key of another segment is unknown.
    fn sender_of(&self, segment: SegmentHandle, datagram: &[u8]) -> Result<PeerSlot, WgDrop> {
        let segment = self.segments.get(&segment).ok_or(WgDrop::NoSegment)?;
        let sender = segment.noise.claimed_sender(datagram)?;
        segment.peers.get(&sender).copied().ok_or(WgDrop::UnknownKey)
    }

    fn receiver(
        &mut self,
        receiver: ReceiverIndex,
        now: Instant,
    ) -> Result<(&mut Peer, &Segment, Call<'_>), WgDrop> {
        self.peer(receiver.slot(), now)
    }

    fn peer(&mut self, slot: PeerSlot, now: Instant) -> Result<(&mut Peer, &Segment, Call<'_>), WgDrop> {
        let peer = self.peers.get_mut(slot).ok_or(WgDrop::UnknownIndex)?;
        let segment = self.segments.get(&peer.segment).ok_or(WgDrop::UnknownIndex)?;
        let call = Call {
            noise: &segment.noise,
            outbox: &mut self.outbox,
            alarms: &mut self.alarms,
            now,
        };
        Ok((peer, segment, call))
    }

    /// Remembers where a peer is, so that its next handshake is not taken for a stranger's.
    fn learn_source(&mut self, slot: PeerSlot, src: SocketAddr, now: Instant) {
        if let Some(peer) = self.peers.get_mut(slot)
            && peer.src != Some(src)
        {
            peer.src = Some(src);
            self.sources.prove(slot, src.ip(), now);
        }
    }
}

/// Handshakes with strangers that a node computes: about a third of a core, and a start of 1,000 members at once.
pub(crate) const STRANGER_HANDSHAKES: Allowance = Allowance {
    per_second: 1_024,
    burst: 1_024,
};

/// Initiations looked at although their source has run dry: 3 µs each, and a cookie of 64 bytes for 148.
pub(crate) const SECOND_LOOKS: Allowance = Allowance {
    per_second: 4_096,
    burst: 4_096,
};

/// Whitepaper section 6.1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
