//! A child process that executes requests. Requests on its standard input and responses on its
//! standard output are lines of JSON.

use std::process::Stdio;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use trove_benches::Result;

use crate::{MessageKind, Side, load::Load};

/// A request to a child process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Returns the CPU time of the process in seconds.
    CpuTime,
    /// Sends messages and returns a [`LoadResult`](crate::load::LoadResult).
    Run { side: Side, kind: MessageKind, load: Load },
    /// Returns the number of received notifications.
    NotificationCount,
}

/// A running child process; killed when dropped.
pub(super) struct ChildProcess {
    _child: Child,
    requests: ChildStdin,
    responses: Lines<BufReader<ChildStdout>>,
}

impl ChildProcess {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (requests, responses) = (child.stdin.take(), child.stdout.take());
        let (requests, responses) =
            requests.zip(responses).ok_or("the child process has no standard input or output")?;
        Ok(Self { _child: child, requests, responses: BufReader::new(responses).lines() })
    }

    /// Sends a request and waits for the response.
    pub(super) async fn request<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T> {
        let line = serde_json::to_string(request)? + "\n";
        self.requests.write_all(line.as_bytes()).await?;
        let response = self.responses.next_line().await?.ok_or("a child process has exited")?;
        Ok(serde_json::from_str(&response)?)
    }
}
