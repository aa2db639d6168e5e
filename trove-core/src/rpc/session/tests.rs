//! Both sides of the protocol, on a wire where every frame may be replayed.

use super::*;

struct Peers {
    control: ControlPeer,
    guest: GuestPeer,
    frames: Vec<Vec<u8>>,
}

fn peers() -> Peers {
    let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1).unwrap());
    let control = ControlPeer::new(instance, key.clone());
    Peers { control, guest: GuestPeer::new(instance, KeyRing::new(key)).unwrap(), frames: Vec::new() }
}

impl Peers {
    /// Establishes a session, beginning with `Wake`, and records all frames.
    fn wake_and_handshake(&mut self) {
        let wake = self.guest.wake().unwrap().pop().unwrap();
        let received = self.control.receive(&wake);
        assert!(matches!(received, Ok(GuestEvent::Wake(_)) | Err(DropReason::UnknownKey)), "{received:?}");
        self.handshake();
        self.frames.push(wake);
    }

    /// Establishes a session, beginning with `Hello`, and records all frames.
    fn handshake(&mut self) {
        let hello = self.control.offer().unwrap();
        let Ok(ControlEvent::Offer(welcome)) = self.guest.receive(&hello) else { panic!("the offer was not accepted") };
        assert!(matches!(self.control.receive(&welcome), Ok(GuestEvent::Welcome(_))));
        let confirm = self.control.confirm().unwrap();
        assert!(matches!(self.guest.receive(&confirm), Ok(ControlEvent::Confirmed)));
        self.frames.extend([hello, welcome, confirm]);
    }

    fn call(&mut self, text: &[u8]) {
        let (id, call) = (Uuid::new_v4(), self.control.call(Uuid::new_v4(), text).unwrap());
        let Ok(ControlEvent::Call(_, received)) = self.guest.receive(&call) else {
            panic!("the call was not accepted")
        };
        assert_eq!(*received, text);
        let reply = self.guest.reply(id, text).unwrap();
        let received = self.control.receive(&reply);
        assert!(matches!(received, Ok(GuestEvent::Reply(found, _)) if found == id), "{received:?}");
        let cast = self.guest.notify(text).unwrap();
        assert!(matches!(self.control.receive(&cast), Ok(GuestEvent::Notification(_))));
        self.frames.extend([call, reply, cast]);
    }
}

#[test]
fn peers_with_the_same_key_establish_sessions_and_exchange_messages() {
    let mut peers = peers();
    assert!(peers.control.call(Uuid::nil(), b"early").is_err());
    assert!(peers.guest.notify(b"early").is_err());
    for _ in 0..3 {
        peers.wake_and_handshake();
        for text in [&b""[..], b"a", &[7; 1000]] {
            peers.call(text);
        }
    }
}

#[test]
fn replayed_frames_are_dropped_even_after_restarts() {
    let mut peers = peers();
    peers.wake_and_handshake();
    peers.call(b"call");
    let old = peers.frames.clone();
    let (instance, keys) = (peers.control.instance, peers.control.keys.clone());
    for restart in ["nobody", "guest", "control", "both"] {
        if ["guest", "both"].contains(&restart) {
            peers.guest = GuestPeer::new(instance, KeyRing::new(keys[0].clone())).unwrap();
        }
        if ["control", "both"].contains(&restart) {
            peers.control = ControlPeer::new(instance, keys[0].clone());
        }
        if restart != "nobody" {
            peers.wake_and_handshake();
        }
        peers.call(b"new");
        for frame in &old {
            let received = peers.guest.receive(frame);
            // A replayed offer is answered, but nobody can use the answer.
            assert!(matches!(received, Err(_) | Ok(ControlEvent::Offer(_))), "{restart}: {received:?}");
            let received = peers.control.receive(frame);
            assert!(matches!(received, Err(_) | Ok(GuestEvent::Wake(_))), "{restart}: {received:?}");
        }
        peers.call(b"the session is intact");
    }
}

#[test]
fn another_instance_or_key_is_not_heard() {
    let (mut one, mut other) = (peers(), peers());
    one.wake_and_handshake();
    other.wake_and_handshake();
    one.call(b"a");
    // Another key for the same instance.
    let forger = InstanceKey::generate(1).unwrap();
    let mut forged = ControlPeer::new(other.control.instance, forger.clone());
    let mut attacker = GuestPeer::new(other.control.instance, KeyRing::new(forger)).unwrap();
    let frames = [forged.offer().unwrap(), attacker.wake().unwrap().remove(0)];
    for frame in one.frames.iter().chain(&frames) {
        assert!(other.guest.receive(frame).is_err() && other.control.receive(frame).is_err());
    }
    other.call(b"b");
    drop(attacker.receive(&[]));
}

#[test]
fn another_key_takes_over_and_the_one_before_is_not_heard() {
    let mut peers = peers();
    peers.wake_and_handshake();
    let (instance, old) = (peers.control.instance, peers.control.keys[0].clone());
    let new = InstanceKey::generate(2).unwrap();
    peers.guest.keys.insert(new.clone());
    // The control plane does not know yet that the guest has the key; either may restart.
    peers.wake_and_handshake();
    peers.control = ControlPeer::new(instance, old.clone());
    for wake in peers.guest.wake().unwrap() {
        let received = peers.control.receive(&wake);
        assert!(matches!(received, Ok(GuestEvent::Wake(_)) | Err(DropReason::UnknownKey)), "{received:?}");
    }
    peers.handshake();
    let in_flight = peers.control.call(Uuid::new_v4(), b"sent under the old key").unwrap();
    peers.control.add_key(new);
    peers.handshake();
    assert_eq!(peers.control.active_key(), Some(2));
    peers.control.remove_keys_before(2);
    peers.call(b"new");
    assert!(peers.guest.receive(&in_flight).is_err());

    let mut attacker = ControlPeer::new(instance, old.clone());
    assert_eq!(peers.guest.receive(&attacker.offer().unwrap()).unwrap_err(), DropReason::UnknownKey);
    let attacker = GuestPeer::new(instance, KeyRing::new(old)).unwrap();
    assert_eq!(peers.control.receive(&attacker.wake().unwrap()[0]).unwrap_err(), DropReason::UnknownKey);
    assert_eq!(peers.guest.wake().unwrap().len(), 1);
}

#[test]
fn an_offer_is_void_once_a_later_one_is_accepted() {
    let mut peers = peers();
    let offers = [(); 2].map(|()| peers.control.offer().unwrap());
    let welcomes = offers.map(|offer| match peers.guest.receive(&offer) {
        Ok(ControlEvent::Offer(welcome)) => welcome,
        received => panic!("the offer was not accepted: {received:?}"),
    });
    assert!(matches!(peers.control.receive(&welcomes[1]), Ok(GuestEvent::Welcome(_))));
    assert_eq!(peers.control.receive(&welcomes[0]).unwrap_err(), DropReason::NoSession);
    let confirm = peers.control.confirm().unwrap();
    assert!(matches!(peers.guest.receive(&confirm), Ok(ControlEvent::Confirmed)));
    peers.call(b"in the later session");
}

#[test]
fn boot_ids_of_other_lengths_are_rejected() {
    let mut peers = peers();
    peers.wake_and_handshake();
    let (instance, key) = (peers.control.instance, peers.control.keys[0].clone());
    for boot_id in [&[][..], &[7; 15], &[7; 17], &[7; 1000]] {
        let route = |receiver| Route { instance, to: Side::Control, sender: Token::generate().unwrap(), receiver };
        let wake = Sealer::new(&key, route(Token::NONE)).unwrap().seal(FrameKind::Wake, Uuid::nil(), boot_id).unwrap();
        assert_eq!(peers.control.receive(&wake).unwrap_err(), DropReason::Unexpected);
        let offer = Header::read(&peers.control.offer().unwrap()).unwrap().route.sender;
        let welcome = Sealer::new(&key, route(offer)).unwrap().seal(FrameKind::Welcome, Uuid::nil(), boot_id).unwrap();
        assert_eq!(peers.control.receive(&welcome).unwrap_err(), DropReason::Unexpected);
    }
    peers.call(b"the session is intact");
}

#[test]
fn every_flipped_bit_is_detected() {
    let mut peers = peers();
    peers.wake_and_handshake();
    let call = peers.control.call(Uuid::new_v4(), b"stop").unwrap();
    for bit in 0..call.len() * 8 {
        let mut changed = call.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let received = peers.guest.receive(&changed);
        assert!(received.is_err(), "bit {bit}: {received:?}");
    }
    assert!(matches!(peers.guest.receive(&call), Ok(ControlEvent::Call(..))));
    assert!(matches!(peers.guest.receive(&call), Err(DropReason::Replayed)));
}

#[test]
fn frames_are_accepted_in_order_only() {
    let mut peers = peers();
    peers.wake_and_handshake();
    let frames: Vec<_> = (0..4).map(|_| peers.control.call(Uuid::new_v4(), b"x").unwrap()).collect();
    assert!(peers.guest.receive(&frames[2]).is_ok());
    for earlier in &frames[..3] {
        assert!(matches!(peers.guest.receive(earlier), Err(DropReason::Replayed)));
    }
    assert!(peers.guest.receive(&frames[3]).is_ok());
    // A frame is not accepted in the other direction.
    assert!(matches!(peers.control.receive(&frames[3]), Err(DropReason::Misdirected)));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_are_dropped_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), code in 0u8..8) {
        let mut peers = peers();
        peers.wake_and_handshake();
        let mut frame = bytes.clone();
        for end in 0..2 {
            if end == 1 && frame.len() > 2 {
                frame[..3].copy_from_slice(&[1, code, code % 2]);
            }
            proptest::prop_assert!(peers.guest.receive(&frame).is_err());
            proptest::prop_assert!(peers.control.receive(&frame).is_err());
        }
        peers.call(&bytes);
    }
}
