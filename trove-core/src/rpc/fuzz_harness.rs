//! Runs both sides of the protocol on a wire that an attacker controls by a script of bytes.
//!
//! Each action is one byte, modulo the number of actions, followed by its arguments:
//!
//! | byte | action |
//! |---|---|
//! | 0 | the guest sends `Wake` |
//! | 1 | the control plane offers a session |
//! | 2, kind, length (2, little-endian), payload | a message to the observed side is sent, and delivered at once if the kind is odd |
//! | 3, index | a frame, counted from the last, is delivered, whether or not it was before |
//! | 4 | the oldest undelivered frame is delivered |
//! | 5, index | a frame is delivered to its sender |
//! | 6, index, offset (2), mask | a byte of a frame is modified |
//! | 7, index, length (2) | a frame is truncated or extended to this length |
//! | 8, length (2), bytes | these bytes are delivered as a frame |
//! | 9, index, length (2), bytes | these bytes are delivered after the header of a frame |
//! | 10, 11 | the guest, or the control plane, restarts |
//! | 12, 13, 14 | the guest adds a new key, the control plane adds it, and removes the previous ones |
//! | 15 | a session is established and used without interference |
//! | 16, selector | frames of another instance, or under another key, are delivered |
//!
//! Whatever the script does, a message is accepted only by its receiver, unmodified, once, and
//! never after a later one.

#![allow(clippy::unwrap_used, reason = "a violated property must fail the test")]

use uuid::Uuid;

use super::{
    InstanceKey, KeyRing, Side,
    envelope::HEADER_BYTES,
    session::{ControlEvent, ControlPeer, GuestEvent, GuestPeer},
};
use crate::id::InstanceId;

/// The maximum number of actions of a script.
const ACTIONS: usize = 100;
/// The maximum number of keys of an instance.
const KEYS: u32 = 3;

/// Runs a script and passes the payloads that the observed side accepted to `accepted`.
pub(crate) fn run_script(observed: Side, script: &[u8], mut accepted: impl FnMut(&[u8])) {
    let (mut wire, mut script) = (AttackedWire::new(observed), Script(script));
    for _ in 0..ACTIONS {
        if wire.act(&mut script).is_none() {
            break;
        }
        wire.payloads.drain(..).for_each(|payload| accepted(&payload));
    }
    // Whatever happened before, a session without interference can be established.
    wire.establish();
}

/// The unread rest of a script. Reading past the end returns `None`, which ends the run.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([self.byte()?, self.byte()?])))
    }

    /// Reads a length and that number of bytes, or fewer at the end of the script.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?.min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }
}

/// A frame that was sent.
struct SentFrame {
    to: Side,
    frame: Vec<u8>,
    message: Message,
    delivered: bool,
    accepted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    Wake,
    Hello,
    Welcome,
    Confirm,
    Call(Uuid, Vec<u8>),
    Reply(Uuid, Vec<u8>),
    Notification(Vec<u8>),
}

struct AttackedWire {
    observed: Side,
    instance: InstanceId,
    control: ControlPeer,
    guest: GuestPeer,
    /// The keys that the guest persists.
    keys: KeyRing,
    /// The keys that the control plane persists: all that ever existed, in order.
    stored: Vec<InstanceKey>,
    /// The number of the oldest key that the control plane accepts.
    oldest: u32,
    sent: Vec<SentFrame>,
    /// The index of the last accepted frame, by side.
    last: [Option<usize>; 2],
    payloads: Vec<Vec<u8>>,
}

impl AttackedWire {
    fn new(observed: Side) -> Self {
        let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1).unwrap());
        let keys = KeyRing::new(key.clone());
        Self {
            observed,
            instance,
            control: ControlPeer::new(instance, key.clone()),
            guest: GuestPeer::new(instance, keys.clone()).unwrap(),
            keys,
            stored: vec![key],
            oldest: 1,
            sent: Vec::new(),
            last: [None; 2],
            payloads: Vec::new(),
        }
    }

    /// Performs the next action of the script; `None` at its end.
    fn act(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 17 {
            0 => self.wake(),
            1 => self.offer(),
            2 => {
                let (kind, payload) = (script.byte()?, script.bytes()?);
                if self.send_message(self.observed, kind & 2 == 0, payload) && kind & 1 == 1 {
                    self.deliver(self.sent.len() - 1);
                }
            }
            3 => self.frame_index(script)?.into_iter().for_each(|at| self.deliver(at)),
            4 => self.sent.iter().position(|sent| !sent.delivered).into_iter().for_each(|at| self.deliver(at)),
            5 => {
                if let Some(at) = self.frame_index(script)? {
                    let SentFrame { to, frame, .. } = &self.sent[at];
                    let (back, frame) = (other(*to), frame.clone());
                    self.assert_dropped(back, &frame);
                }
            }
            6 => {
                let (index, offset, mask) = (self.frame_index(script)?, script.number()?, script.byte()?);
                if let Some(at) = index {
                    let mut frame = self.sent[at].frame.clone();
                    let offset = offset % frame.len();
                    frame[offset] ^= mask.max(1);
                    self.assert_dropped(self.sent[at].to, &frame);
                }
            }
            7 => {
                let (index, length) = (self.frame_index(script)?, script.number()?);
                if let Some(at) = index {
                    let mut frame = self.sent[at].frame.clone();
                    if length != frame.len() {
                        frame.resize(length, 0);
                        self.assert_dropped(self.sent[at].to, &frame);
                    }
                }
            }
            8 => {
                let frame = script.bytes()?;
                self.assert_dropped(self.observed, frame);
            }
            9 => {
                let (index, tail) = (self.frame_index(script)?, script.bytes()?);
                if let Some(at) = index {
                    let SentFrame { to, frame, .. } = &self.sent[at];
                    let (to, forged) = (*to, [&frame[..HEADER_BYTES], tail].concat());
                    if forged != *frame {
                        self.assert_dropped(to, &forged);
                    }
                }
            }
            10 => self.guest = GuestPeer::new(self.instance, self.keys.clone()).unwrap(),
            11 => {
                self.control = ControlPeer::new(self.instance, self.newest());
                self.oldest = self.newest().id();
            }
            12 => {
                let number = self.newest().id() + 1;
                if number <= KEYS && self.oldest + 1 == number {
                    self.stored.push(InstanceKey::generate(number).unwrap());
                    self.keys.insert(self.newest());
                }
            }
            13 => self.control.add_key(self.newest()),
            14 => {
                let newest = self.newest().id();
                if self.control.active_key() == Some(newest) {
                    self.control.remove_keys_before(newest);
                    self.oldest = newest;
                }
            }
            15 => self.establish(),
            _ => {
                let selector = script.byte()?;
                self.deliver_foreign(selector);
            }
        }
        Some(())
    }

    /// Reads the index of a frame, counted from the last; `Some(None)` if none was sent.
    fn frame_index(&self, script: &mut Script<'_>) -> Option<Option<usize>> {
        let back = usize::from(script.byte()?);
        Some(self.sent.len().checked_sub(1).map(|last| last - back % (last + 1)))
    }

    fn newest(&self) -> InstanceKey {
        self.stored.last().unwrap().clone()
    }

    fn send(&mut self, to: Side, frame: Vec<u8>, message: Message) {
        self.sent.push(SentFrame { to, frame, message, delivered: false, accepted: false });
    }

    fn wake(&mut self) {
        for wake in self.guest.wake().unwrap() {
            self.send(Side::Control, wake, Message::Wake);
        }
    }

    fn offer(&mut self) {
        let hello = self.control.offer().unwrap();
        self.send(Side::Guest, hello, Message::Hello);
    }

    /// Sends a call, a reply or a notification. Returns false if there is no session.
    fn send_message(&mut self, to: Side, as_reply: bool, payload: &[u8]) -> bool {
        let (id, sent) = (Uuid::new_v4(), payload.to_vec());
        let (frame, message) = match to {
            Side::Guest => (self.control.call(id, payload), Message::Call(id, sent)),
            Side::Control if as_reply => (self.guest.reply(id, payload), Message::Reply(id, sent)),
            Side::Control => (self.guest.notify(payload), Message::Notification(sent)),
        };
        let Ok(frame) = frame else { return false };
        self.send(to, frame, message);
        true
    }

    /// Lets a side receive a frame and send its response. Returns `None` if the frame is dropped.
    fn receive(&mut self, at: Side, frame: &[u8]) -> Option<Message> {
        match at {
            Side::Guest => Some(match self.guest.receive(frame).ok()? {
                ControlEvent::Offer(welcome) => {
                    self.send(Side::Control, welcome, Message::Welcome);
                    Message::Hello
                }
                ControlEvent::Confirmed => Message::Confirm,
                ControlEvent::Call(id, payload) => Message::Call(id, payload.to_vec()),
            }),
            Side::Control => Some(match self.control.receive(frame).ok()? {
                GuestEvent::Wake(_) => {
                    self.offer();
                    Message::Wake
                }
                GuestEvent::Welcome(_) => {
                    let confirm = self.control.confirm().unwrap();
                    self.send(Side::Guest, confirm, Message::Confirm);
                    Message::Welcome
                }
                GuestEvent::Reply(id, payload) => Message::Reply(id, payload.to_vec()),
                GuestEvent::Notification(payload) => Message::Notification(payload.to_vec()),
            }),
        }
    }

    /// Delivers a frame to its receiver, and checks what it accepts.
    fn deliver(&mut self, at: usize) {
        self.sent[at].delivered = true;
        let (to, frame) = (self.sent[at].to, self.sent[at].frame.clone());
        let Some(received) = self.receive(to, &frame) else { return };
        let sent = &mut self.sent[at];
        assert_eq!(received, sent.message);
        let replayed = std::mem::replace(&mut sent.accepted, true);
        match received {
            // Replays of these lead to nothing that their sender does not confirm.
            Message::Wake | Message::Hello => {}
            Message::Welcome | Message::Confirm => assert!(!replayed, "{received:?} was accepted twice"),
            Message::Call(_, payload) | Message::Reply(_, payload) | Message::Notification(payload) => {
                let last = self.last[side_index(to)].replace(at);
                assert!(last.is_none_or(|last| last < at), "frame {at} was accepted after frame {last:?}");
                if to == self.observed {
                    self.payloads.push(payload);
                }
            }
        }
    }

    fn assert_dropped(&mut self, at: Side, frame: &[u8]) {
        assert_eq!(self.receive(at, frame), None, "a frame that the peer did not send was accepted");
    }

    /// Delivers the last frame, which must be accepted.
    fn deliver_last(&mut self) {
        let last = self.sent.len() - 1;
        self.deliver(last);
        assert!(self.sent[last].accepted, "{:?} was not accepted", self.sent[last].message);
    }

    /// Establishes a session without interference, and uses it.
    fn establish(&mut self) {
        self.offer();
        for _ in ["hello", "welcome", "confirm"] {
            self.deliver_last();
        }
        for (to, as_reply) in [(Side::Guest, false), (Side::Control, true), (Side::Control, false)] {
            let count = self.payloads.len();
            assert!(self.send_message(to, as_reply, b"{}"), "no session is established");
            self.deliver_last();
            self.payloads.truncate(count);
        }
        // From now on nothing under a key before the active one is accepted.
        let used = self.control.active_key().unwrap();
        for key in self.stored.clone() {
            if key.id() < used {
                let offer = ControlPeer::new(self.instance, key.clone()).offer().unwrap();
                self.assert_dropped(Side::Guest, &offer);
            }
            if key.id() < self.oldest {
                let thief = GuestPeer::new(self.instance, KeyRing::new(key)).unwrap();
                self.assert_dropped(Side::Control, &thief.wake().unwrap()[0]);
            }
        }
    }

    /// Delivers frames of another instance under its key, or of this instance under a wrong key.
    fn deliver_foreign(&mut self, selector: u8) {
        let same_instance = selector & 1 == 0;
        let mut other = Self::new(self.observed);
        if same_instance {
            // Another key with the same number.
            other.instance = self.instance;
            other.stored = vec![InstanceKey::generate(self.newest().id()).unwrap()];
            other.keys = KeyRing::new(other.newest());
            other.control = ControlPeer::new(other.instance, other.newest());
            other.guest = GuestPeer::new(other.instance, other.keys.clone()).unwrap();
        }
        other.wake();
        other.establish();
        for SentFrame { to, frame, .. } in other.sent {
            self.assert_dropped(to, &frame);
        }
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Guest => Side::Control,
        Side::Control => Side::Guest,
    }
}

fn side_index(side: Side) -> usize {
    match side {
        Side::Guest => 0,
        Side::Control => 1,
    }
}
