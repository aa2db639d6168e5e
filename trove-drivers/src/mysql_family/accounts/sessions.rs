//! Sessions of clients, and how they are ended.

use std::time::Duration;

use tokio::time::sleep;
use trove_core::error::{Error, Result};

use crate::mysql_family::{AdminSession, connection::is_administrator};

/// How often, and at which interval, the server is checked for sessions that have not ended yet.
const CHECKS: u32 = 50;
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// `ER_NO_SUCH_THREAD`
const NO_SUCH_SESSION: [u16; 1] = [1094];

/// A session of a client.
#[derive(Debug)]
pub(super) struct ClientSession {
    id: u64,
    is_administrator: bool,
    pub(super) user: String,
    /// False for the socket and for the server's own threads.
    pub(super) is_remote: bool,
    pub(super) database: Option<String>,
}

/// Kills the sessions that `matches` selects, and waits until they have ended.
pub(super) async fn end_sessions(
    session: &mut AdminSession,
    matches: impl Fn(&ClientSession) -> bool + Send,
) -> Result<()> {
    for _ in 0..CHECKS {
        let found = client_sessions(session).await?;
        let found: Vec<_> = found.iter().filter(|client| !client.is_administrator && matches(client)).collect();
        if found.is_empty() {
            return Ok(());
        }
        for client in found {
            session.run_ignoring(&NO_SUCH_SESSION, &format!("KILL {}", client.id)).await?;
        }
        sleep(CHECK_INTERVAL).await;
    }
    Err(Error::busy("sessions of the database server do not end"))
}

async fn client_sessions(session: &mut AdminSession) -> Result<Vec<ClientSession>> {
    let rows = session.rows("SHOW PROCESSLIST").await?.into_iter().filter_map(|mut row| {
        let is_administrator = is_administrator(&row);
        let mut take = |at: usize| row.get_mut(at).and_then(Option::take);
        let (id, user, host, database) = (take(0)?, take(1)?, take(2)?, take(3));
        let is_remote = !["", "localhost", "connecting host"].contains(&host.as_str());
        Some(ClientSession { id: id.parse().ok()?, is_administrator, user, is_remote, database })
    });
    Ok(rows.collect())
}
