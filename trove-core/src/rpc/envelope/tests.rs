use proptest::{array::uniform16, collection::vec, prelude::*, sample::select};

use super::*;

fn kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.as_slice())
}

fn route() -> impl Strategy<Value = Route> {
    let token = || uniform16(any::<u8>()).prop_map(Token);
    let instance = any::<u128>().prop_map(|id| InstanceId::from_untyped_uuid(Uuid::from_u128(id)));
    let fields = (instance, select([Side::Guest, Side::Control].as_slice()), token(), token());
    fields.prop_map(|(instance, to, sender, receiver)| Route { instance, to, sender, receiver })
}

fn key() -> impl Strategy<Value = InstanceKey> {
    any::<u32>().prop_map(|id| InstanceKey::generate(id).unwrap())
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// The same in other words: what a frame says of itself.
fn told(header: &Header) -> String {
    format!("{header:?}")
}

/// Everything that a session is bound to, with one thing changed.
fn elsewhere(key: &InstanceKey, route: Route, which: usize) -> (InstanceKey, Route) {
    let turned = |token: Token| Token(token.0.map(|byte| !byte));
    let text = key.to_text();
    let (mut key, mut route) = (key.clone(), route);
    match which {
        0 => key = InstanceKey::generate(key.id()).unwrap(),
        1 => key = InstanceKey::from_text(key.id().wrapping_add(1), &text).unwrap(),
        2 => route.instance = InstanceId::new_v4(),
        3 => route.to = if route.to == Side::Guest { Side::Control } else { Side::Guest },
        4 => route.sender = turned(route.sender),
        5 => route.receiver = turned(route.receiver),
        _ => (route.sender, route.receiver) = (turned(route.sender), route.sender),
    }
    (key, route)
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        key in key(), route in route(), frames in vec((kind(), id(), vec(any::<u8>(), 0..300)), 1..8),
    ) {
        let mut sealer = Sealer::new(&key, route).unwrap();
        let mut opener = Opener::new(&key, route).unwrap();
        for (sequence, (kind, correlation, text)) in (1..).zip(frames) {
            let frame = sealer.seal(kind, correlation, &text).unwrap();
            prop_assert_eq!(frame.len(), HEADER_BYTES + text.len() + TAG_BYTES);
            let (header, opened) = opener.open(&frame).unwrap();
            prop_assert_eq!(told(&header), told(&Header { kind, key: key.id(), route, sequence, correlation }));
            prop_assert_eq!(&*opened, &text);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_for_what_it_is(
        key in key(), route in route(), text in vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>(), by in 1u8..,
    ) {
        let good = Sealer::new(&key, route).unwrap().seal(Kind::Call, Uuid::new_v4(), &text).unwrap();
        let mut frame = good.clone();
        let at = at.index(frame.len());
        frame[at] ^= by;
        let mut opener = Opener::new(&key, route).unwrap();
        let refusal = opener.open(&frame).unwrap_err();
        let expected: &[Refusal] = match at {
            0 => &[Refusal::Malformed],
            1 => &[Refusal::Malformed, Refusal::Forged],
            2 => &[Refusal::Malformed, Refusal::Misdirected],
            3..7 => &[Refusal::UnknownKey],
            7..23 => &[Refusal::Misdirected],
            23..55 => &[Refusal::NoSession],
            _ => &[Refusal::Forged],
        };
        prop_assert!(expected.contains(&refusal), "byte {}: {:?}", at, refusal);
        prop_assert!(opener.open(&good).is_ok(), "what was refused has had no effect");
    }

    #[test]
    fn a_frame_of_another_length_is_refused(
        key in key(), route in route(), text in vec(any::<u8>(), 0..50), length in 0usize..300,
    ) {
        let mut frame = Sealer::new(&key, route).unwrap().seal(Kind::Call, Uuid::new_v4(), &text).unwrap();
        prop_assume!(length != frame.len());
        frame.resize(length, 0);
        prop_assert!(Opener::new(&key, route).unwrap().open(&frame).is_err());
    }

    #[test]
    fn a_frame_cannot_be_moved(
        key in key(), route in route(), kind in kind(), text in vec(any::<u8>(), 0..50), which in 0usize..7,
    ) {
        let frame = Sealer::new(&key, route).unwrap().seal(kind, Uuid::new_v4(), &text).unwrap();
        let (there, to) = elsewhere(&key, route, which);
        let mut opener = Opener::new(&there, to).unwrap();
        prop_assert!(opener.open(&frame).is_err());
        // Nor with what would have to be said at the other place.
        let said = Header::read(&frame).unwrap();
        let header = Header { key: there.id(), route: to, ..said }.to_bytes();
        let moved = [header.as_slice(), &frame[HEADER_BYTES..]].concat();
        prop_assert_eq!(opener.open(&moved).unwrap_err(), Refusal::Forged);
    }

    #[test]
    fn frames_are_opened_in_their_order_and_once(count in 1usize..30, order in vec(any::<prop::sample::Index>(), 0..80)) {
        let (key, instance) = (InstanceKey::generate(1).unwrap(), InstanceId::new_v4());
        let (sender, receiver) = (Token::draw().unwrap(), Token::draw().unwrap());
        let route = Route { instance, to: Side::Guest, sender, receiver };
        let mut sealer = Sealer::new(&key, route).unwrap();
        let frames: Vec<_> = (0..count).map(|_| sealer.seal(Kind::Call, Uuid::nil(), b"x").unwrap()).collect();
        let mut opener = Opener::new(&key, route).unwrap();
        let mut highest = None;
        for at in order.iter().map(|at| at.index(count)) {
            let opened = opener.open(&frames[at]).map(drop);
            let expected = if Some(at) > highest { Ok(()) } else { Err(Refusal::Replayed) };
            prop_assert_eq!(opened, expected);
            highest = highest.max(Some(at));
        }
    }

    #[test]
    fn no_bytes_are_opened(
        key in key(), route in route(), kind in kind(), sequence in any::<u64>(), tail in vec(any::<u8>(), 0..200),
    ) {
        let mut opener = Opener::new(&key, route).unwrap();
        prop_assert!(opener.open(&tail).is_err());
        let header = Header { kind, key: key.id(), route, sequence, correlation: Uuid::nil() };
        let frame = [header.to_bytes().as_slice(), &tail].concat();
        let expected = if tail.len() < TAG_BYTES { Refusal::Malformed } else { Refusal::Forged };
        prop_assert_eq!(opener.open(&frame).unwrap_err(), expected);
    }

    #[test]
    fn a_header_has_one_form(kind in 0u8..9, side in 0u8..3, rest in vec(any::<u8>(), HEADER_BYTES + TAG_BYTES - 3)) {
        let frame = [&[VERSION, kind, side], rest.as_slice()].concat();
        match Header::read(&frame) {
            Ok(header) => prop_assert_eq!(&header.to_bytes()[..], &frame[..HEADER_BYTES]),
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::Malformed);
                prop_assert!(kind > 6 || side > 1);
            }
        }
    }
}

#[test]
fn the_longest_text_fits_and_a_longer_one_is_refused_on_either_side() {
    let (key, instance) = (InstanceKey::generate(1).unwrap(), InstanceId::new_v4());
    let route = Route { instance, to: Side::Guest, sender: Token::NONE, receiver: Token::NONE };
    let (mut sealer, mut opener) = (Sealer::new(&key, route).unwrap(), Opener::new(&key, route).unwrap());
    let mut frame = sealer.seal(Kind::Call, Uuid::nil(), &vec![7; MAX_TEXT_BYTES]).unwrap();
    assert_eq!(frame.len(), MAX_FRAME_BYTES);
    assert_eq!(opener.open(&frame).unwrap().1.len(), MAX_TEXT_BYTES);
    assert!(sealer.seal(Kind::Call, Uuid::nil(), &vec![7; MAX_TEXT_BYTES + 1]).is_err());
    frame.push(0);
    assert_eq!(Header::read(&frame).unwrap_err(), Refusal::TooLong);
    assert_eq!(opener.open(&frame).unwrap_err(), Refusal::TooLong);
}

/// As the table says it, so that another implementation may be written from that.
#[test]
fn a_frame_is_laid_out_as_it_is_told() {
    let key = InstanceKey::from_text(0x0102_0304, &InstanceKey::generate(1).unwrap().to_text()).unwrap();
    let instance = InstanceId::from_untyped_uuid(Uuid::from_bytes([0x11; 16]));
    let route = Route { instance, to: Side::Control, sender: Token([0x22; 16]), receiver: Token([0x33; 16]) };
    let mut sealer = Sealer::new(&key, route).unwrap();
    let frame = sealer.seal(Kind::Reply, Uuid::from_bytes([0x44; 16]), b"text").unwrap();
    let said: Vec<u8> =
        [&[1, 5, 1][..], &[1, 2, 3, 4], &[0x11; 16], &[0x22; 16], &[0x33; 16], &[0, 0, 0, 0, 0, 0, 0, 1], &[0x44; 16]]
            .concat();
    assert_eq!(frame[..79], said);
    assert_eq!(frame.len(), 79 + 4 + 16);

    let salt = [[0x22; 16], [0x33; 16]].concat();
    let info = [&b"trove rpc 1"[..], &[1], &[1, 2, 3, 4], &[0x11; 16]].concat();
    let mut subkey = [0; 32];
    Hkdf::<Sha256>::new(Some(&salt), key.bytes()).expand(&info, &mut subkey).unwrap();
    let nonce = Nonce::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let payload = Payload { msg: &frame[79..], aad: &said };
    assert_eq!(Aes256Gcm::new((&subkey).into()).decrypt(&nonce, payload).unwrap(), b"text");
}
