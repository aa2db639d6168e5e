//! How the two ends agree on a session, without any input or output.
//!
//! [The page of this module](super#the-session) shows how. Each number is drawn for one session and goes into its keys, so
//! that nothing of an earlier session opens in a later one: not after a restart of either side either. An old `Hello` that
//! comes again leads to an answer that nobody takes, and an old `Wake` to an offer that the guest takes: another session of
//! the same two.

use std::collections::VecDeque;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    InstanceKey, Keys, Side,
    envelope::{Header, Kind, Opener, Refusal, Route, Sealer, Token},
};
use crate::{
    error::{Error, Result},
    id::InstanceId,
};

/// How many offers may be open at a time.
const OFFERS: usize = 4;

type Heard<T> = std::result::Result<T, Refusal>;

/// A session: both directions.
struct Session {
    /// The number of its key.
    key: u32,
    /// The number that the other side drew.
    other: Token,
    sealer: Sealer,
    opener: Opener,
}

/// The control plane's end of the line to one guest.
pub(super) struct ControlEnd {
    instance: InstanceId,
    /// The newest at the end: one, or two while the guest is being given another.
    keys: Vec<InstanceKey>,
    /// The last offers, the newest at the end: an answer may come later than the next offer.
    offers: VecDeque<(Token, u32)>,
    session: Option<Session>,
    /// The one before, which the guest uses until it knows that there is another.
    former: Option<Session>,
}

/// What the control plane hears.
#[derive(Debug)]
pub(super) enum FromGuest {
    /// The guest, in this life of it, has no session; it is to be offered one.
    Awake(Uuid),
    /// The session stands, with this life of the guest.
    Welcome(Uuid),
    Reply(Uuid, Zeroizing<Vec<u8>>),
    Cast(Zeroizing<Vec<u8>>),
}

/// A guest's end of its line to the control plane.
pub(super) struct GuestEnd {
    instance: InstanceId,
    /// Tells this life of the guest from others.
    life: Uuid,
    keys: Keys,
    /// The last offer that was taken, and not yet confirmed.
    candidate: Option<Session>,
    session: Option<Session>,
}

/// What a guest hears.
#[derive(Debug)]
pub(super) enum FromControl {
    /// An offer, and the answer to send.
    Offer(Vec<u8>),
    /// The session stands.
    Confirmed,
    Call(Uuid, Zeroizing<Vec<u8>>),
}

impl ControlEnd {
    pub(super) fn new(instance: InstanceId, key: InstanceKey) -> Self {
        Self { instance, keys: vec![key], offers: VecDeque::new(), session: None, former: None }
    }

    /// Offers sessions of this key too, in place of one of the same number.
    pub(super) fn learn(&mut self, key: InstanceKey) {
        self.keys.retain(|other| other.id() != key.id());
        self.keys.push(key);
        self.keys.sort_by_key(InstanceKey::id);
    }

    /// Hears nothing of an earlier key any more, but for what is under way in a session.
    pub(super) fn forget_before(&mut self, number: u32) {
        self.keys.retain(|key| key.id() >= number);
        self.offers.retain(|(_, key)| *key >= number);
    }

    /// The number of the key whose session stands.
    pub(super) fn key_in_use(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.key)
    }

    /// An offer to send, with the newest key.
    pub(super) fn offer(&mut self) -> Result<Vec<u8>> {
        let key = self.keys.last().ok_or_else(no_key)?;
        let own = Token::draw()?;
        if self.offers.len() == OFFERS {
            self.offers.pop_front();
        }
        self.offers.push_back((own, key.id()));
        let route = Route { instance: self.instance, to: Side::Guest, sender: own, receiver: Token::NONE };
        Sealer::new(key, route)?.seal(Kind::Hello, Uuid::nil(), &[])
    }

    /// What to send once the session stands.
    pub(super) fn confirm(&mut self) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(Kind::Confirm, Uuid::nil(), &[])
    }

    /// A call to send; [`Unavailable`](crate::error::Kind::Unavailable) without a session.
    pub(super) fn call(&mut self, correlation: Uuid, text: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(Kind::Call, correlation, text)
    }

    /// What a frame says.
    pub(super) fn hear(&mut self, frame: &[u8]) -> Heard<FromGuest> {
        let header = Header::read(frame)?;
        if header.kind == Kind::Wake {
            let route = Route { instance: self.instance, to: Side::Control, receiver: Token::NONE, ..header.route };
            let key = find(&self.keys, header.key)?;
            let mut opener = Opener::new(key, route).map_err(|_| Refusal::UnknownKey)?;
            return opener.open(frame).and_then(|(_, life)| self::life(&life)).map(FromGuest::Awake);
        }
        if header.kind == Kind::Welcome {
            return self.welcomed(&header, frame);
        }
        let of = |session: &Option<Session>| session.as_ref().is_some_and(|it| it.other == header.route.sender);
        let session = if of(&self.former) { &mut self.former } else { &mut self.session };
        let (header, text) = session.as_mut().ok_or(Refusal::NoSession)?.opener.open(frame)?;
        if of(&self.session) {
            self.former = None;
        }
        match header.kind {
            Kind::Reply => Ok(FromGuest::Reply(header.correlation, text)),
            Kind::Cast => Ok(FromGuest::Cast(text)),
            _ => Err(Refusal::Unexpected),
        }
    }

    fn welcomed(&mut self, header: &Header, frame: &[u8]) -> Heard<FromGuest> {
        let taken = self.offers.iter().position(|(own, key)| (*own, *key) == (header.route.receiver, header.key));
        let at = taken.ok_or(Refusal::NoSession)?;
        let (own, key) = self.offers[at];
        let key = find(&self.keys, key)?;
        let mut session = Session::new(key, self.instance, Side::Control, own, header.route.sender)?;
        let life = life(&session.opener.open(frame)?.1)?;
        // Whatever was offered before it is over.
        self.offers.drain(..=at);
        self.former = self.session.replace(session);
        Ok(FromGuest::Welcome(life))
    }
}

impl GuestEnd {
    pub(super) fn new(instance: InstanceId, keys: Keys) -> Result<Self> {
        let life = Token::draw()?.as_uuid();
        Ok(Self { instance, life, keys, candidate: None, session: None })
    }

    /// What to send when it begins: with each key, because the control plane may have heard of only one.
    pub(super) fn wake(&self) -> Result<Vec<Vec<u8>>> {
        let wake = |key: InstanceKey| {
            let (sender, receiver) = (Token::draw()?, Token::NONE);
            let route = Route { instance: self.instance, to: Side::Control, sender, receiver };
            Sealer::new(&key, route)?.seal(Kind::Wake, Uuid::nil(), self.life.as_bytes())
        };
        self.keys.all().into_iter().map(wake).collect()
    }

    /// An answer to send.
    pub(super) fn reply(&mut self, correlation: Uuid, text: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(Kind::Reply, correlation, text)
    }

    /// What is told without being asked.
    pub(super) fn cast(&mut self, text: &[u8]) -> Result<Vec<u8>> {
        self.session.as_mut().ok_or_else(no_session)?.sealer.seal(Kind::Cast, Uuid::nil(), text)
    }

    /// What a frame says.
    pub(super) fn hear(&mut self, frame: &[u8]) -> Heard<FromControl> {
        let header = Header::read(frame)?;
        if header.kind == Kind::Hello {
            return self.offered(&header, frame);
        }
        let (header, text) = match &mut self.candidate {
            Some(candidate) if candidate.other == header.route.sender => {
                let opened = candidate.opener.open(frame)?;
                // Only whoever made the offer just now can use it.
                self.keys.use_from(candidate.key);
                self.session = self.candidate.take();
                opened
            }
            _ => self.session.as_mut().ok_or(Refusal::NoSession)?.opener.open(frame)?,
        };
        match header.kind {
            Kind::Confirm => Ok(FromControl::Confirmed),
            Kind::Call => Ok(FromControl::Call(header.correlation, text)),
            _ => Err(Refusal::Unexpected),
        }
    }

    fn offered(&mut self, header: &Header, frame: &[u8]) -> Heard<FromControl> {
        let other = header.route.sender;
        let known = [&self.candidate, &self.session].into_iter().flatten().any(|session| session.other == other);
        if known {
            return Err(Refusal::Replayed);
        }
        let route = Route { instance: self.instance, to: Side::Guest, sender: other, receiver: Token::NONE };
        let key = self.keys.find(header.key).ok_or(Refusal::UnknownKey)?;
        let mut opener = Opener::new(&key, route).map_err(|_| Refusal::UnknownKey)?;
        opener.open(frame)?;
        let own = Token::draw().map_err(|_| Refusal::NoSession)?;
        let mut session = Session::new(&key, self.instance, Side::Guest, own, other)?;
        let welcome =
            session.sealer.seal(Kind::Welcome, Uuid::nil(), self.life.as_bytes()).map_err(|_| Refusal::NoSession)?;
        self.candidate = Some(session);
        Ok(FromControl::Offer(welcome))
    }
}

impl Session {
    /// The session of these two numbers, at this side.
    fn new(key: &InstanceKey, instance: InstanceId, at: Side, own: Token, other: Token) -> Heard<Self> {
        let away = match at {
            Side::Guest => Side::Control,
            Side::Control => Side::Guest,
        };
        let out = Route { instance, to: away, sender: own, receiver: other };
        let back = Route { instance, to: at, sender: other, receiver: own };
        let (Ok(sealer), Ok(opener)) = (Sealer::new(key, out), Opener::new(key, back)) else {
            return Err(Refusal::UnknownKey);
        };
        Ok(Self { key: key.id(), other, sealer, opener })
    }
}

fn find(keys: &[InstanceKey], id: u32) -> Heard<&InstanceKey> {
    keys.iter().find(|key| key.id() == id).ok_or(Refusal::UnknownKey)
}

/// What a guest calls its life; what is as long as it likes is not kept.
fn life(text: &[u8]) -> Heard<Uuid> {
    Uuid::from_slice(text).map_err(|_| Refusal::Unexpected)
}

fn no_session() -> Error {
    Error::unavailable("there is no session with the other side yet")
}

fn no_key() -> Error {
    Error::internal("the line has no key")
}

#[cfg(test)]
mod tests;
