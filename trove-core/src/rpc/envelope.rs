//! The sealed envelope: encryption and authentication of frames.
//!
//! Each message between a guest and the control plane is encrypted with AES-256-GCM under a key
//! that only those two have. There is no plaintext mode.
//!
//! [The documentation of `rpc`](super#the-envelope) specifies the layout of a frame, its key and
//! its nonce.

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

/// The maximum size of the payload of a frame, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES - HEADER_BYTES - TAG_BYTES;

/// A random number that one side generates for one session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; 16]);

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A guest announces that it has no session.
    Wake,
    /// The control plane offers a session.
    Hello,
    /// A guest accepts the offer.
    Welcome,
    /// The control plane confirms the session.
    Confirm,
    /// A request.
    Call,
    /// The response to a request.
    Reply,
    /// A message without a response.
    Notification,
}

/// The input from which a session key is derived: an instance, a direction and the tokens of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) instance: InstanceId,
    /// The side that receives.
    pub(super) to: Side,
    pub(super) sender: Token,
    /// [`Token::NONE`] outside of a session.
    pub(super) receiver: Token,
}

/// The part of a frame that is not encrypted. It is not trusted until the frame has been opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) key: u32,
    pub(super) route: Route,
    pub(super) sequence: u64,
    pub(super) correlation: Uuid,
}

/// The reason why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The frame exceeds [`MAX_FRAME_BYTES`].
    TooLong,
    /// The bytes are not a frame of this version.
    Malformed,
    /// The frame is for another instance, or for the other direction.
    Misdirected,
    /// The key that the frame names does not exist, or no longer.
    UnknownKey,
    /// The frame belongs to no session, or to one that has ended.
    NoSession,
    /// Authentication failed: the frame was sealed with another key, or modified.
    Forged,
    /// The frame was received before, or follows one that was sent after it.
    Replayed,
    /// The frame is authentic, but nothing waits for it.
    Unexpected,
}

/// Seals the frames of one session in one direction.
pub(super) struct Sealer {
    cipher: Aes256Gcm,
    key: u32,
    route: Route,
    next: u64,
}

/// Opens the frames of one session in one direction.
pub(super) struct Opener {
    cipher: Aes256Gcm,
    key: u32,
    route: Route,
    highest: u64,
}

impl Token {
    pub(super) const NONE: Self = Self([0; 16]);

    pub(super) fn generate() -> Result<Self> {
        let mut token = [0; 16];
        crate::secret::fill_random(&mut token)?;
        Ok(Self(token))
    }

    pub(super) fn as_uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }
}

impl DropReason {
    /// All reasons.
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

    /// Seals the next frame.
    pub(super) fn seal(&mut self, kind: FrameKind, correlation: Uuid, payload: &[u8]) -> Result<Vec<u8>> {
        let bytes = payload.len();
        if bytes > MAX_PAYLOAD_BYTES {
            let message = format!("a message of {bytes} bytes exceeds the limit of {MAX_PAYLOAD_BYTES} bytes");
            return Err(Error::invalid(message));
        }
        let header = Header { kind, key: self.key, route: self.route, sequence: self.next, correlation }.to_bytes();
        // Incremented before its use, so that no failure makes a nonce repeat.
        self.next += 1;
        let sealed = self.cipher.encrypt(&nonce(self.next - 1), Payload { msg: payload, aad: &header });
        let sealed = sealed.map_err(|_| Error::internal("could not encrypt a message"))?;
        Ok([header.as_slice(), &sealed].concat())
    }
}

impl Opener {
    pub(super) fn new(key: &InstanceKey, route: Route) -> Result<Self> {
        Ok(Self { cipher: cipher(key, &route)?, key: key.id(), route, highest: 0 })
    }

    /// Authenticates and decrypts a frame of this session and direction.
    pub(super) fn open(&mut self, frame: &[u8]) -> std::result::Result<(Header, Zeroizing<Vec<u8>>), DropReason> {
        let header = Header::read(frame)?;
        let route = header.route;
        if route.instance != self.route.instance || route.to != self.route.to {
            return Err(DropReason::Misdirected);
        }
        if header.key != self.key {
            return Err(DropReason::UnknownKey);
        }
        if (route.sender, route.receiver) != (self.route.sender, self.route.receiver) {
            return Err(DropReason::NoSession);
        }
        let payload = Payload { msg: &frame[HEADER_BYTES..], aad: &frame[..HEADER_BYTES] };
        let payload = self.cipher.decrypt(&nonce(header.sequence), payload).map_err(|_| DropReason::Forged)?;
        if header.sequence <= self.highest {
            return Err(DropReason::Replayed);
        }
        self.highest = header.sequence;
        Ok((header, Zeroizing::new(payload)))
    }
}

impl Header {
    /// Parses the header of a frame.
    pub(super) fn read(frame: &[u8]) -> std::result::Result<Self, DropReason> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(DropReason::TooLong);
        }
        let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(DropReason::Malformed)?;
        if header[0] != VERSION || rest.len() < TAG_BYTES {
            return Err(DropReason::Malformed);
        }
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.code() == header[1]).ok_or(DropReason::Malformed)?;
        let to = [Side::Guest, Side::Control].into_iter().find(|side| code(*side) == header[2]);
        let route = Route {
            instance: InstanceId::from_untyped_uuid(Uuid::from_bytes(field(header, 7))),
            to: to.ok_or(DropReason::Malformed)?,
            sender: Token(field(header, 23)),
            receiver: Token(field(header, 39)),
        };
        Ok(Self {
            kind,
            key: u32::from_be_bytes(field(header, 3)),
            route,
            sequence: u64::from_be_bytes(field(header, 55)),
            correlation: Uuid::from_bytes(field(header, 63)),
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

impl FrameKind {
    const ALL: [Self; 7] =
        [Self::Wake, Self::Hello, Self::Welcome, Self::Confirm, Self::Call, Self::Reply, Self::Notification];

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

/// Returns the `N` bytes of a header at this offset.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[offset..offset + N]);
    field
}

fn cipher(key: &InstanceKey, route: &Route) -> Result<Aes256Gcm> {
    let salt = [route.sender.0, route.receiver.0].concat();
    let (direction, id) = ([code(route.to)], key.id().to_be_bytes());
    let mut subkey = Zeroizing::new([0; 32]);
    let derived = Hkdf::<Sha256>::new(Some(&salt), key.bytes());
    let info: [&[u8]; 4] = [b"trove rpc 1", &direction, &id, route.instance.as_untyped_uuid().as_bytes()];
    let expanded = derived.expand_multi_info(&info, subkey.as_mut_slice());
    expanded.map_err(|_| Error::internal("could not derive a session key"))?;
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
