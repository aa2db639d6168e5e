//! Two ends, and a wire on which all may come again.

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
