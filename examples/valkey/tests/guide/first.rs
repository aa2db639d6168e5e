use std::{io, path::PathBuf};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trove_core::{
    datastore::{GuestHost, Manifest, Version},
    error::{Error, Result},
};
use trove_drivers::container::{ContainerDriver, Engine, Readiness, SOCKETS, connect};

/// The driver to register with the service: `.datastore(Cache::new())`.
pub type Cache = ContainerDriver<CacheEngine>;

/// The server of one instance.
pub struct CacheEngine {
    run: PathBuf,
    server: u32,
}

#[async_trait]
impl Engine for CacheEngine {
    fn manifest() -> Manifest {
        Manifest::new("cache", Version::new("8.1", "valkey/valkey:8.1"), 6379)
    }

    fn new(host: &GuestHost) -> Self {
        Self { run: host.directory.join("run"), server: host.server.uid }
    }

    fn server_command(&self, _host: &GuestHost, data: &str) -> Vec<String> {
        let command = format!("valkey-server --port 0 --unixsocket {SOCKETS}/cache.sock --dir {data} --appendonly yes");
        command.split(' ').map(str::to_owned).collect()
    }

    async fn probe(&self) -> Readiness {
        match self.send("PING").await {
            Ok(_) => Readiness::Ready { version: "any".to_owned() },
            Err(error) => Readiness::Unreachable(error),
        }
    }
}

impl CacheEngine {
    /// Sends a line to the server and returns its reply.
    async fn send(&self, line: &str) -> Result<String> {
        let exchange = async {
            let mut stream = connect(&self.run, "cache.sock", self.server).await?;
            stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            let mut reply = vec![0; 4096];
            let length = stream.read(&mut reply).await?;
            Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
        };
        exchange.await.map_err(|error: io::Error| Error::unavailable("the server did not reply").with_source(error))
    }
}
