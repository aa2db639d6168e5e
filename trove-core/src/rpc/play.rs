//! Both ends of a line, and a wire that belongs to somebody else: who does with it whatever a script of bytes says.
//!
//! Each act of the script is a byte, modulo the number of acts, and what it takes of the bytes after it:
//!
//! | byte | act |
//! |---|---|
//! | 0 | the guest says that it is there |
//! | 1 | the control plane offers a session |
//! | 2, kind, length (2, little endian), text | something is said to the ear, and delivered at once where the kind is odd |
//! | 3, which | a frame, counted from the last, is delivered, whether or not it was before |
//! | 4 | the oldest frame that was not delivered yet is |
//! | 5, which | a frame is delivered to whom it came from |
//! | 6, which, where (2), how | a byte of a frame is changed |
//! | 7, which, length (2) | a frame is cut there, or made longer |
//! | 8, length (2), bytes | these bytes are delivered as a frame |
//! | 9, which, length (2), bytes | these bytes are delivered behind what a frame begins with |
//! | 10, 11 | the guest, or the control plane, begins anew |
//! | 12, 13, 14 | the guest learns of another key, the control plane does, and forgets the ones before |
//! | 15 | nothing is in the way, for once: a session is agreed on and used |
//! | 16, what | something of another instance, or under another key, is delivered |
//!
//! Whatever it does, a text is heard by whom it is meant for, unchanged, once, and not after a later one.

#![allow(clippy::unwrap_used, reason = "what does not hold is to be seen")]

use uuid::Uuid;

use super::{
    InstanceKey, Keys, Side,
    envelope::HEADER_BYTES,
    session::{ControlEnd, FromControl, FromGuest, GuestEnd},
};
use crate::id::InstanceId;

/// The longest script, in acts.
const ACTS: usize = 100;
/// How many other keys an instance gets.
const KEYS: u32 = 3;

/// Acts by the script, and hands over the texts that were heard at this side.
pub(crate) fn play(ear: Side, script: &[u8], mut heard: impl FnMut(&[u8])) {
    let (mut stage, mut script) = (Stage::new(ear), Script(script));
    for _ in 0..ACTS {
        if stage.act(&mut script).is_none() {
            break;
        }
        stage.texts.drain(..).for_each(|text| heard(&text));
    }
    // However it was treated: the next session that nobody disturbs stands.
    stage.meet();
}

/// What is left of it. Where there is less than is asked for, it is over.
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

    /// So many bytes, or what there is.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?.min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }
}

/// A frame on the wire.
struct Sent {
    to: Side,
    frame: Vec<u8>,
    says: Says,
    delivered: bool,
    heard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Wake,
    Hello,
    Welcome,
    Confirm,
    Call(Uuid, Vec<u8>),
    Reply(Uuid, Vec<u8>),
    Cast(Vec<u8>),
}

struct Stage {
    ear: Side,
    instance: InstanceId,
    control: ControlEnd,
    guest: GuestEnd,
    /// What the guest keeps.
    keys: Keys,
    /// What the control plane keeps: all that there were, the newest at the end.
    stored: Vec<InstanceKey>,
    /// The number of the oldest that the control plane hears.
    oldest: u32,
    wire: Vec<Sent>,
    /// The last that was heard at each side.
    last: [Option<usize>; 2],
    texts: Vec<Vec<u8>>,
}

impl Stage {
    fn new(ear: Side) -> Self {
        let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1).unwrap());
        let keys = Keys::new(key.clone());
        Self {
            ear,
            instance,
            control: ControlEnd::new(instance, key.clone()),
            guest: GuestEnd::new(instance, keys.clone()).unwrap(),
            keys,
            stored: vec![key],
            oldest: 1,
            wire: Vec::new(),
            last: [None; 2],
            texts: Vec::new(),
        }
    }

    fn act(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 17 {
            0 => self.wake(),
            1 => self.offer(),
            2 => {
                let (kind, text) = (script.byte()?, script.bytes()?);
                if self.say(self.ear, kind & 2 == 0, text) && kind & 1 == 1 {
                    self.deliver(self.wire.len() - 1);
                }
            }
            3 => self.which(script)?.into_iter().for_each(|at| self.deliver(at)),
            4 => self.wire.iter().position(|sent| !sent.delivered).into_iter().for_each(|at| self.deliver(at)),
            5 => {
                if let Some(at) = self.which(script)? {
                    let Sent { to, frame, .. } = &self.wire[at];
                    let (back, frame) = (other(*to), frame.clone());
                    self.refused(back, &frame);
                }
            }
            6 => {
                let (which, place, by) = (self.which(script)?, script.number()?, script.byte()?);
                if let Some(at) = which {
                    let mut frame = self.wire[at].frame.clone();
                    let place = place % frame.len();
                    frame[place] ^= by.max(1);
                    self.refused(self.wire[at].to, &frame);
                }
            }
            7 => {
                let (which, length) = (self.which(script)?, script.number()?);
                if let Some(at) = which {
                    let mut frame = self.wire[at].frame.clone();
                    if length != frame.len() {
                        frame.resize(length, 0);
                        self.refused(self.wire[at].to, &frame);
                    }
                }
            }
            8 => {
                let frame = script.bytes()?;
                self.refused(self.ear, frame);
            }
            9 => {
                let (which, tail) = (self.which(script)?, script.bytes()?);
                if let Some(at) = which {
                    let Sent { to, frame, .. } = &self.wire[at];
                    let (to, forged) = (*to, [&frame[..HEADER_BYTES], tail].concat());
                    if forged != *frame {
                        self.refused(to, &forged);
                    }
                }
            }
            10 => self.guest = GuestEnd::new(self.instance, self.keys.clone()).unwrap(),
            11 => {
                self.control = ControlEnd::new(self.instance, self.newest());
                self.oldest = self.newest().id();
            }
            12 => {
                let number = self.newest().id() + 1;
                if number <= KEYS && self.oldest + 1 == number {
                    self.stored.push(InstanceKey::generate(number).unwrap());
                    self.keys.learn(self.newest());
                }
            }
            13 => self.control.learn(self.newest()),
            14 => {
                let newest = self.newest().id();
                if self.control.key_in_use() == Some(newest) {
                    self.control.forget_before(newest);
                    self.oldest = newest;
                }
            }
            15 => self.meet(),
            _ => {
                let what = script.byte()?;
                self.stranger(what);
            }
        }
        Some(())
    }

    fn which(&self, script: &mut Script<'_>) -> Option<Option<usize>> {
        let back = usize::from(script.byte()?);
        Some(self.wire.len().checked_sub(1).map(|last| last - back % (last + 1)))
    }

    fn newest(&self) -> InstanceKey {
        self.stored.last().unwrap().clone()
    }

    fn send(&mut self, to: Side, frame: Vec<u8>, says: Says) {
        self.wire.push(Sent { to, frame, says, delivered: false, heard: false });
    }

    fn wake(&mut self) {
        for wake in self.guest.wake().unwrap() {
            self.send(Side::Control, wake, Says::Wake);
        }
    }

    fn offer(&mut self) {
        let hello = self.control.offer().unwrap();
        self.send(Side::Guest, hello, Says::Hello);
    }

    /// False where there is no session to say it in.
    fn say(&mut self, to: Side, answers: bool, text: &[u8]) -> bool {
        let (id, said) = (Uuid::new_v4(), text.to_vec());
        let (frame, says) = match to {
            Side::Guest => (self.control.call(id, text), Says::Call(id, said)),
            Side::Control if answers => (self.guest.reply(id, text), Says::Reply(id, said)),
            Side::Control => (self.guest.cast(text), Says::Cast(said)),
        };
        let Ok(frame) = frame else { return false };
        self.send(to, frame, says);
        true
    }

    /// What an end makes of a frame, and has sent for it by then; nothing where it is refused.
    fn hear(&mut self, at: Side, frame: &[u8]) -> Option<Says> {
        match at {
            Side::Guest => Some(match self.guest.hear(frame).ok()? {
                FromControl::Offer(welcome) => {
                    self.send(Side::Control, welcome, Says::Welcome);
                    Says::Hello
                }
                FromControl::Confirmed => Says::Confirm,
                FromControl::Call(id, text) => Says::Call(id, text.to_vec()),
            }),
            Side::Control => Some(match self.control.hear(frame).ok()? {
                FromGuest::Awake(_) => {
                    self.offer();
                    Says::Wake
                }
                FromGuest::Welcome(_) => {
                    let confirm = self.control.confirm().unwrap();
                    self.send(Side::Guest, confirm, Says::Confirm);
                    Says::Welcome
                }
                FromGuest::Reply(id, text) => Says::Reply(id, text.to_vec()),
                FromGuest::Cast(text) => Says::Cast(text.to_vec()),
            }),
        }
    }

    /// Delivers a frame to whom it is for. Where it is heard it says what was said.
    fn deliver(&mut self, at: usize) {
        self.wire[at].delivered = true;
        let (to, frame) = (self.wire[at].to, self.wire[at].frame.clone());
        let Some(heard) = self.hear(to, &frame) else { return };
        let sent = &mut self.wire[at];
        assert_eq!(heard, sent.says);
        let again = std::mem::replace(&mut sent.heard, true);
        match heard {
            // These lead to nothing that their sender does not confirm.
            Says::Wake | Says::Hello => {}
            Says::Welcome | Says::Confirm => assert!(!again, "{heard:?} was heard twice"),
            Says::Call(_, text) | Says::Reply(_, text) | Says::Cast(text) => {
                let last = self.last[side(to)].replace(at);
                assert!(last.is_none_or(|last| last < at), "frame {at} was heard after frame {last:?}");
                if to == self.ear {
                    self.texts.push(text);
                }
            }
        }
    }

    fn refused(&mut self, at: Side, frame: &[u8]) {
        let heard = self.hear(at, frame);
        assert_eq!(heard, None, "what nobody sent was heard");
    }

    /// Agrees on a session without disturbance, and uses it.
    fn meet(&mut self) {
        self.offer();
        for _ in ["hello", "welcome", "confirm"] {
            let last = self.wire.len() - 1;
            self.deliver(last);
            assert!(self.wire[last].heard, "{:?} was not heard", self.wire[last].says);
        }
        for (to, answers) in [(Side::Guest, false), (Side::Control, true), (Side::Control, false)] {
            let known = self.texts.len();
            assert!(self.say(to, answers, b"{}"), "there is no session");
            let last = self.wire.len() - 1;
            self.deliver(last);
            assert!(self.wire[last].heard, "{:?} was not heard", self.wire[last].says);
            self.texts.truncate(known);
        }
        // From now on the guest is nobody's with an earlier key than the one that was used.
        let used = self.control.key_in_use().unwrap();
        for key in self.stored.clone() {
            if key.id() < used {
                let offer = ControlEnd::new(self.instance, key.clone()).offer().unwrap();
                self.refused(Side::Guest, &offer);
            }
            if key.id() < self.oldest {
                let thief = GuestEnd::new(self.instance, Keys::new(key)).unwrap();
                self.refused(Side::Control, &thief.wake().unwrap()[0]);
            }
        }
    }

    /// Others speak: another instance with its own key, and this one with a key that is not its own.
    fn stranger(&mut self, what: u8) {
        let own = what & 1 == 0;
        let mut other = Self::new(self.ear);
        if own {
            // The same instance, the same number, another key.
            other.instance = self.instance;
            other.stored = vec![InstanceKey::generate(self.newest().id()).unwrap()];
            other.keys = Keys::new(other.newest());
            other.control = ControlEnd::new(other.instance, other.newest());
            other.guest = GuestEnd::new(other.instance, other.keys.clone()).unwrap();
        }
        other.wake();
        other.meet();
        for Sent { to, frame, .. } in other.wire {
            self.refused(to, &frame);
        }
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Guest => Side::Control,
        Side::Control => Side::Guest,
    }
}

fn side(side: Side) -> usize {
    match side {
        Side::Guest => 0,
        Side::Control => 1,
    }
}
