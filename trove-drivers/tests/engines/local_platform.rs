//! The suite of platforms on this machine.

use std::{fs, path::PathBuf, sync::Mutex, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use trove_core::{
    conformance::platform::{self, Testbed},
    error::{Error, Kind, Result},
    id::InstanceId,
    platform::Platform,
};
use trove_drivers::LocalPlatform;

use crate::common::Sweeper;

/// How long calls that were dropped may hold the directory of the process before.
const RELEASED_WITHIN: Duration = Duration::from_secs(20);

struct Local {
    root: PathBuf,
    /// The one that is open, to look with.
    open: Mutex<Option<LocalPlatform>>,
}

impl Local {
    fn volume(&self, instance: InstanceId) -> PathBuf {
        self.root.join("volumes").join(instance.to_string())
    }
}

#[async_trait]
impl Testbed for Local {
    async fn open(&self) -> Result<Platform> {
        *self.open.lock().unwrap() = None;
        let begun = Instant::now();
        loop {
            match LocalPlatform::connect(&self.root) {
                Ok(opened) => return Ok(self.open.lock().unwrap().insert(opened).clone().into()),
                Err(error) if error.kind() == Kind::Conflict && begun.elapsed() < RELEASED_WITHIN => {}
                Err(error) => return Err(error),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn residue(&self) -> Result<Vec<String>> {
        let open = self.open.lock().unwrap().clone();
        open.ok_or_else(|| Error::internal("the platform is not open"))?.inventory().await
    }

    async fn put(&self, instance: InstanceId, text: &str) -> Result<()> {
        let directory = self.volume(instance).join("deep");
        fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("text"), text)).map_err(failed)
    }

    async fn get(&self, instance: InstanceId) -> Result<Option<String>> {
        let path = self.volume(instance).join("deep/text");
        if !path.exists() {
            return Ok(None);
        }
        fs::read_to_string(path).map(Some).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal("the volume cannot be used").because(error)
}

#[tokio::test]
async fn the_local_platform_passes() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let scope = LocalPlatform::connect(&root).unwrap().scope().to_owned();
    let _sweeper = Sweeper { scope };
    let report = platform::certify("local", Local { root, open: Mutex::default() }).await;
    assert!(report.passed(), "{report}");
}
