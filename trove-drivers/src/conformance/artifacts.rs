//! All that can be seen of an instance.

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

/// How much is read of one file.
const FILE_BYTES: u64 = 4 << 20;

/// How much is read of what a container wrote.
const OUTPUT_BYTES: usize = 64 << 20;

/// What there is of an instance besides its place and its data: containers, and what its agent keeps. The network is the
/// place's, and the note of its fence outlives a removal.
pub(super) async fn leftovers(docker: &Docker, host: &GuestHost) -> Result<Vec<String>> {
    let containers = containers(docker, host).await?;
    let mut found: Vec<String> = containers.into_iter().map(|(_, name)| format!("container {name}")).collect();
    let directory = host.directory.clone();
    let kept = blocking(move || {
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
    found.extend(kept.await?);
    Ok(found)
}

/// How its containers are described and what they wrote, its processes, the files of its agent, and those on its volume,
/// of large ones the beginning: an engine keeps passwords there as verifiers only.
pub(super) async fn artifacts(docker: &Docker, host: &GuestHost) -> Result<Vec<Artifact>> {
    let mut found = Vec::new();
    for (id, name) in containers(docker, host).await? {
        let seen = async { Ok::<_, Error>((docker.described(&id).await?, docker.output(&id, OUTPUT_BYTES).await?)) };
        let ((description, pid), output) = match seen.await {
            // It was there for a moment only.
            Err(error) if error.kind() == Kind::NotFound => continue,
            seen => seen?,
        };
        found.push(Artifact { location: format!("the description of container {name}"), content: description.into() });
        found.push(Artifact { location: format!("what container {name} wrote"), content: output.into() });
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

/// The command lines and environments of all processes of the container whose first process this is. They come and go.
fn processes(first: u32) -> Vec<Artifact> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (Some(wanted), Ok(entries)) = (namespace(&first.to_string()), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let inside = names.filter(|pid| namespace(pid).as_ref() == Some(&wanted));
    let read = |pid: String, what: &str| {
        let place = format!("/proc/{pid}/{what}");
        fs::read(&place).ok().map(|content| Artifact { location: place, content })
    };
    inside.flat_map(|pid| [read(pid.clone(), "cmdline"), read(pid, "environ")]).flatten().collect()
}

/// The files below a directory. They come and go.
fn files(directory: &Path, found: &mut Vec<Artifact>) -> io::Result<()> {
    let there = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if !there(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => files(&path, found)?,
            Ok(kind) if kind.is_file() => match File::open(&path) {
                Err(error) if !there(&error) => {}
                file => {
                    let mut content = Vec::new();
                    file?.take(FILE_BYTES).read_to_end(&mut content)?;
                    found.push(Artifact { location: path.display().to_string(), content });
                }
            },
            Ok(_) => {}
            Err(error) if !there(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
