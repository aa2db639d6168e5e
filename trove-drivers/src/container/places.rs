//! What an instance has on the host's file system: its volume, and the agent's directory with the rendered files, the
//! sockets and the note that a stop was asked for. Everything here blocks.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
    sync::Arc,
};

use trove_core::{
    datastore::GuestHost,
    error::{Error, Result},
};

use super::{AGENT, ConfigFile, tree::remove_tree};

/// The paths of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    host: Arc<GuestHost>,
    data_name: String,
}

impl Places {
    pub(crate) fn new(host: Arc<GuestHost>, data_name: &str) -> Self {
        Self { host, data_name: data_name.to_owned() }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.host.volume.join(&self.data_name)
    }

    /// The name below the volume of the directory in which data is made before it is the data directory.
    pub(crate) fn staging_name(&self) -> String {
        format!("{}.new", self.data_name)
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.host.directory.join("conf")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.host.directory.join("run")
    }

    pub(crate) fn passwd(&self) -> PathBuf {
        self.host.directory.join("passwd")
    }

    /// Makes the directories and renders the files, each replaced as a whole. The server must not run.
    pub(crate) fn lay_out(&self, files: &[ConfigFile]) -> Result<()> {
        let server = self.host.server;
        let done = || -> io::Result<()> {
            own(&self.host.volume, Some(server.uid), Some(server.gid), 0o700)?;
            fs::create_dir_all(&self.host.directory)?;
            self.directory(&self.conf(), None, 0o750)?;
            // A socket of a server that was killed may be in the way of the next one.
            remove_tree(&self.run())?;
            self.directory(&self.run(), Some(server.uid), 0o700)?;
            self.write(&self.passwd(), &self.passwd_text())?;
            for file in files {
                let path = self.conf().join(&file.path);
                if let Some(parent) = path.parent() {
                    self.directory(parent, None, 0o750)?;
                }
                self.write(&path, &file.content)?;
            }
            Ok(())
        };
        done().map_err(|error| failed("write the configuration of the server", &self.host.directory, error))
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
        let staging = self.host.volume.join(self.staging_name());
        remove_tree(&staging).map_err(|error| failed("remove a half-made data directory", &staging, error))
    }

    /// Makes an empty data directory in staging.
    pub(crate) fn stage_empty(&self) -> Result<()> {
        let staging = self.host.volume.join(self.staging_name());
        self.directory(&staging, Some(self.host.server.uid), 0o700)
            .map_err(|error| failed("make the data directory", &staging, error))
    }

    /// Makes the staging directory the data directory, durably.
    pub(crate) fn commit(&self) -> Result<()> {
        let staging = self.host.volume.join(self.staging_name());
        let done = || -> io::Result<()> {
            fs::rename(&staging, self.data())?;
            File::open(&self.host.volume)?.sync_all()
        };
        done().map_err(|error| failed("put the data directory in place", &staging, error))
    }

    /// Notes whether the server is meant to be stopped.
    pub(crate) fn note_stop(&self, stop: bool) -> Result<()> {
        let path = self.stopped();
        let done = || -> io::Result<()> {
            if stop {
                fs::create_dir_all(&self.host.directory)?;
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

    /// Empties the agent's directory.
    pub(crate) fn clear(&self) -> Result<()> {
        let done = || -> io::Result<()> {
            let entries = match fs::read_dir(&self.host.directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                remove_tree(&entry?.path())?;
            }
            Ok(())
        };
        done().map_err(|error| failed("empty the directory of the agent", &self.host.directory, error))
    }

    fn stopped(&self) -> PathBuf {
        self.host.directory.join("stopped")
    }

    /// Names for the users of the agent and the server, which some programs refuse to run without.
    fn passwd_text(&self) -> String {
        let (agent, server) = (rustix::process::geteuid().as_raw(), self.host.server);
        let mut text = format!("{AGENT}:x:{agent}:{}:agent:/:/usr/sbin/nologin\n", server.gid);
        if server.uid != agent {
            text.push_str(&format!("server:x:{}:{}:server:/:/usr/sbin/nologin\n", server.uid, server.gid));
        }
        text
    }

    fn directory(&self, path: &Path, owner: Option<u32>, mode: u32) -> io::Result<()> {
        fs::create_dir_all(path)?;
        own(path, owner, Some(self.host.server.gid), mode)
    }

    fn write(&self, path: &Path, content: &str) -> io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let mut file = File::create(&draft)?;
        file.write_all(content.as_bytes())?;
        own(&draft, None, Some(self.host.server.gid), 0o640)?;
        file.sync_all()?;
        fs::rename(&draft, path)
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
