//! The artifacts of an instance on this machine: containers, processes and files.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use trove_core::{
    conformance::driver::Artifact,
    datastore::GuestHost,
    error::{Error, Kind, Result},
    layer::Fence,
};

use crate::{
    container::{INSTANCE_LABEL, SCOPE_LABEL, blocking, failed},
    docker::Docker,
};

/// The limit of what is read from one file. Engines store passwords only as hashes, so the start of
/// large files is enough.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The limit of what is read from the output of a container.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// Lists what a removal should have deleted: containers, and the files of the agent. The network
/// and the volume belong to the host, and the fencing record outlives a removal.
pub(super) async fn leftovers(docker: &Docker, host: &GuestHost) -> Result<Vec<String>> {
    let containers = containers(docker, host).await?;
    let mut found: Vec<String> = containers.into_iter().map(|(_, name)| format!("container {name}")).collect();
    let directory = host.directory.clone();
    let files = blocking(move || {
        let list = || -> io::Result<Vec<String>> {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
            let names = names.into_iter().filter(|name| name != Fence::FILE);
            Ok(names.map(|name| format!("file {}", name.display())).collect())
        };
        list().map_err(|error| failed("list", &directory, error))
    });
    found.extend(files.await?);
    Ok(found)
}

/// Reads the descriptions and outputs of the containers, the command lines and environments of
/// their processes, and the files of the agent and of the volume.
pub(super) async fn artifacts(docker: &Docker, host: &GuestHost) -> Result<Vec<Artifact>> {
    let mut found = Vec::new();
    for (id, name) in containers(docker, host).await? {
        let inspected =
            async { Ok::<_, Error>((docker.described(&id).await?, docker.output(&id, MAX_OUTPUT_BYTES).await?)) };
        let ((description, pid), output) = match inspected.await {
            // The container was removed meanwhile.
            Err(error) if error.kind() == Kind::NotFound => continue,
            inspected => inspected?,
        };
        found.push(Artifact { location: format!("the description of container {name}"), content: description.into() });
        found.push(Artifact { location: format!("the output of container {name}"), content: output.into() });
        if let Some(pid) = pid {
            found.extend(blocking(move || Ok(processes(pid))).await?);
        }
    }
    let (directory, volume) = (host.directory.clone(), host.volume.clone());
    let files = blocking(move || {
        let mut found = Vec::new();
        for root in [directory, volume] {
            files(&root, &mut found).map_err(|error| failed("read", &root, error))?;
        }
        Ok(found)
    });
    found.extend(files.await?);
    Ok(found)
}

async fn containers(docker: &Docker, host: &GuestHost) -> Result<Vec<(String, String)>> {
    let instance = host.instance.to_string();
    docker.named(&[(INSTANCE_LABEL, &instance), (SCOPE_LABEL, &host.scope)]).await
}

/// Reads the command lines and environments of the processes in the container whose init process
/// this is. Processes may end meanwhile.
fn processes(init: u32) -> Vec<Artifact> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (Some(wanted), Ok(entries)) = (namespace(&init.to_string()), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let inside = names.filter(|pid| namespace(pid).as_ref() == Some(&wanted));
    let read = |pid: String, what: &str| {
        let location = format!("/proc/{pid}/{what}");
        fs::read(&location).ok().map(|content| Artifact { location, content })
    };
    inside.flat_map(|pid| [read(pid.clone(), "cmdline"), read(pid, "environ")]).flatten().collect()
}

/// Reads the files below a directory. Files may be deleted meanwhile.
fn files(directory: &Path, found: &mut Vec<Artifact>) -> io::Result<()> {
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => files(&path, found)?,
            Ok(kind) if kind.is_file() => match File::open(&path) {
                Err(error) if is_absent(&error) => {}
                file => {
                    let mut content = Vec::new();
                    file?.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
                    found.push(Artifact { location: path.display().to_string(), content });
                }
            },
            Ok(_) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
