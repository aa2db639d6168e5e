//! A stream with a budget for the bytes that a server may send.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

/// The type and the length at the start of every message of a server.
const HEADER: usize = 5;

/// A stream from which at most `budget` bytes are read.
///
/// The client allocates memory for the length that a message's header claims, and waits for its
/// end. So a header that claims more than the remaining budget ends the connection before the
/// client sees it.
#[derive(Debug)]
pub(super) struct ByteLimitedStream {
    stream: UnixStream,
    left: usize,
    header: Vec<u8>,
    /// The remaining length of the message that is being read.
    body: usize,
}

impl ByteLimitedStream {
    pub(super) fn new(stream: UnixStream, budget: usize) -> Self {
        Self { stream, left: budget, header: Vec::with_capacity(HEADER), body: 0 }
    }

    /// Accounts for the bytes read; an error if they exceed the budget or claim to.
    fn count(&mut self, mut read: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(read.len()).ok_or_else(over_budget)?;
        while !read.is_empty() {
            if self.body > 0 {
                let skipped = self.body.min(read.len());
                self.body -= skipped;
                read = &read[skipped..];
                continue;
            }
            let (head, rest) = read.split_at((HEADER - self.header.len()).min(read.len()));
            self.header.extend_from_slice(head);
            read = rest;
            if let [_, length @ ..] = self.header.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                // The length includes itself. The client refuses a shorter one.
                self.body = usize::try_from(u32::from_be_bytes(length)).map_err(|_| over_budget())?.saturating_sub(4);
                self.header.clear();
                if self.body > self.left + read.len() {
                    return Err(over_budget());
                }
            }
        }
        Ok(())
    }
}

fn over_budget() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the database server sent more data than allowed")
}

impl AsyncRead for ByteLimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.count(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for ByteLimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::{Config, NoTls};

    use super::*;

    const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

    #[tokio::test]
    async fn bytes_within_the_budget_are_passed_in_any_chunks() {
        for piece in 1..GREETING.len() {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut metered = ByteLimitedStream::new(near, GREETING.len());
            for part in GREETING.chunks(piece) {
                far.write_all(part).await.unwrap();
                let mut read = vec![0; part.len()];
                metered.read_exact(&mut read).await.unwrap();
                assert_eq!(read, part);
            }
            far.write_all(b"Z").await.unwrap();
            assert_eq!(metered.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn oversized_messages_end_the_session() {
        let endless = b"D\x7f\xff\xff\xff\0\x01".to_vec();
        let many = b"N\0\0\0\x05\0".repeat(1 << 16);
        for flood in [endless, many] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let server = tokio::spawn(async move {
                let mut heard = [0; 256];
                assert!(far.read(&mut heard).await.unwrap() > 0);
                far.write_all(GREETING).await.unwrap();
                assert!(far.read(&mut heard).await.unwrap() > 0);
                let mut written = 0_usize;
                while far.write_all(&flood).await.is_ok() {
                    written += flood.len();
                }
                written
            });
            let mut config = Config::new();
            config.user("x");
            let (client, connection) = config.connect_raw(ByteLimitedStream::new(near, 1 << 16), NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            assert!(client.simple_query("SELECT 1").await.is_err());
            assert!(connection.await.unwrap().is_err());
            let written = server.await.unwrap();
            assert!(written < 1 << 20, "{written}");
        }
    }
}
