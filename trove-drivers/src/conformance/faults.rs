//! What happens to a server: by the Docker Engine, and on its volume.

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

use super::file_systems::refuse_shared;
use crate::{
    container::{blocking, failed, remove_tree},
    docker::Docker,
};

/// What fills a volume.
const FILLER: &str = "filler";

/// How often freezing a server is tried.
const FREEZE_TRIES: usize = 5;

/// How long a server is given to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn inject(docker: &Docker, host: &GuestHost, fault: ServerFault) -> Result<()> {
    let (name, volume) = (host.name.as_str(), host.volume.clone());
    match fault {
        ServerFault::Kill => docker.kill(name).await,
        ServerFault::Suspend => freeze(docker, name).await,
        ServerFault::Resume => docker.unpause(name).await,
        ServerFault::RemoveServer => docker.remove(name).await,
        ServerFault::FillVolume => {
            refuse_shared(host)?;
            let filler = volume.join(FILLER);
            blocking(move || fill(&filler).map_err(|error| failed("fill a volume", &filler, error))).await
        }
        ServerFault::FreeVolume => {
            let filler = volume.join(FILLER);
            blocking(move || remove_tree(&filler).map_err(|error| failed("drain a volume", &filler, error))).await
        }
        ServerFault::DeleteData => {
            docker.stop(name, STOP_LIMIT).await?;
            blocking(move || empty(&volume).map_err(|error| failed("empty a volume", &volume, error))).await
        }
        other => Err(Error::unsupported(format!("the testbed cannot inject {other:?}"))),
    }
}

/// On a busy machine the engine gives up on a server whose processes do not stand still in time.
async fn freeze(docker: &Docker, name: &str) -> Result<()> {
    for _ in 1..FREEZE_TRIES {
        match docker.pause(name).await {
            Err(error) if error.report().contains("unable to freeze") => {}
            frozen => return frozen,
        }
    }
    docker.pause(name).await
}

fn fill(filler: &Path) -> io::Result<()> {
    let file = File::create(filler)?;
    let (mut piece, mut length) = (64 << 20, 0);
    while piece >= 512 {
        match fallocate(&file, FallocateFlags::empty(), length, piece) {
            Ok(()) => length += piece,
            Err(Errno::NOSPC) => piece /= 2,
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
