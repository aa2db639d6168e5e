//! An independent implementation of the frame format of `rpc/envelope.rs`.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;

pub const HEADER_BYTES: usize = 79;

pub const TO_GUEST: u8 = 0;
pub const TO_CONTROL: u8 = 1;

pub const WAKE: u8 = 0;
pub const HELLO: u8 = 1;
pub const WELCOME: u8 = 2;
pub const CONFIRM: u8 = 3;
pub const CALL: u8 = 4;
pub const REPLY: u8 = 5;
pub const CAST: u8 = 6;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub direction: u8,
    pub key: u32,
    pub instance: Uuid,
    pub sender: [u8; 16],
    pub receiver: [u8; 16],
    pub sequence: u64,
    pub correlation: Uuid,
}

impl Frame {
    /// Parses the header of a frame.
    pub fn read(frame: &[u8]) -> Self {
        Self {
            kind: frame[1],
            direction: frame[2],
            key: u32::from_be_bytes(part(frame, 3)),
            instance: Uuid::from_bytes(part(frame, 7)),
            sender: part(frame, 23),
            receiver: part(frame, 39),
            sequence: u64::from_be_bytes(part(frame, 55)),
            correlation: Uuid::from_bytes(part(frame, 63)),
        }
    }

    /// Returns a header for the opposite direction in the same session.
    pub fn back(self) -> Self {
        let direction = if self.direction == TO_GUEST { TO_CONTROL } else { TO_GUEST };
        Self { direction, sender: self.receiver, receiver: self.sender, ..self }
    }

    /// Returns the frame sealed with this key.
    pub fn seal(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let header = self.header();
        let sealed = self.cipher(key).encrypt(&self.nonce(), Payload { msg: text, aad: &header }).unwrap();
        [header, sealed].concat()
    }

    /// Returns the content of a frame that was sealed with this key.
    pub fn open(key: &[u8], frame: &[u8]) -> Option<Vec<u8>> {
        let (header, text) = frame.split_at_checked(HEADER_BYTES)?;
        let read = Self::read(header);
        read.cipher(key).decrypt(&read.nonce(), Payload { msg: text, aad: header }).ok()
    }

    fn header(&self) -> Vec<u8> {
        let mut header = vec![1, self.kind, self.direction];
        header.extend(self.key.to_be_bytes());
        header.extend(self.instance.as_bytes());
        header.extend(self.sender);
        header.extend(self.receiver);
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.correlation.as_bytes());
        header
    }

    fn cipher(&self, key: &[u8]) -> Aes256Gcm {
        let salt = [self.sender, self.receiver].concat();
        let info = [b"trove rpc 1", &[self.direction][..], &self.key.to_be_bytes(), self.instance.as_bytes()].concat();
        let mut subkey = [0; 32];
        Hkdf::<Sha256>::new(Some(&salt), key).expand(&info, &mut subkey).unwrap();
        Aes256Gcm::new(&subkey.into())
    }

    fn nonce(&self) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        nonce.into()
    }
}

fn part<const N: usize>(frame: &[u8], from: usize) -> [u8; N] {
    frame[from..from + N].try_into().unwrap()
}
