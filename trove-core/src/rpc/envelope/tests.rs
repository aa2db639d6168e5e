use proptest::{array::uniform16, collection::vec, prelude::*, sample::select};

use super::*;

fn kind() -> impl Strategy<Value = FrameKind> {
    select(FrameKind::ALL.as_slice())
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

/// Formats a header for comparison.
fn fields(header: &Header) -> String {
    format!("{header:?}")
}

/// Returns what a session key is derived from, with one part changed.
fn with_one_change(key: &InstanceKey, route: Route, which: usize) -> (InstanceKey, Route) {
    let inverted = |token: Token| Token(token.0.map(|byte| !byte));
    let text = key.to_text();
    let (mut key, mut route) = (key.clone(), route);
    match which {
        0 => key = InstanceKey::generate(key.id()).unwrap(),
        1 => key = InstanceKey::from_text(key.id().wrapping_add(1), &text).unwrap(),
        2 => route.instance = InstanceId::new_v4(),
        3 => route.to = if route.to == Side::Guest { Side::Control } else { Side::Guest },
        4 => route.sender = inverted(route.sender),
        5 => route.receiver = inverted(route.receiver),
        _ => (route.sender, route.receiver) = (inverted(route.sender), route.sender),
    }
    (key, route)
}

proptest! {
    #[test]
    fn sealed_frames_open(
        key in key(), route in route(), frames in vec((kind(), id(), vec(any::<u8>(), 0..300)), 1..8),
    ) {
        let mut sealer = Sealer::new(&key, route).unwrap();
        let mut opener = Opener::new(&key, route).unwrap();
        for (sequence, (kind, correlation, payload)) in (1..).zip(frames) {
            let frame = sealer.seal(kind, correlation, &payload).unwrap();
            prop_assert_eq!(frame.len(), HEADER_BYTES + payload.len() + TAG_BYTES);
            let (header, opened) = opener.open(&frame).unwrap();
            prop_assert_eq!(fields(&header), fields(&Header { kind, key: key.id(), route, sequence, correlation }));
            prop_assert_eq!(&*opened, &payload);
        }
    }

    #[test]
    fn a_modified_byte_is_rejected_with_the_reason_of_its_field(
        key in key(), route in route(), payload in vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>(), by in 1u8..,
    ) {
        let good = Sealer::new(&key, route).unwrap().seal(FrameKind::Call, Uuid::new_v4(), &payload).unwrap();
        let mut frame = good.clone();
        let at = at.index(frame.len());
        frame[at] ^= by;
        let mut opener = Opener::new(&key, route).unwrap();
        let reason = opener.open(&frame).unwrap_err();
        let expected: &[DropReason] = match at {
            0 => &[DropReason::Malformed],
            1 => &[DropReason::Malformed, DropReason::Forged],
            2 => &[DropReason::Malformed, DropReason::Misdirected],
            3..7 => &[DropReason::UnknownKey],
            7..23 => &[DropReason::Misdirected],
            23..55 => &[DropReason::NoSession],
            _ => &[DropReason::Forged],
        };
        prop_assert!(expected.contains(&reason), "byte {}: {:?}", at, reason);
        prop_assert!(opener.open(&good).is_ok(), "the rejected frame changed the state");
    }

    #[test]
    fn truncated_and_extended_frames_are_rejected(
        key in key(), route in route(), payload in vec(any::<u8>(), 0..50), length in 0usize..300,
    ) {
        let mut frame = Sealer::new(&key, route).unwrap().seal(FrameKind::Call, Uuid::new_v4(), &payload).unwrap();
        prop_assume!(length != frame.len());
        frame.resize(length, 0);
        prop_assert!(Opener::new(&key, route).unwrap().open(&frame).is_err());
    }

    #[test]
    fn a_frame_does_not_open_for_another_key_or_route(
        key in key(), route in route(), kind in kind(), payload in vec(any::<u8>(), 0..50), which in 0usize..7,
    ) {
        let frame = Sealer::new(&key, route).unwrap().seal(kind, Uuid::new_v4(), &payload).unwrap();
        let (there, to) = with_one_change(&key, route, which);
        let mut opener = Opener::new(&there, to).unwrap();
        prop_assert!(opener.open(&frame).is_err());
        // Nor with a header that fits the other key and route.
        let original = Header::read(&frame).unwrap();
        let header = Header { key: there.id(), route: to, ..original }.to_bytes();
        let moved = [header.as_slice(), &frame[HEADER_BYTES..]].concat();
        prop_assert_eq!(opener.open(&moved).unwrap_err(), DropReason::Forged);
    }

    #[test]
    fn frames_open_in_order_and_once(count in 1usize..30, order in vec(any::<prop::sample::Index>(), 0..80)) {
        let (key, instance) = (InstanceKey::generate(1).unwrap(), InstanceId::new_v4());
        let (sender, receiver) = (Token::generate().unwrap(), Token::generate().unwrap());
        let route = Route { instance, to: Side::Guest, sender, receiver };
        let mut sealer = Sealer::new(&key, route).unwrap();
        let frames: Vec<_> = (0..count).map(|_| sealer.seal(FrameKind::Call, Uuid::nil(), b"x").unwrap()).collect();
        let mut opener = Opener::new(&key, route).unwrap();
        let mut highest = None;
        for at in order.iter().map(|at| at.index(count)) {
            let opened = opener.open(&frames[at]).map(drop);
            let expected = if Some(at) > highest { Ok(()) } else { Err(DropReason::Replayed) };
            prop_assert_eq!(opened, expected);
            highest = highest.max(Some(at));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_open(
        key in key(), route in route(), kind in kind(), sequence in any::<u64>(), tail in vec(any::<u8>(), 0..200),
    ) {
        let mut opener = Opener::new(&key, route).unwrap();
        prop_assert!(opener.open(&tail).is_err());
        let header = Header { kind, key: key.id(), route, sequence, correlation: Uuid::nil() };
        let frame = [header.to_bytes().as_slice(), &tail].concat();
        let expected = if tail.len() < TAG_BYTES { DropReason::Malformed } else { DropReason::Forged };
        prop_assert_eq!(opener.open(&frame).unwrap_err(), expected);
    }

    #[test]
    fn headers_have_a_canonical_form(kind in 0u8..9, side in 0u8..3, rest in vec(any::<u8>(), HEADER_BYTES + TAG_BYTES - 3)) {
        let frame = [&[VERSION, kind, side], rest.as_slice()].concat();
        match Header::read(&frame) {
            Ok(header) => prop_assert_eq!(&header.to_bytes()[..], &frame[..HEADER_BYTES]),
            Err(reason) => {
                prop_assert_eq!(reason, DropReason::Malformed);
                prop_assert!(kind > 6 || side > 1);
            }
        }
    }
}

#[test]
fn payloads_above_the_limit_are_rejected_when_sealed_and_when_opened() {
    let (key, instance) = (InstanceKey::generate(1).unwrap(), InstanceId::new_v4());
    let route = Route { instance, to: Side::Guest, sender: Token::NONE, receiver: Token::NONE };
    let (mut sealer, mut opener) = (Sealer::new(&key, route).unwrap(), Opener::new(&key, route).unwrap());
    let mut frame = sealer.seal(FrameKind::Call, Uuid::nil(), &vec![7; MAX_PAYLOAD_BYTES]).unwrap();
    assert_eq!(frame.len(), MAX_FRAME_BYTES);
    assert_eq!(opener.open(&frame).unwrap().1.len(), MAX_PAYLOAD_BYTES);
    assert!(sealer.seal(FrameKind::Call, Uuid::nil(), &vec![7; MAX_PAYLOAD_BYTES + 1]).is_err());
    frame.push(0);
    assert_eq!(Header::read(&frame).unwrap_err(), DropReason::TooLong);
    assert_eq!(opener.open(&frame).unwrap_err(), DropReason::TooLong);
}

/// Checks the layout against the documentation, from which other implementations can be written.
#[test]
fn frames_have_the_documented_layout() {
    let key = InstanceKey::from_text(0x0102_0304, &InstanceKey::generate(1).unwrap().to_text()).unwrap();
    let instance = InstanceId::from_untyped_uuid(Uuid::from_bytes([0x11; 16]));
    let route = Route { instance, to: Side::Control, sender: Token([0x22; 16]), receiver: Token([0x33; 16]) };
    let mut sealer = Sealer::new(&key, route).unwrap();
    let frame = sealer.seal(FrameKind::Reply, Uuid::from_bytes([0x44; 16]), b"text").unwrap();
    let header: Vec<u8> =
        [&[1, 5, 1][..], &[1, 2, 3, 4], &[0x11; 16], &[0x22; 16], &[0x33; 16], &[0, 0, 0, 0, 0, 0, 0, 1], &[0x44; 16]]
            .concat();
    assert_eq!(frame[..79], header);
    assert_eq!(frame.len(), 79 + 4 + 16);

    let salt = [[0x22; 16], [0x33; 16]].concat();
    let info = [&b"trove rpc 1"[..], &[1], &[1, 2, 3, 4], &[0x11; 16]].concat();
    let mut subkey = [0; 32];
    Hkdf::<Sha256>::new(Some(&salt), key.bytes()).expand(&info, &mut subkey).unwrap();
    let nonce = Nonce::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let payload = Payload { msg: &frame[79..], aad: &header };
    assert_eq!(Aes256Gcm::new((&subkey).into()).decrypt(&nonce, payload).unwrap(), b"text");
}
