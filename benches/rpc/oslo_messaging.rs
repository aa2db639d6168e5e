//! The RPC library of OpenStack's Python services, for comparison.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use trove_benches::Result;

use crate::{
    PAYLOAD_BYTES,
    child_process::{ChildProcess, Request},
};

const PROGRAM: &str = include_str!("oslo_messaging.py");

/// Two processes that use `oslo.messaging`: a client in the role of the control plane, and a server
/// in the role of the guest. For notifications the client is the sender, so the roles are reversed.
pub(super) struct OsloMessaging {
    pub(super) client: ChildProcess,
    pub(super) server: ChildProcess,
}

impl OsloMessaging {
    /// Installs the library if necessary, and starts both processes.
    pub(super) async fn start(uri: &str) -> Result<Self> {
        let python = install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("oslo.messaging")).await?;
        let url = format!("rabbit://{}/", uri.trim_start_matches("amqp://").trim_end_matches("/%2f"));
        let start = |role| {
            let mut command = Command::new(&python);
            command.args(["-W", "ignore", "-c", PROGRAM, role, &url, &PAYLOAD_BYTES.to_string()]);
            ChildProcess::start(command)
        };
        // A process that responds is ready.
        let mut server = start("server")?;
        let _ready: f64 = server.request(&Request::CpuTime).await?;
        let mut client = start("client")?;
        let _ready: f64 = client.request(&Request::CpuTime).await?;
        Ok(Self { client, server })
    }
}

/// Installs the packages into a virtual environment and returns its interpreter.
async fn install(directory: &Path) -> Result<PathBuf> {
    let python = directory.join("bin/python3");
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(directory)).await?;
    }
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "oslo.messaging==18.3.1",
        "eventlet==0.41.3",
    ];
    succeed(Command::new(&python).args(arguments)).await?;
    Ok(python)
}

async fn succeed(command: &mut Command) -> Result<()> {
    let output = command.kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.lines().last().unwrap_or("the installation failed").to_owned().into())
}
