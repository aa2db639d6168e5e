//! The handshake that establishes a session, and what each side sends in it. Does no I/O.
//!
//! [The documentation of `rpc`](super#the-session) describes the handshake. Each side generates a
//! new token for each session, and both tokens are part of its keys, so frames of an earlier
//! session do not open in a later one, even if either side was restarted in between. A replayed
//! `Hello` leads to a `Welcome` that nobody accepts; a replayed `Wake` leads to an offer that the
//! guest accepts, that is, to another session between the same two peers.

use std::collections::VecDeque;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    InstanceKey, KeyRing, Side,
    envelope::{DropReason, FrameKind, Header, Opener, Route, Sealer, Token},
};
use crate::{
    error::{Error, Result},
    id::InstanceId,
};

/// The maximum number of pending offers.
const OFFERS: usize = 4;

type Received<T> = std::result::Result<T, DropReason>;

/// An established session, in both directions.
struct Session {
    /// The number of its key.
    key: u32,
    /// The token of the other side.
    peer: Token,
    sealer: Sealer,
    opener: Opener,
}

/// The control plane's side of the protocol with one guest.
pub(super) struct ControlPeer {
    instance: InstanceId,
    /// In ascending order of their numbers: one key, or two during a rotation.
    keys: Vec<InstanceKey>,
    /// The pending offers and the numbers of their keys, in the order in which they were made.
    /// There may be several, because a reply may come after the next offer was sent.
    offers: VecDeque<(Token, u32)>,
    session: Option<Session>,
    /// The session before, which the guest uses until it knows of the current one.
    previous: Option<Session>,
}

/// An event that the control plane receives from a guest.
#[derive(Debug)]
pub(super) enum GuestEvent {
    /// The guest with this boot id has no session; the control plane must offer one.
    Wake(Uuid),
    /// A session is established with the guest of this boot id.
    Welcome(Uuid),
    Reply(Uuid, Zeroizing<Vec<u8>>),
    Notification(Zeroizing<Vec<u8>>),
}

/// A guest's side of the protocol with the control plane.
pub(super) struct GuestPeer {
    instance: InstanceId,
    /// Distinguishes this run of the guest from others.
    boot_id: Uuid,
    keys: KeyRing,
    /// The last offer that was accepted and not yet confirmed.
    candidate: Option<Session>,
    session: Option<Session>,
    /// How many sessions have replaced an earlier one.
    replacements: u64,
}

/// An event that a guest receives from the control plane.
#[derive(Debug)]
pub(super) enum ControlEvent {
    /// An offer, with the `Welcome` frame to send.
    Offer(Vec<u8>),
    /// The session is established.
    Confirmed,
    Call(Uuid, Zeroizing<Vec<u8>>),
}

impl ControlPeer {
    pub(super) fn new(instance: InstanceId, key: InstanceKey) -> Self {
        Self { instance, keys: vec![key], offers: VecDeque::new(), session: None, previous: None }
    }

    /// Adds a key, or replaces the key with the same number.
    pub(super) fn add_key(&mut self, key: InstanceKey) {
        self.keys.retain(|other| other.id() != key.id());
        self.keys.push(key);
        self.keys.sort_by_key(InstanceKey::id);
    }

    /// Removes the keys with a lower number. Sessions under them continue until they are replaced.
    pub(super) fn remove_keys_before(&mut self, number: u32) {
        self.keys.retain(|key| key.id() >= number);
        self.offers.retain(|(_, key)| *key >= number);
    }

    /// Returns the number of the key of the current session.
    pub(super) fn active_key(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.key)
    }

    /// Seals a `Hello` under the newest key.
    pub(super) fn offer(&mut self) -> Result<Vec<u8>> {
        let key = self.keys.last().ok_or_else(|| Error::internal("the RPC client has no key"))?;
        let own = Token::generate()?;
        if self.offers.len() == OFFERS {
            self.offers.pop_front();
        }
        self.offers.push_back((own, key.id()));
        let route = Route { instance: self.instance, to: Side::Guest, sender: own, receiver: Token::NONE };
        Sealer::new(key, route)?.seal(FrameKind::Hello, Uuid::nil(), &[])
    }

    /// Seals a `Confirm`, to be sent once the session is established.
    pub(super) fn confirm(&mut self) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(FrameKind::Confirm, Uuid::nil(), &[])
    }

    /// Seals a `Call`. Fails with [`Unavailable`](crate::error::Kind::Unavailable) without a
    /// session.
    pub(super) fn call(&mut self, correlation: Uuid, payload: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(FrameKind::Call, correlation, payload)
    }

    /// Processes a frame from the guest.
    pub(super) fn receive(&mut self, frame: &[u8]) -> Received<GuestEvent> {
        let header = Header::read(frame)?;
        if header.kind == FrameKind::Wake {
            let route = Route { instance: self.instance, to: Side::Control, receiver: Token::NONE, ..header.route };
            let key = find(&self.keys, header.key)?;
            let mut opener = Opener::new(key, route).map_err(|_| DropReason::UnknownKey)?;
            return opener.open(frame).and_then(|(_, payload)| boot_id(&payload)).map(GuestEvent::Wake);
        }
        if header.kind == FrameKind::Welcome {
            return self.receive_welcome(&header, frame);
        }
        let is_from = |session: &Option<Session>| session.as_ref().is_some_and(|it| it.peer == header.route.sender);
        let session = if is_from(&self.previous) { &mut self.previous } else { &mut self.session };
        let (header, payload) = session.as_mut().ok_or(DropReason::NoSession)?.opener.open(frame)?;
        if is_from(&self.session) {
            self.previous = None;
        }
        match header.kind {
            FrameKind::Reply => Ok(GuestEvent::Reply(header.correlation, payload)),
            FrameKind::Notification => Ok(GuestEvent::Notification(payload)),
            _ => Err(DropReason::Unexpected),
        }
    }

    fn receive_welcome(&mut self, header: &Header, frame: &[u8]) -> Received<GuestEvent> {
        let accepted = self.offers.iter().position(|(own, key)| (*own, *key) == (header.route.receiver, header.key));
        let at = accepted.ok_or(DropReason::NoSession)?;
        let (own, key) = self.offers[at];
        let key = find(&self.keys, key)?;
        let mut session = Session::new(key, self.instance, Side::Control, own, header.route.sender)?;
        let boot_id = boot_id(&session.opener.open(frame)?.1)?;
        // Earlier offers are void.
        self.offers.drain(..=at);
        self.previous = self.session.replace(session);
        Ok(GuestEvent::Welcome(boot_id))
    }
}

impl GuestPeer {
    pub(super) fn new(instance: InstanceId, keys: KeyRing) -> Result<Self> {
        let boot_id = Token::generate()?.as_uuid();
        Ok(Self { instance, boot_id, keys, candidate: None, session: None, replacements: 0 })
    }

    /// Returns how many sessions have replaced an earlier one.
    pub(super) fn replacements(&self) -> u64 {
        self.replacements
    }

    /// Seals a `Wake` under each key, because the control plane may know only one of them.
    pub(super) fn wake(&self) -> Result<Vec<Vec<u8>>> {
        let wake = |key: InstanceKey| {
            let (sender, receiver) = (Token::generate()?, Token::NONE);
            let route = Route { instance: self.instance, to: Side::Control, sender, receiver };
            Sealer::new(&key, route)?.seal(FrameKind::Wake, Uuid::nil(), self.boot_id.as_bytes())
        };
        self.keys.all().into_iter().map(wake).collect()
    }

    /// Seals a `Reply`.
    pub(super) fn reply(&mut self, correlation: Uuid, payload: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(FrameKind::Reply, correlation, payload)
    }

    /// Seals a `Notification`.
    pub(super) fn notify(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(FrameKind::Notification, Uuid::nil(), payload)
    }

    /// Processes a frame from the control plane.
    pub(super) fn receive(&mut self, frame: &[u8]) -> Received<ControlEvent> {
        let header = Header::read(frame)?;
        if header.kind == FrameKind::Hello {
            return self.receive_hello(&header, frame);
        }
        let (header, payload) = match &mut self.candidate {
            Some(candidate) if candidate.peer == header.route.sender => {
                let opened = candidate.opener.open(frame)?;
                // Only the sender of the current offer can have sealed this frame.
                self.keys.activate(candidate.key);
                self.replacements += u64::from(self.session.is_some());
                self.session = self.candidate.take();
                opened
            }
            _ => self.session.as_mut().ok_or(DropReason::NoSession)?.opener.open(frame)?,
        };
        match header.kind {
            FrameKind::Confirm => Ok(ControlEvent::Confirmed),
            FrameKind::Call => Ok(ControlEvent::Call(header.correlation, payload)),
            _ => Err(DropReason::Unexpected),
        }
    }

    fn receive_hello(&mut self, header: &Header, frame: &[u8]) -> Received<ControlEvent> {
        let peer = header.route.sender;
        let known = [&self.candidate, &self.session].into_iter().flatten().any(|session| session.peer == peer);
        if known {
            return Err(DropReason::Replayed);
        }
        let route = Route { instance: self.instance, to: Side::Guest, sender: peer, receiver: Token::NONE };
        let key = self.keys.get(header.key).ok_or(DropReason::UnknownKey)?;
        let mut opener = Opener::new(&key, route).map_err(|_| DropReason::UnknownKey)?;
        opener.open(frame)?;
        let own = Token::generate().map_err(|_| DropReason::NoSession)?;
        let mut session = Session::new(&key, self.instance, Side::Guest, own, peer)?;
        let welcome = session.sealer.seal(FrameKind::Welcome, Uuid::nil(), self.boot_id.as_bytes());
        let welcome = welcome.map_err(|_| DropReason::NoSession)?;
        self.candidate = Some(session);
        Ok(ControlEvent::Offer(welcome))
    }
}

impl Session {
    /// Creates the session of two tokens, as `side` has it.
    fn new(key: &InstanceKey, instance: InstanceId, side: Side, own: Token, peer: Token) -> Received<Self> {
        let other = match side {
            Side::Guest => Side::Control,
            Side::Control => Side::Guest,
        };
        let outbound = Route { instance, to: other, sender: own, receiver: peer };
        let inbound = Route { instance, to: side, sender: peer, receiver: own };
        let (Ok(sealer), Ok(opener)) = (Sealer::new(key, outbound), Opener::new(key, inbound)) else {
            return Err(DropReason::UnknownKey);
        };
        Ok(Self { key: key.id(), peer, sealer, opener })
    }
}

fn find(keys: &[InstanceKey], id: u32) -> Received<&InstanceKey> {
    keys.iter().find(|key| key.id() == id).ok_or(DropReason::UnknownKey)
}

/// Parses a boot id. Any other length is rejected, so that a guest cannot make the control plane
/// keep more than 16 bytes.
fn boot_id(payload: &[u8]) -> Received<Uuid> {
    Uuid::from_slice(payload).map_err(|_| DropReason::Unexpected)
}

fn no_session() -> Error {
    Error::unavailable("no RPC session is established yet")
}

#[cfg(test)]
mod tests;
