use std::{io, time::Duration};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use trove_core::error::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer in bytes. Who gives it is not trusted.
const LONGEST: u64 = 16 << 20;

/// A session with a server.
pub struct Client<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Client<S> {
    /// The session of nobody yet.
    pub fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Has the server do something, and returns the values of its answer one after another, lists laid flat and nil left
    /// out. What it refuses is [`Invalid`](trove_core::error::Kind::Invalid), in its words; any other error ends the session.
    pub async fn call(&mut self, words: &[&str]) -> Result<Vec<String>> {
        let lines = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let request = format!("*{}\r\n{}", words.len(), lines.collect::<String>());
        let exchange = async {
            self.0.write_all(request.as_bytes()).await?;
            read(&mut (&mut self.0).take(LONGEST)).await
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|late| Err(late.into()));
        let broken = |error| Error::unavailable("the session with the server broke off").because(error);
        answer.map_err(broken)?.map_err(Error::invalid)
    }
}

async fn read(from: &mut (impl AsyncBufRead + Send + Unpin)) -> io::Result<Result<Vec<String>, String>> {
    let (mut values, mut refusal, mut pending) = (Vec::new(), None, 1u64);
    while pending > 0 {
        pending -= 1;
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        match (kind, rest.parse::<u64>()) {
            ("+" | ":", _) => values.push(rest.to_owned()),
            ("-", _) => refusal = refusal.or(Some(rest.to_owned())),
            ("*", Ok(count)) => pending = pending.saturating_add(count),
            ("$", Ok(length)) => {
                let mut text = Vec::new();
                from.take(length.saturating_add(2)).read_to_end(&mut text).await?;
                let text = text.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
                values.push(String::from_utf8_lossy(text).into_owned());
            }
            _ if rest == "-1" => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(refusal.map_or(Ok(values), Err))
}
