//! A process that keeps all processors busy, for `cargo xtask stress`.

use std::hint;
use std::io::{self, Read};
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::error::{Error, Result};

/// The command of this program that [`Load`] runs.
pub(crate) const COMMAND: &str = "busy-loop";

/// A running process with a busy loop for each processor; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Load(Child);

impl Load {
    pub(crate) fn start() -> Result<Self> {
        // The path of this program may be another file by now, since building the tests builds it
        // too.
        let spawned = Command::new("/proc/self/exe").arg(COMMAND).stdin(Stdio::piped()).spawn();
        spawned.map(Self).map_err(|error| Error::new(format!("could not start the busy loops: {error}")))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps all processors busy until standard input is closed, which happens when the parent process
/// ends.
pub(crate) fn run() -> Result<()> {
    for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
