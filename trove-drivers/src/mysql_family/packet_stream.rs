//! Protocol packets over a stream, with a budget for the bytes that are read.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The maximum length of a packet; longer ones are split.
const MAX_PACKET: usize = (1 << 24) - 1;

/// The size of a packet header: the length and the sequence number.
const HEADER: usize = 4;

/// A stream of packets.
#[derive(Debug)]
pub(super) struct PacketStream {
    stream: BufReader<UnixStream>,
    left: usize,
    sequence: u8,
}

impl PacketStream {
    /// Reads at most `budget` bytes in total.
    pub(super) fn new(stream: UnixStream, budget: usize) -> Self {
        Self { stream: BufReader::new(stream), left: budget, sequence: 0 }
    }

    /// Reads the next packet. One that claims to exceed the budget is an error before memory is
    /// allocated for it.
    pub(super) async fn read(&mut self) -> io::Result<Packet> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        self.left = self.left.checked_sub(HEADER + length).ok_or_else(over_budget)?;
        if length == MAX_PACKET {
            return Err(over_budget());
        }
        self.sequence = sequence.wrapping_add(1);
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        Ok(Packet { bytes, at: 0 })
    }

    /// Replies to the packet that was read last.
    pub(super) async fn reply(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= MAX_PACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a statement is too long"));
        }
        let [a, b, c, _] = u32::try_from(bytes.len()).map_err(|_| over_budget())?.to_le_bytes();
        let mut packet = vec![a, b, c, self.sequence];
        packet.extend_from_slice(bytes);
        self.stream.get_mut().write_all(&packet).await
    }

    /// Starts a new exchange with this packet.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sequence = 0;
        self.reply(bytes).await
    }
}

/// A packet that is being parsed.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    at: usize,
}

impl Packet {
    pub(super) fn first(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_read(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(count).ok_or_else(malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(malformed)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn rest(&mut self) -> &[u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    /// Reads a little-endian number of `count` bytes.
    pub(super) fn number(&mut self, count: usize) -> io::Result<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Reads a length-encoded number; `None` for NULL.
    pub(super) fn length(&mut self) -> io::Result<Option<u64>> {
        match self.number(1)? {
            0xfb => Ok(None),
            0xfc => self.number(2).map(Some),
            0xfd => self.number(3).map(Some),
            0xfe => self.number(8).map(Some),
            0xff => Err(malformed()),
            small => Ok(Some(small)),
        }
    }

    /// Reads a length-encoded text; `None` for NULL.
    pub(super) fn text(&mut self) -> io::Result<Option<String>> {
        let Some(length) = self.length()? else { return Ok(None) };
        let bytes = self.take(usize::try_from(length).map_err(|_| malformed())?)?;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the database server violated the protocol")
}

pub(super) fn over_budget() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the database server sent more data than allowed")
}
