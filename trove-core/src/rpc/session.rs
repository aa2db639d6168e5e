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
mod tests {
    use super::*;

    struct Line {
        control: ControlEnd,
        guest: GuestEnd,
        heard: Vec<Vec<u8>>,
    }

    fn line() -> Line {
        let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1).unwrap());
        let control = ControlEnd::new(instance, key.clone());
        Line { control, guest: GuestEnd::new(instance, Keys::new(key)).unwrap(), heard: Vec::new() }
    }

    impl Line {
        /// Agrees on a session, and keeps all frames as the wire saw them.
        fn meet(&mut self) {
            let wake = self.guest.wake().unwrap().pop().unwrap();
            let heard = self.control.hear(&wake);
            assert!(matches!(heard, Ok(FromGuest::Awake(_)) | Err(Refusal::UnknownKey)), "{heard:?}");
            self.meet_again();
            self.heard.push(wake);
        }

        /// The same without that the guest says that it is there.
        fn meet_again(&mut self) {
            let hello = self.control.offer().unwrap();
            let Ok(FromControl::Offer(welcome)) = self.guest.hear(&hello) else { panic!("not taken") };
            assert!(matches!(self.control.hear(&welcome), Ok(FromGuest::Welcome(_))));
            let confirm = self.control.confirm().unwrap();
            assert!(matches!(self.guest.hear(&confirm), Ok(FromControl::Confirmed)));
            self.heard.extend([hello, welcome, confirm]);
        }

        fn call(&mut self, text: &[u8]) {
            let (id, call) = (Uuid::new_v4(), self.control.call(Uuid::new_v4(), text).unwrap());
            let Ok(FromControl::Call(_, heard)) = self.guest.hear(&call) else { panic!("the call was not heard") };
            assert_eq!(*heard, text);
            let reply = self.guest.reply(id, text).unwrap();
            let heard = self.control.hear(&reply);
            assert!(matches!(heard, Ok(FromGuest::Reply(found, _)) if found == id), "{heard:?}");
            let cast = self.guest.cast(text).unwrap();
            assert!(matches!(self.control.hear(&cast), Ok(FromGuest::Cast(_))));
            self.heard.extend([call, reply, cast]);
        }
    }

    #[test]
    fn two_ends_of_one_key_meet_and_talk() {
        let mut line = line();
        assert!(line.control.call(Uuid::nil(), b"early").is_err());
        assert!(line.guest.cast(b"early").is_err());
        for _ in 0..3 {
            line.meet();
            for text in [&b""[..], b"a", &[7; 1000]] {
                line.call(text);
            }
        }
    }

    #[test]
    fn nothing_that_was_sent_before_is_heard_again_not_even_after_restarts() {
        let mut line = line();
        line.meet();
        line.call(b"drop everything");
        let old = line.heard.clone();
        let (instance, keys) = (line.control.instance, line.control.keys.clone());
        for restart in ["nobody", "guest", "control", "both"] {
            if ["guest", "both"].contains(&restart) {
                line.guest = GuestEnd::new(instance, Keys::new(keys[0].clone())).unwrap();
            }
            if ["control", "both"].contains(&restart) {
                line.control = ControlEnd::new(instance, keys[0].clone());
            }
            if restart != "nobody" {
                line.meet();
            }
            line.call(b"new");
            for frame in &old {
                let heard = line.guest.hear(frame);
                // An old offer is answered, and nobody can use the answer.
                assert!(matches!(heard, Err(_) | Ok(FromControl::Offer(_))), "{restart}: {heard:?}");
                let heard = line.control.hear(frame);
                assert!(matches!(heard, Err(_) | Ok(FromGuest::Awake(_))), "{restart}: {heard:?}");
            }
            line.call(b"and the session stands");
        }
    }

    #[test]
    fn another_instance_or_key_is_not_heard() {
        let (mut one, mut other) = (line(), line());
        one.meet();
        other.meet();
        one.call(b"a");
        // Another key for the same instance, as a thief of an old one would have.
        let forger = InstanceKey::generate(1).unwrap();
        let mut forged = ControlEnd::new(other.control.instance, forger.clone());
        let mut thief = GuestEnd::new(other.control.instance, Keys::new(forger)).unwrap();
        let frames = [forged.offer().unwrap(), thief.wake().unwrap().remove(0)];
        for frame in one.heard.iter().chain(&frames) {
            assert!(other.guest.hear(frame).is_err() && other.control.hear(frame).is_err());
        }
        other.call(b"b");
        drop(thief.hear(&[]));
    }

    #[test]
    fn another_key_takes_over_and_the_one_before_is_not_heard() {
        let mut line = line();
        line.meet();
        let (instance, old) = (line.control.instance, line.control.keys[0].clone());
        let new = InstanceKey::generate(2).unwrap();
        line.guest.keys.learn(new.clone());
        // The control plane has not heard yet that the guest knows it; either may be restarted.
        line.meet();
        line.control = ControlEnd::new(instance, old.clone());
        for wake in line.guest.wake().unwrap() {
            let heard = line.control.hear(&wake);
            assert!(matches!(heard, Ok(FromGuest::Awake(_)) | Err(Refusal::UnknownKey)), "{heard:?}");
        }
        line.meet_again();
        let under_way = line.control.call(Uuid::new_v4(), b"begun with the old one").unwrap();
        line.control.learn(new);
        line.meet_again();
        assert_eq!(line.control.key_in_use(), Some(2));
        line.control.forget_before(2);
        line.call(b"new");
        assert!(line.guest.hear(&under_way).is_err());

        let mut thief = ControlEnd::new(instance, old.clone());
        assert_eq!(line.guest.hear(&thief.offer().unwrap()).unwrap_err(), Refusal::UnknownKey);
        let thief = GuestEnd::new(instance, Keys::new(old)).unwrap();
        assert_eq!(line.control.hear(&thief.wake().unwrap()[0]).unwrap_err(), Refusal::UnknownKey);
        assert_eq!(line.guest.wake().unwrap().len(), 1);
    }

    #[test]
    fn an_offer_is_over_once_a_later_one_was_taken() {
        let mut line = line();
        let offers = [(); 2].map(|()| line.control.offer().unwrap());
        let welcomes = offers.map(|offer| match line.guest.hear(&offer) {
            Ok(FromControl::Offer(welcome)) => welcome,
            heard => panic!("not taken: {heard:?}"),
        });
        assert!(matches!(line.control.hear(&welcomes[1]), Ok(FromGuest::Welcome(_))));
        assert_eq!(line.control.hear(&welcomes[0]).unwrap_err(), Refusal::NoSession);
        let confirm = line.control.confirm().unwrap();
        assert!(matches!(line.guest.hear(&confirm), Ok(FromControl::Confirmed)));
        line.call(b"in the later one");
    }

    #[test]
    fn a_life_of_another_length_is_not_kept() {
        let mut line = line();
        line.meet();
        let (instance, key) = (line.control.instance, line.control.keys[0].clone());
        for life in [&[][..], &[7; 15], &[7; 17], &[7; 1000]] {
            let route = |receiver| Route { instance, to: Side::Control, sender: Token::draw().unwrap(), receiver };
            let wake = Sealer::new(&key, route(Token::NONE)).unwrap().seal(Kind::Wake, Uuid::nil(), life).unwrap();
            assert_eq!(line.control.hear(&wake).unwrap_err(), Refusal::Unexpected);
            let offer = Header::read(&line.control.offer().unwrap()).unwrap().route.sender;
            let welcome = Sealer::new(&key, route(offer)).unwrap().seal(Kind::Welcome, Uuid::nil(), life).unwrap();
            assert_eq!(line.control.hear(&welcome).unwrap_err(), Refusal::Unexpected);
        }
        line.call(b"and the session stands");
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let mut line = line();
        line.meet();
        let call = line.control.call(Uuid::new_v4(), b"stop").unwrap();
        for bit in 0..call.len() * 8 {
            let mut changed = call.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let heard = line.guest.hear(&changed);
            assert!(heard.is_err(), "bit {bit}: {heard:?}");
        }
        assert!(matches!(line.guest.hear(&call), Ok(FromControl::Call(..))));
        assert!(matches!(line.guest.hear(&call), Err(Refusal::Replayed)));
    }

    #[test]
    fn frames_are_taken_in_their_order() {
        let mut line = line();
        line.meet();
        let frames: Vec<_> = (0..4).map(|_| line.control.call(Uuid::new_v4(), b"x").unwrap()).collect();
        assert!(line.guest.hear(&frames[2]).is_ok());
        for earlier in &frames[..3] {
            assert!(matches!(line.guest.hear(earlier), Err(Refusal::Replayed)));
        }
        assert!(line.guest.hear(&frames[3]).is_ok());
        // A frame does not go back the way it came.
        assert!(matches!(line.control.hear(&frames[3]), Err(Refusal::Misdirected)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_an_end_panic_or_listen(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), code in 0u8..8) {
            let mut line = line();
            line.meet();
            let mut frame = bytes.clone();
            for end in 0..2 {
                if end == 1 && frame.len() > 2 {
                    frame[..3].copy_from_slice(&[1, code, code % 2]);
                }
                proptest::prop_assert!(line.guest.hear(&frame).is_err());
                proptest::prop_assert!(line.control.hear(&frame).is_err());
            }
            line.call(&bytes);
        }
    }
}
