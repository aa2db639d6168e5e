//! The part of MySQL's protocol that the administrator needs: authentication by the socket, and
//! statements as text.
//!
//! A client library would open the socket by its path and read as much as the server sends. This
//! one is given a checked socket, knows no password, sends no files, runs one statement at a time,
//! and limits what it reads and what the rows of an answer take in memory.

use std::io;

use tokio::net::UnixStream;

use super::{
    packet_stream::{Packet, PacketStream, malformed, over_budget},
    server_error::ServerError,
};

/// Protocol 4.1 with transactions and pluggable authentication, nothing else.
const CAPABILITIES: u32 = 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0008_0000;

/// `utf8mb4_general_ci`, which every version supports.
const UTF8MB4: u8 = 45;

/// How often a server may request another authentication method.
const ROUNDS: usize = 4;

const COM_QUERY: u8 = 3;
const OK: u8 = 0;
const FILE: u8 = 0xfb;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;

/// The maximum memory that the rows of one answer take. A NULL is one byte on the wire and takes
/// many times as much here.
const ANSWER_BYTES: usize = 4 << 20;

/// The maximum length of a server's message that is kept.
const MESSAGE_CHARS: usize = 300;

/// A row of a result: texts, and `None` for NULL.
pub(crate) type Row = Vec<Option<String>>;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    packets: PacketStream,
}

impl Client {
    /// Logs in with the credentials of the socket. The budget limits the bytes read in the whole
    /// session.
    pub(super) async fn login(stream: UnixStream, user: &str, budget: usize) -> Result<Self, ServerError> {
        let mut packets = PacketStream::new(stream, budget);
        let greeting = packets.read().await?;
        match greeting.first() {
            Some(ERROR) => return Err(refused(greeting)?),
            Some(10) => {}
            _ => return Err(malformed().into()),
        }
        packets.reply(&response(user)).await?;
        for _ in 0..ROUNDS {
            let packet = packets.read().await?;
            match packet.first() {
                Some(OK) => return Ok(Self { packets }),
                Some(ERROR) => return Err(refused(packet)?),
                // Another authentication method than the one offered: none of them needs data.
                Some(END) => packets.reply(&[]).await?,
                _ => return Err(malformed().into()),
            }
        }
        Err(malformed().into())
    }

    /// Runs one statement and returns its rows. The connection is unusable after
    /// [`ServerError::Connection`].
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, ServerError> {
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(sql.as_bytes());
        self.packets.send(&command).await?;
        let mut packet = self.packets.read().await?;
        match packet.first() {
            Some(OK) => return Ok(Vec::new()),
            Some(ERROR) => return Err(refused(packet)?),
            Some(FILE) | None => return Err(malformed().into()),
            _ => {}
        }
        let columns = packet.length()?.ok_or_else(malformed)?;
        for _ in 0..columns {
            self.packets.read().await?;
        }
        if !is_end(&self.packets.read().await?) {
            return Err(malformed().into());
        }
        let (mut rows, mut left) = (Vec::new(), ANSWER_BYTES);
        loop {
            let packet = self.packets.read().await?;
            match packet.first() {
                Some(ERROR) => return Err(refused(packet)?),
                _ if is_end(&packet) => return Ok(rows),
                _ => {
                    spend(&mut left, size_of::<Row>())?;
                    rows.push(row(packet, columns, &mut left)?);
                }
            }
        }
    }
}

/// Parses a row, whose memory is deducted from `left`.
fn row(mut packet: Packet, columns: u64, left: &mut usize) -> io::Result<Row> {
    let mut row = Vec::new();
    while !packet.is_read() {
        if u64::try_from(row.len()).is_ok_and(|count| count >= columns) {
            return Err(malformed());
        }
        let value = packet.text()?;
        spend(left, size_of::<Option<String>>() + value.as_ref().map_or(0, String::len))?;
        row.push(value);
    }
    // A missing value would be taken for NULL.
    if u64::try_from(row.len()).ok() == Some(columns) { Ok(row) } else { Err(malformed()) }
}

fn spend(left: &mut usize, bytes: usize) -> io::Result<()> {
    *left = left.checked_sub(bytes).ok_or_else(over_budget)?;
    Ok(())
}

fn is_end(packet: &Packet) -> bool {
    packet.first() == Some(END) && packet.len() < 9
}

fn response(user: &str) -> Vec<u8> {
    let mut bytes = CAPABILITIES.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    bytes.push(UTF8MB4);
    bytes.extend_from_slice(&[0; 23]);
    bytes.extend_from_slice(user.as_bytes());
    // The end of the name, an empty authentication response, and its method.
    bytes.extend_from_slice(b"\0\0mysql_native_password\0");
    bytes
}

fn refused(mut packet: Packet) -> io::Result<ServerError> {
    packet.take(1)?;
    let code = u16::try_from(packet.number(2)?).map_err(|_| malformed())?;
    let text = String::from_utf8_lossy(packet.rest()).into_owned();
    // Before the handshake, errors have no SQLSTATE.
    let message = text.strip_prefix('#').and_then(|text| text.get(5..)).unwrap_or(&text);
    let message = message.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS).collect();
    Ok(ServerError::Refused { code, message })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn packet(sequence: u8, bytes: &[u8]) -> Vec<u8> {
        let mut packet = vec![u8::try_from(bytes.len() % 256).unwrap(), u8::try_from(bytes.len() / 256).unwrap(), 0];
        packet.push(sequence);
        packet.extend_from_slice(bytes);
        packet
    }

    /// Plays a server that sends each of these after it was spoken to, and repeats the last one if
    /// it floods.
    async fn against(says: Vec<Vec<u8>>, flood: bool, budget: usize) -> Result<Vec<Row>, ServerError> {
        let (near, mut far) = UnixStream::pair().unwrap();
        let server = tokio::spawn(async move {
            let last = says.last().cloned().unwrap();
            for (turn, bytes) in says.into_iter().enumerate() {
                if turn > 0 && far.read(&mut [0; 512]).await.unwrap_or(0) == 0 {
                    return;
                }
                if far.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            while flood && far.write_all(&last).await.is_ok() {}
        });
        let done = async {
            let mut client = Client::login(near, "someone", budget).await?;
            client.query("SELECT 1").await
        };
        let done = done.await;
        server.await.unwrap();
        done
    }

    fn greeting() -> Vec<u8> {
        packet(0, b"\x0a9.7\0\x01\0\0\0")
    }

    fn ok() -> Vec<u8> {
        packet(2, &[0; 7])
    }

    #[tokio::test]
    async fn rows_and_errors_are_parsed() {
        let answer = [
            packet(1, b"\x02"),
            packet(2, b"any"),
            packet(3, b"thing"),
            packet(4, b"\xfe\0\0\0\0"),
            packet(5, b"\x02ab\xfb"),
            packet(6, b"\xfe\0\0\0\0"),
        ];
        let rows = against(vec![greeting(), ok(), answer.concat()], false, 1 << 16).await.unwrap();
        assert_eq!(rows, [vec![Some("ab".to_owned()), None]]);
        let other_way = packet(2, b"\xfeunix_socket\0");
        assert!(against(vec![greeting(), other_way, ok(), ok()], false, 1 << 16).await.unwrap().is_empty());
        for says in [
            vec![packet(0, b"\xff\x10\x04Too many")],
            vec![greeting(), packet(2, b"\xff\x10\x04#08004Too many")],
            vec![greeting(), ok(), packet(1, b"\xff\x10\x04#08004Too many")],
        ] {
            let failure = against(says, false, 1 << 16).await.unwrap_err();
            assert!(
                matches!(&failure, ServerError::Refused { code: 1040, message } if message == "Too many"),
                "{failure:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_memory_of_an_answer_is_bounded() {
        let nulls = vec![0xfb; 60_000];
        let header = [packet(1, b"\xfc\x60\xea"), (0..60_000).flat_map(|_| packet(0, b"c")).collect()].concat();
        let says = |rows: usize| {
            let rows = (0..rows).flat_map(|_| packet(0, &nulls)).collect();
            let end = packet(0, b"\xfe\0\0\0\0");
            vec![greeting(), ok(), [header.clone(), end.clone(), rows, end].concat()]
        };
        assert_eq!(against(says(2), false, 1 << 24).await.unwrap().len(), 2);
        let failure = against(says(3), false, 1 << 24).await.unwrap_err();
        assert!(matches!(failure, ServerError::Connection(_)), "{failure:?}");
    }

    #[tokio::test]
    async fn protocol_violations_end_the_connection() {
        for says in [
            vec![packet(0, b"")],
            vec![packet(0, b"\x09old")],
            vec![b"\xff\xff\xff\0".to_vec()],
            vec![greeting(), packet(2, b"\x01\x02")],
            vec![greeting(), ok(), packet(1, b"\xfb/etc/passwd")],
            vec![greeting(), ok(), packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff")],
            vec![
                greeting(),
                ok(),
                [packet(1, b"\x01"), packet(2, b"c"), packet(3, b"\xfe\0\0\0\0"), packet(4, b"\x01a")].concat(),
            ],
            vec![
                greeting(),
                ok(),
                [packet(1, b"\x01"), packet(2, b"c"), packet(3, b"\xfe\0\0\0\0"), packet(4, b"\x09a")].concat(),
            ],
            vec![
                greeting(),
                ok(),
                [packet(1, b"\x01"), packet(2, b"c"), packet(3, b"\xfe\0\0\0\0"), packet(4, b"\xfb\xfb")].concat(),
            ],
        ] {
            let failure = against(says.clone(), true, 1 << 16).await.unwrap_err();
            assert!(matches!(failure, ServerError::Connection(_)), "{says:?}: {failure:?}");
        }
        let again = packet(2, b"\xfemysql_clear_password\0");
        let ways = vec![greeting(), again.clone(), again.clone(), again.clone(), again];
        assert!(matches!(against(ways, false, 1 << 16).await, Err(ServerError::Connection(_))));
    }
}
