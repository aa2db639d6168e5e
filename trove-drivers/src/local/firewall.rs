//! The packet filter of a platform: an nftables table that isolates its servers.
//!
//! Clients reach a server through its published port, and the server answers them. Everything else
//! is dropped: connections that a server initiates, to other networks, to this machine or to a
//! metadata service, and packets that reach a server by a route instead of its published port, or
//! the published port of a private one from another machine, as Docker before version 28 allows.

use std::{
    io::{self, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use trove_core::error::{Error, Result};

use crate::docker::interface_name;

/// How long `nft` may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The longest comment of a table.
const MAX_COMMENT: usize = 127;

/// The table of one platform, if this process can manage it. Everything here blocks.
#[derive(Debug)]
pub(super) struct Firewall {
    table: String,
    interface: String,
    /// The comment of the table: the directory of the platform.
    comment: String,
    enabled: bool,
}

impl Firewall {
    /// Builds the table of a platform that has instances, and removes the one of a platform that has
    /// none. Warns if this machine has no packet filter or this process may not use it.
    pub(super) fn open(network: &str, root: &Path, has_instances: bool) -> Result<Self> {
        let (table, interface) = (network.to_owned(), interface_name(network));
        let mut firewall = Self { table, interface, comment: comment(root), enabled: true };
        match run(&if has_instances { firewall.rebuild() } else { firewall.removal() }) {
            Ok(_) => {}
            Err(error) if is_permanent(&error) => {
                tracing::warn!(
                    %error,
                    "database servers are not isolated: they can reach other hosts and this one, and neighbors on \
                     the network can reach private ones; filtering packets needs root and nft"
                );
                firewall.enabled = false;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(firewall)
    }

    /// Ensures that the table is there and complete.
    pub(super) fn ensure(&self) -> Result<()> {
        self.apply(&self.rebuild()).map(drop)
    }

    /// Removes the table. An absent one is `Ok`.
    pub(super) fn remove(&self) -> Result<()> {
        self.apply(&self.removal()).map(drop)
    }

    /// Returns the name of the table if it exists.
    pub(super) fn found(&self) -> Result<Option<&str>> {
        let tables = self.apply("list tables inet\n")?;
        let is_ours = |line: &str| line.split_whitespace().next_back() == Some(self.table.as_str());
        Ok(tables.lines().any(is_ours).then_some(self.table.as_str()))
    }

    /// Returns the commands that replace the table. Other tables decide further about what it accepts.
    fn rebuild(&self) -> String {
        let Self { table, interface, comment, .. } = self;
        let removal = self.removal();
        format!(
            "{removal}\
             table inet {table} {{\n\
                 {comment}\n\
                 chain forward {{\n\
                     type filter hook forward priority filter - 10; policy accept;\n\
                     iifname {interface} ct direction reply ct state established,related accept\n\
                     iifname {interface} counter drop\n\
                     oifname {interface} ct state related accept\n\
                     oifname {interface} ct original ip daddr 127.0.0.0/8 counter drop\n\
                     oifname {interface} ct status dnat accept\n\
                     oifname {interface} counter drop\n\
                 }}\n\
                 chain input {{\n\
                     type filter hook input priority filter - 10; policy accept;\n\
                     iifname {interface} ct direction reply ct state established,related accept\n\
                     iifname {interface} counter drop\n\
                 }}\n\
             }}\n"
        )
    }

    /// Returns the commands that remove the table, also if it is absent.
    fn removal(&self) -> String {
        let table = &self.table;
        format!("add table inet {table}\ndelete table inet {table}\n")
    }

    /// Runs `nft` with commands that take effect together or not at all, and returns its output.
    fn apply(&self, commands: &str) -> Result<String> {
        if self.enabled { run(commands).map_err(failed) } else { Ok(String::new()) }
    }
}

fn failed(error: io::Error) -> Error {
    Error::unavailable("could not run the packet filter's `nft`").with_source(error)
}

/// Returns true if `nft` is absent, or cannot filter packets whenever it is run by this process.
fn is_permanent(error: &io::Error) -> bool {
    let message = error.to_string();
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || ["not permitted", "not supported"].iter().any(|reason| message.contains(reason))
}

/// Returns the comment of a table with this directory, if the directory can be quoted.
fn comment(root: &Path) -> String {
    let is_plain =
        |text: &&str| text.len() <= MAX_COMMENT && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    root.to_str().filter(is_plain).map(|root| format!("comment \"{root}\"")).unwrap_or_default()
}

fn run(commands: &str) -> io::Result<String> {
    let mut nft = Command::new("nft");
    nft.args(["--file", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn()?;
    let ended = feed_and_wait(&mut child, commands);
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output()?;
    ended?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft: {}", message.lines().next().unwrap_or("failed without a message"))))
}

/// Waits until the process has ended.
fn feed_and_wait(child: &mut Child, commands: &str) -> io::Result<()> {
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let since = Instant::now();
    while child.try_wait()?.is_none() {
        if since.elapsed() > TIMEOUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nft did not end in time"));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_cannot_add_commands() {
        assert_eq!(comment(Path::new("/var/lib/databases")), "comment \"/var/lib/databases\"");
        for path in ["/a b", "/a\"; }", "/a\n}", &"/long".repeat(100)] {
            assert_eq!(comment(Path::new(path)), "", "{path}");
        }
    }
}
