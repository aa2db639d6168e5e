//! Injects faults into a server, through the Docker Engine and on its volume.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use trove_core::{
    conformance::driver::ServerFault,
    datastore::GuestHost,
    error::{Error, Result},
};

use super::file_systems::require_own_file_system;
use crate::{
    container::{blocking, failed, remove_tree},
    docker::Docker,
};

/// The file that fills a volume.
const FILLER: &str = "filler";

const PAUSE_ATTEMPTS: usize = 5;

/// How long a server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn inject(docker: &Docker, host: &GuestHost, fault: ServerFault) -> Result<()> {
    let (name, volume) = (host.name.as_str(), host.volume.clone());
    match fault {
        ServerFault::Kill => docker.kill(name).await,
        ServerFault::Suspend => pause(docker, name).await,
        ServerFault::Resume => docker.unpause(name).await,
        ServerFault::RemoveServer => docker.remove(name).await,
        ServerFault::FillVolume => {
            require_own_file_system(host)?;
            let filler = volume.join(FILLER);
            blocking(move || fill(&filler).map_err(|error| failed("fill a volume", &filler, error))).await
        }
        ServerFault::FreeVolume => {
            let filler = volume.join(FILLER);
            blocking(move || remove_tree(&filler).map_err(|error| failed("free a volume", &filler, error))).await
        }
        ServerFault::DeleteData => {
            docker.stop(name, STOP_TIMEOUT).await?;
            blocking(move || empty(&volume).map_err(|error| failed("empty a volume", &volume, error))).await
        }
        other => Err(Error::unsupported(format!("the testbed cannot inject {other:?}"))),
    }
}

/// Retries, because the processes may not freeze before the engine's deadline on a busy machine.
async fn pause(docker: &Docker, name: &str) -> Result<()> {
    for _ in 1..PAUSE_ATTEMPTS {
        match docker.pause(name).await {
            Err(error) if error.report().contains("unable to freeze") => {}
            result => return result,
        }
    }
    docker.pause(name).await
}

fn fill(filler: &Path) -> io::Result<()> {
    let file = File::create(filler)?;
    let (mut chunk, mut length) = (64 << 20, 0);
    while chunk >= 512 {
        match fallocate(&file, FallocateFlags::empty(), length, chunk) {
            Ok(()) => length += chunk,
            Err(Errno::NOSPC) => chunk /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}
