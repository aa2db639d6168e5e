//! What an instance has on the host's file system: its volume, and the agent's directory. Everything here blocks.
//!
//! ```text
//! <directory>/conf, run, passwd   what the server sees: rendered files, sockets, names of users
//! <directory>/stopped             there while the last thing asked for was a stop
//! <directory>/leaving.json        the container that was told to stop, until it is gone
//! <directory>/settings.json       the record of the settings
//! <directory>/upgrade.json        the upgrade that has begun or was concluded last
//! <directory>/resized.json        the last change of the flavor
//! <directory>/password.json       the administrator's password, where the server asks for one
//! <directory>/probe/              a throw-away server, while there is one
//! <directory>/fence               who may change the instance, kept by its fence
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

/// The name of the directory of a throw-away server.
pub(crate) const PROBE: &str = "probe";

/// What the agent's directory has of the server. The fence's note and what an agent of its own process keeps are others'.
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
    PROBE,
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

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.volume.join(&self.data_name)
    }

    /// The directory in which data is made before it is the data directory.
    pub(crate) fn staging(&self) -> PathBuf {
        self.volume.join(self.staging_name())
    }

    /// The name below the volume of the directory in which data is made before it is the data directory.
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

    /// Makes the directories and renders the files anew. The server must not run.
    pub(crate) fn lay_out(&self, files: &[ConfigFile]) -> Result<()> {
        let server = self.server;
        let done = || -> io::Result<()> {
            own(&self.volume, Some(server.uid), Some(server.gid), 0o700)?;
            fs::create_dir_all(&self.directory)?;
            // What a former release or setting had rendered is not to be read by this one.
            remove_tree(&self.conf())?;
            self.directory(&self.conf(), None, 0o750)?;
            // A socket of a server that was killed may be in the way of the next one.
            remove_tree(&self.run())?;
            self.directory(&self.run(), Some(server.uid), 0o700)?;
            self.write(&self.passwd(), &self.passwd_text())?;
            self.render_all(files)
        };
        done().map_err(|error| failed("write the configuration of the server", &self.directory, error))
    }

    /// Renders the files for a server that runs, each replaced as a whole.
    pub(crate) fn render(&self, files: &[ConfigFile]) -> Result<()> {
        let done = self.render_all(files);
        done.map_err(|error| failed("write the configuration of the server", &self.directory, error))
    }

    /// True where there is a data directory. [`Unavailable`](trove_core::error::Kind::Unavailable) where that cannot be
    /// told.
    pub(crate) fn has_data(&self) -> Result<bool> {
        match fs::symlink_metadata(self.data()) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look for the data directory", &self.data(), error)),
        }
    }

    /// Removes what an attempt to initialise left behind.
    pub(crate) fn sweep(&self) -> Result<()> {
        let staging = self.staging();
        remove_tree(&staging).map_err(|error| failed("remove a half-made data directory", &staging, error))
    }

    /// Removes what a throw-away server left behind.
    pub(crate) fn sweep_probe(&self) -> Result<()> {
        let probe = self.directory.join(PROBE);
        remove_tree(&probe).map_err(|error| failed("remove the files of a throw-away server", &probe, error))
    }

    /// Makes an empty data directory in staging.
    pub(crate) fn stage_empty(&self) -> Result<()> {
        let staging = self.staging();
        self.directory(&staging, Some(self.server.uid), 0o700)
            .map_err(|error| failed("make the data directory", &staging, error))
    }

    /// Makes the staging directory the data directory, durably.
    pub(crate) fn commit(&self) -> Result<()> {
        let staging = self.staging();
        let done = || -> io::Result<()> {
            fs::rename(&staging, self.data())?;
            File::open(&self.volume)?.sync_all()
        };
        done().map_err(|error| failed("put the data directory in place", &staging, error))
    }

    /// Notes whether the server is meant to be stopped.
    pub(crate) fn note_stop(&self, stop: bool) -> Result<()> {
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
        done().map_err(|error| failed("note that the server is to be stopped", &path, error))
    }

    /// True where the last thing asked for was a stop.
    pub(crate) fn stop_noted(&self) -> io::Result<bool> {
        self.stopped().try_exists()
    }

    /// Notes that a container was told to stop. The daemon does that even where whoever asked is gone.
    pub(crate) fn note_leaving(&self, container: &str) -> Result<()> {
        state_file::write(&self.leaving(), &container)
    }

    /// Forgets the container that was told to stop, which is gone.
    pub(crate) fn note_gone(&self) -> Result<()> {
        state_file::remove(&self.leaving())
    }

    /// True where this container was told to stop.
    pub(crate) fn is_leaving(&self, container: &str) -> Result<bool> {
        Ok(state_file::read(&self.leaving())? == StateFile::Found(container.to_owned()))
    }

    /// Removes what the agent's directory has of the server.
    pub(crate) fn clear(&self) -> Result<()> {
        let done = || -> io::Result<()> {
            for name in OWN {
                remove_tree(&self.directory.join(name))?;
                // What a process that was killed did not get to put in its place.
                remove_tree(&self.directory.join(format!("{name}.new")))?;
            }
            Ok(())
        };
        done().map_err(|error| failed("empty the directory of the agent", &self.directory, error))
    }

    /// Where the settings are recorded.
    pub(crate) fn settings(&self) -> PathBuf {
        self.directory.join("settings.json")
    }

    /// True where settings are recorded.
    pub(crate) fn has_settings(&self) -> Result<bool> {
        let path = self.settings();
        path.try_exists().map_err(|error| failed("look for the record of the settings", &path, error))
    }

    /// Where an upgrade is noted.
    pub(crate) fn upgrade(&self) -> PathBuf {
        self.directory.join("upgrade.json")
    }

    /// Where the last change of the flavor is noted.
    pub(crate) fn resized(&self) -> PathBuf {
        self.directory.join("resized.json")
    }

    /// Whose the data is.
    pub(crate) fn server(&self) -> ServerIdentity {
        self.server
    }

    fn leaving(&self) -> PathBuf {
        self.directory.join("leaving.json")
    }

    fn stopped(&self) -> PathBuf {
        self.directory.join("stopped")
    }

    /// Names for the users of the agent and the server, which some programs refuse to run without.
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

/// Sets owner, group and mode where they are others. Only root may give files away, so only a difference is touched.
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

/// What went wrong with the host's file system.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let failed = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::no_space(format!("there is no disk space left to {what}"))
        }
        _ => Error::unavailable(format!("cannot {what}")),
    };
    failed.with("path", path.display()).because(error)
}

#[cfg(test)]
mod tests {
    use trove_core::id::InstanceId;

    use super::*;

    #[test]
    fn what_is_cleared_is_the_servers_only() {
        let directory = tempfile::tempdir().unwrap();
        let host = GuestHost::new(InstanceId::new_v4(), directory.path().join("volume"), directory.path());
        let others = ["agent.json", "agent.lock", "agent.notes", "fence", "fence.new"];
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
