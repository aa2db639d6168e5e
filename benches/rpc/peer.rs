//! What Python programs on OpenStack call each other by.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use trove_benches::Result;

use crate::{
    PAYLOAD_BYTES,
    process::{Order, Process},
};

const PROGRAM: &str = include_str!("peer.py");

/// Two processes of `oslo.messaging`: who asks and tells, and who answers and hears.
pub(super) struct Peer {
    pub(super) client: Process,
    pub(super) server: Process,
}

impl Peer {
    /// Installs it, where that is not done yet, and starts it.
    pub(super) async fn start(uri: &str) -> Result<Self> {
        let python = install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("oslo.messaging")).await?;
        let url = format!("rabbit://{}/", uri.trim_start_matches("amqp://").trim_end_matches("/%2f"));
        let start = |role| {
            let mut command = Command::new(&python);
            command.args(["-W", "ignore", "-c", PROGRAM, role, &url, &PAYLOAD_BYTES.to_string()]);
            Process::start(command)
        };
        let mut server = start("server")?;
        let _there: f64 = server.ask(&Order::Usage).await?;
        let mut client = start("client")?;
        let _there: f64 = client.ask(&Order::Usage).await?;
        Ok(Self { client, server })
    }
}

async fn install(place: &Path) -> Result<PathBuf> {
    let python = place.join("bin/python3");
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(place)).await?;
    }
    let packages = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "oslo.messaging==18.3.1",
        "eventlet==0.41.3",
    ];
    succeed(Command::new(&python).args(packages)).await?;
    Ok(python)
}

async fn succeed(command: &mut Command) -> Result<()> {
    let output = command.kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("it cannot be installed").to_owned().into())
}
