//! Another process, which does one thing after another as it is told over its standard input, and says on its standard
//! output what came of it, in a line of JSON each.

use std::process::Stdio;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use trove_benches::Result;

use crate::{Kind, Side, load::Load};

/// What a process is told. It answers with the seconds that it has kept a processor busy, with what it did, or with how
/// often it was told something.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Usage,
    Do { side: Side, kind: Kind, load: Load },
    Heard,
}

/// Ended when it is dropped.
pub(super) struct Process {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let (orders, answers) = orders.zip(answers).ok_or("a process without input or output")?;
        Ok(Self { _child: child, orders, answers: BufReader::new(answers).lines() })
    }

    pub(super) async fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await?;
        let answer = self.answers.next_line().await?.ok_or("a process has ended")?;
        Ok(serde_json::from_str(&answer)?)
    }
}
