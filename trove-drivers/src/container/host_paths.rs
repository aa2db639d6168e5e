//! The files of an instance on the host: its volume and the agent's directory. Everything here
//! blocks.
//!
//! ```text
//! <directory>/conf, run, passwd   mounted into containers: rendered files, sockets, user names
//! <directory>/stopped             exists if a stop was the last request
//! <directory>/leaving.json        the container that is being stopped
//! <directory>/settings.json       the settings record
//! <directory>/upgrade.json        the state of the last upgrade
//! <directory>/resized.json        the last change of the flavor
//! <directory>/password.json       the administrator's password, if the server needs one
//! <directory>/probe/              the scratch server, while there is one
//! <directory>/fence               the epochs of the fence
//! ```

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use trove_core::{
    datastore::{GuestHost, ServerIdentity},
    error::{Error, Result},
    fs::replace_with_mode,
};

use super::{
    AGENT, ConfigFile,
    safe_fs::remove_tree,
    state_file::{self, StateFile},
};

/// The name of the scratch server's directory.
pub(crate) const SCRATCH: &str = "probe";

/// The entries of the agent's directory that belong to the server. The fence and an agent process keep their own
/// files there.
const OWN: [&str; 10] = [
    "conf",
    "run",
    "passwd",
    "stopped",
    "leaving.json",
    "settings.json",
    "upgrade.json",
    "resized.json",
    "password.json",
    SCRATCH,
];

/// The paths of one instance.
#[derive(Clone, Debug)]
pub(crate) struct HostPaths {
    volume: PathBuf,
    directory: PathBuf,
    server: ServerIdentity,
    data_name: String,
}

impl HostPaths {
    pub(crate) fn new(host: &GuestHost, data_name: &str) -> Self {
        let (volume, directory) = (host.volume.clone(), host.directory.clone());
        Self { volume, directory, server: host.server, data_name: data_name.to_owned() }
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.volume.join(&self.data_name)
    }

    /// Returns the directory in which data is staged before it becomes the data directory.
    pub(crate) fn staging(&self) -> PathBuf {
        self.volume.join(self.staging_name())
    }

    /// Returns the name of the staging directory below the volume.
    pub(crate) fn staging_name(&self) -> String {
        format!("{}.new", self.data_name)
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.directory.join("conf")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.directory.join("run")
    }

    pub(crate) fn passwd(&self) -> PathBuf {
        self.directory.join("passwd")
    }

    /// Creates the directories and renders the files. The server must not be running.
    pub(crate) fn lay_out(&self, files: &[ConfigFile]) -> Result<()> {
        let server = self.server;
        let done = || -> io::Result<()> {
            own(&self.volume, Some(server.uid), Some(server.gid), 0o700)?;
            fs::create_dir_all(&self.directory)?;
            // Files that were rendered for an earlier release or setting must not be read.
            remove_tree(&self.conf())?;
            self.directory(&self.conf(), None, 0o750)?;
            // The socket of a killed server may block the next one.
            remove_tree(&self.run())?;
            self.directory(&self.run(), Some(server.uid), 0o700)?;
            self.write(&self.passwd(), &self.passwd_text())?;
            self.render_all(files)
        };
        done().map_err(|error| failed("write the configuration of the server", &self.directory, error))
    }

    /// Renders the files for a running server, each replaced atomically.
    pub(crate) fn render(&self, files: &[ConfigFile]) -> Result<()> {
        let done = self.render_all(files);
        done.map_err(|error| failed("write the configuration of the server", &self.directory, error))
    }

    /// Returns true if there is a data directory, and
    /// [`Unavailable`](trove_core::error::Kind::Unavailable) if that is unknown.
    pub(crate) fn has_data(&self) -> Result<bool> {
        match fs::symlink_metadata(self.data()) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("check for the data directory", &self.data(), error)),
        }
    }

    /// Removes the staging directory of an interrupted initialization.
    pub(crate) fn sweep(&self) -> Result<()> {
        let staging = self.staging();
        remove_tree(&staging).map_err(|error| failed("remove an incomplete data directory", &staging, error))
    }

    /// Removes the files of a scratch server.
    pub(crate) fn sweep_scratch(&self) -> Result<()> {
        let probe = self.directory.join(SCRATCH);
        remove_tree(&probe).map_err(|error| failed("remove the files of a scratch server", &probe, error))
    }

    /// Creates an empty staging directory.
    pub(crate) fn stage_empty(&self) -> Result<()> {
        let staging = self.staging();
        self.directory(&staging, Some(self.server.uid), 0o700)
            .map_err(|error| failed("create the data directory", &staging, error))
    }

    /// Makes the staging directory the data directory, durably.
    pub(crate) fn commit(&self) -> Result<()> {
        let staging = self.staging();
        let done = || -> io::Result<()> {
            fs::rename(&staging, self.data())?;
            File::open(&self.volume)?.sync_all()
        };
        done().map_err(|error| failed("move the data directory into place", &staging, error))
    }

    /// Records whether the server should be stopped.
    pub(crate) fn record_stop(&self, stop: bool) -> Result<()> {
        let path = self.stopped();
        let done = || -> io::Result<()> {
            if stop {
                fs::create_dir_all(&self.directory)?;
                return File::create(&path)?.sync_all();
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        done().map_err(|error| failed("record that the server should be stopped", &path, error))
    }

    /// Returns true if a stop was the last request.
    pub(crate) fn stop_requested(&self) -> io::Result<bool> {
        self.stopped().try_exists()
    }

    /// Records that a container is being stopped. The daemon completes that even if the caller is
    /// gone.
    pub(crate) fn record_stopping(&self, container: &str) -> Result<()> {
        state_file::write(&self.leaving(), &container)
    }

    /// Removes the record of a container that was being stopped and is gone.
    pub(crate) fn clear_stopping(&self) -> Result<()> {
        state_file::remove(&self.leaving())
    }

    /// Returns true if this container is being stopped.
    pub(crate) fn is_stopping(&self, container: &str) -> Result<bool> {
        Ok(state_file::read(&self.leaving())? == StateFile::Found(container.to_owned()))
    }

    /// Removes what the agent's directory holds of the server.
    pub(crate) fn clear(&self) -> Result<()> {
        let done = || -> io::Result<()> {
            for name in OWN {
                remove_tree(&self.directory.join(name))?;
                // A killed process may have left a staged file.
                remove_tree(&self.directory.join(format!("{name}.new")))?;
            }
            Ok(())
        };
        done().map_err(|error| failed("clear the directory of the agent", &self.directory, error))
    }

    /// Returns the path of the settings record.
    pub(crate) fn settings(&self) -> PathBuf {
        self.directory.join("settings.json")
    }

    /// Returns true if there is a settings record.
    pub(crate) fn has_settings(&self) -> Result<bool> {
        let path = self.settings();
        path.try_exists().map_err(|error| failed("check for the settings record", &path, error))
    }

    /// Returns the path of the upgrade state.
    pub(crate) fn upgrade(&self) -> PathBuf {
        self.directory.join("upgrade.json")
    }

    /// Returns the path of the last change of the flavor.
    pub(crate) fn resized(&self) -> PathBuf {
        self.directory.join("resized.json")
    }

    /// Returns the owner of the data.
    pub(crate) fn server(&self) -> ServerIdentity {
        self.server
    }

    fn leaving(&self) -> PathBuf {
        self.directory.join("leaving.json")
    }

    fn stopped(&self) -> PathBuf {
        self.directory.join("stopped")
    }

    /// Returns names for the users of the agent and the server, which some programs need to run.
    fn passwd_text(&self) -> String {
        let (agent, server) = (rustix::process::geteuid().as_raw(), self.server);
        let mut text = format!("{AGENT}:x:{agent}:{}:agent:/:/usr/sbin/nologin\n", server.gid);
        if server.uid != agent {
            text.push_str(&format!("server:x:{}:{}:server:/:/usr/sbin/nologin\n", server.uid, server.gid));
        }
        text
    }

    fn directory(&self, path: &Path, owner: Option<u32>, mode: u32) -> io::Result<()> {
        fs::create_dir_all(path)?;
        own(path, owner, Some(self.server.gid), mode)
    }

    fn write(&self, path: &Path, content: &str) -> io::Result<()> {
        replace_with_mode(path, content.as_bytes(), 0o640, Some(self.server.gid))
    }

    fn render_all(&self, files: &[ConfigFile]) -> io::Result<()> {
        for file in files {
            let path = self.conf().join(&file.path);
            if let Some(parent) = path.parent() {
                self.directory(parent, None, 0o750)?;
            }
            self.write(&path, &file.content)?;
        }
        Ok(())
    }
}

/// Sets owner, group and mode if they differ. Only root may change owners, so equal ones are left
/// alone.
pub(crate) fn own(path: &Path, uid: Option<u32>, gid: Option<u32>, mode: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if uid.is_some_and(|uid| uid != found.uid()) || gid.is_some_and(|gid| gid != found.gid()) {
        lchown(path, uid, gid)?;
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Returns the error for a failed file operation: `what` completes "could not".
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let failed = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::no_space(format!("there is no disk space left to {what}"))
        }
        _ => Error::unavailable(format!("could not {what}")),
    };
    failed.with("path", path.display()).with_source(error)
}

#[cfg(test)]
mod tests {
    use trove_core::id::InstanceId;

    use super::*;

    #[test]
    fn only_the_servers_files_are_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let host = GuestHost::new(InstanceId::new_v4(), directory.path().join("volume"), directory.path());
        let others = ["agent.json", "agent.lock", "agent.state", "fence", "fence.new"];
        for name in others.iter().chain(&OWN) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::write(directory.path().join("settings.json.new"), "").unwrap();
        HostPaths::new(&host, "data").clear().unwrap();
        let left = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, others);
    }
}
