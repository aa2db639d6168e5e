//! The sealed envelope: what makes a frame genuine.
//!
//! Everything a guest and the control plane say to each other is AES-256-GCM under a key that only the two have. There is
//! no plaintext form and no way to ask for one.
//!
//! The layout of a frame, its key and its nonce are told in [the page of this module](super#the-envelope).

#[cfg(test)]
mod tests;

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{InstanceKey, MAX_FRAME_BYTES, Side};
use crate::{
    error::{Error, Result},
    id::{GenericUuid, InstanceId},
};

const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 79;
const TAG_BYTES: usize = 16;

/// The longest text that fits into a frame, in bytes.
pub const MAX_TEXT_BYTES: usize = MAX_FRAME_BYTES - HEADER_BYTES - TAG_BYTES;

/// A random number that one side draws for one session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; 16]);

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A guest has no session.
    Wake,
    /// The control plane offers a session.
    Hello,
    /// A guest takes the offer.
    Welcome,
    /// The session stands.
    Confirm,
    /// A request, and its answer.
    Call,
    Reply,
    /// What is not answered.
    Cast,
}

/// Whose keys these are: an instance, a direction and the two numbers of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) instance: InstanceId,
    /// Who receives.
    pub(super) to: Side,
    pub(super) sender: Token,
    /// [`Token::NONE`] before a session.
    pub(super) receiver: Token,
}

/// What can be read of a frame without a key. Nothing of it is true before the frame was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) key: u32,
    pub(super) route: Route,
    pub(super) sequence: u64,
    pub(super) correlation: Uuid,
}

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is longer than a frame may be.
    TooLong,
    /// It is no frame of this version.
    Malformed,
    /// It is another instance's, or goes the other way.
    Misdirected,
    /// It names a key that there is not, or no longer.
    UnknownKey,
    /// It belongs to no session, or one that is over.
    NoSession,
    /// It was not sealed with the key that it names, or was changed.
    Forged,
    /// It was seen before, or comes after a later one.
    Replayed,
    /// It was opened, and nobody waits for what it says.
    Unexpected,
}

/// Seals the frames of one session in one direction.
pub(super) struct Sealer {
    cipher: Aes256Gcm,
    key: u32,
    route: Route,
    next: u64,
}

/// Opens them.
pub(super) struct Opener {
    cipher: Aes256Gcm,
    key: u32,
    route: Route,
    highest: u64,
}

impl Token {
    pub(super) const NONE: Self = Self([0; 16]);

    pub(super) fn draw() -> Result<Self> {
        let mut token = [0; 16];
        crate::secret::fill_random(&mut token)?;
        Ok(Self(token))
    }

    pub(super) fn as_uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }
}

impl Refusal {
    /// Every reason there is.
    pub const ALL: [Self; 8] = [
        Self::TooLong,
        Self::Malformed,
        Self::Misdirected,
        Self::UnknownKey,
        Self::NoSession,
        Self::Forged,
        Self::Replayed,
        Self::Unexpected,
    ];
}

impl Sealer {
    pub(super) fn new(key: &InstanceKey, route: Route) -> Result<Self> {
        Ok(Self { cipher: cipher(key, &route)?, key: key.id(), route, next: 1 })
    }

    /// The next frame.
    pub(super) fn seal(&mut self, kind: Kind, correlation: Uuid, text: &[u8]) -> Result<Vec<u8>> {
        if text.len() > MAX_TEXT_BYTES {
            let bytes = text.len();
            return Err(Error::invalid(format!("a message has at most {MAX_TEXT_BYTES} bytes; this one has {bytes}")));
        }
        let header = Header { kind, key: self.key, route: self.route, sequence: self.next, correlation }.to_bytes();
        // Before it is used: no failure lets a number be used twice.
        self.next += 1;
        let payload = Payload { msg: text, aad: &header };
        let sealed = self.cipher.encrypt(&nonce(self.next - 1), payload);
        let sealed = sealed.map_err(|_| Error::internal("a message could not be sealed"))?;
        Ok([header.as_slice(), &sealed].concat())
    }
}

impl Opener {
    pub(super) fn new(key: &InstanceKey, route: Route) -> Result<Self> {
        Ok(Self { cipher: cipher(key, &route)?, key: key.id(), route, highest: 0 })
    }

    /// What is in a frame of this session and direction.
    pub(super) fn open(&mut self, frame: &[u8]) -> std::result::Result<(Header, Zeroizing<Vec<u8>>), Refusal> {
        let header = Header::read(frame)?;
        let route = header.route;
        if route.instance != self.route.instance || route.to != self.route.to {
            return Err(Refusal::Misdirected);
        }
        if header.key != self.key {
            return Err(Refusal::UnknownKey);
        }
        if (route.sender, route.receiver) != (self.route.sender, self.route.receiver) {
            return Err(Refusal::NoSession);
        }
        let payload = Payload { msg: &frame[HEADER_BYTES..], aad: &frame[..HEADER_BYTES] };
        let text = self.cipher.decrypt(&nonce(header.sequence), payload).map_err(|_| Refusal::Forged)?;
        if header.sequence <= self.highest {
            return Err(Refusal::Replayed);
        }
        self.highest = header.sequence;
        Ok((header, Zeroizing::new(text)))
    }
}

impl Header {
    /// What a frame says of itself.
    pub(super) fn read(frame: &[u8]) -> std::result::Result<Self, Refusal> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(Refusal::TooLong);
        }
        let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Refusal::Malformed)?;
        if header[0] != VERSION || rest.len() < TAG_BYTES {
            return Err(Refusal::Malformed);
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == header[1]).ok_or(Refusal::Malformed)?;
        let to = [Side::Guest, Side::Control].into_iter().find(|side| code(*side) == header[2]);
        let route = Route {
            instance: InstanceId::from_untyped_uuid(Uuid::from_bytes(part(header, 7))),
            to: to.ok_or(Refusal::Malformed)?,
            sender: Token(part(header, 23)),
            receiver: Token(part(header, 39)),
        };
        Ok(Self {
            kind,
            key: u32::from_be_bytes(part(header, 3)),
            route,
            sequence: u64::from_be_bytes(part(header, 55)),
            correlation: Uuid::from_bytes(part(header, 63)),
        })
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..3].copy_from_slice(&[VERSION, self.kind.code(), code(self.route.to)]);
        bytes[3..7].copy_from_slice(&self.key.to_be_bytes());
        bytes[7..23].copy_from_slice(self.route.instance.as_untyped_uuid().as_bytes());
        bytes[23..39].copy_from_slice(&self.route.sender.0);
        bytes[39..55].copy_from_slice(&self.route.receiver.0);
        bytes[55..63].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[63..].copy_from_slice(self.correlation.as_bytes());
        bytes
    }
}

impl Kind {
    const ALL: [Self; 7] = [Self::Wake, Self::Hello, Self::Welcome, Self::Confirm, Self::Call, Self::Reply, Self::Cast];

    fn code(self) -> u8 {
        self as u8
    }
}

fn code(side: Side) -> u8 {
    match side {
        Side::Guest => 0,
        Side::Control => 1,
    }
}

/// `N` bytes of a header from this one on.
fn part<const N: usize>(header: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&header[from..from + N]);
    part
}

fn cipher(key: &InstanceKey, route: &Route) -> Result<Aes256Gcm> {
    let salt = [route.sender.0, route.receiver.0].concat();
    let (direction, id) = ([code(route.to)], key.id().to_be_bytes());
    let mut subkey = Zeroizing::new([0; 32]);
    let derived = Hkdf::<Sha256>::new(Some(&salt), key.bytes());
    let info: [&[u8]; 4] = [b"trove rpc 1", &direction, &id, route.instance.as_untyped_uuid().as_bytes()];
    let expanded = derived.expand_multi_info(&info, subkey.as_mut_slice());
    expanded.map_err(|_| Error::internal("a session's key could not be derived"))?;
    Ok(Aes256Gcm::new((&*subkey).into()))
}

fn nonce(sequence: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::from(nonce)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_uuid())
    }
}
