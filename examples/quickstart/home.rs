//! The directory in which one instance of the tour has everything.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    id::InstanceId,
    secret::{ExposeSecret, SecretString},
};

/// Where one instance of the tour keeps everything.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) id: InstanceId,
    directory: PathBuf,
}

impl Home {
    pub(crate) fn new(data: &Path, id: InstanceId) -> Self {
        Self { id, directory: data.join(id.to_string()) }
    }

    /// Refuses where no instance was kept.
    pub(crate) fn check(&self) -> Result<()> {
        if self.path("trove.db").exists() {
            return Ok(());
        }
        Err(Error::not_found(format!("there is no instance {} below {}", self.id, self.directory.display())))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn make(&self) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| self.failed("make", error))
    }

    /// Where the whole URI, password and all, of a kept instance is written.
    pub(crate) fn uri_file(&self) -> PathBuf {
        self.path("uri")
    }

    /// Writes down how a user reaches its database, for programs and for the client of the engine.
    pub(crate) fn write_access(
        &self,
        instance: &InstanceHandle,
        database: Option<&str>,
        user: &str,
        password: &SecretString,
    ) -> Result<()> {
        let uri = instance.uri(database)?.user(user).with_password(password);
        self.write_secret(&self.uri_file(), &format!("{}\n", uri.expose_secret()))?;
        let Some(endpoint) = instance.endpoint.as_ref().filter(|_| has_options_file(&instance.datastore)) else {
            return Ok(());
        };
        let (host, port, password) = (&endpoint.host, endpoint.port, password.expose_secret());
        // The group `mysql` is the client's of both engines. Its name for a database is not known to their other programs.
        let options = format!(
            "[client]\nprotocol=tcp\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\n\
            [client-mariadb]\nskip-ssl-verify-server-cert\n[mysql]\ndatabase={}\n",
            database.unwrap_or_default(),
        );
        self.write_secret(&self.options_file(), &options)
    }

    /// A command by which a person reaches a kept instance. Its password is in none of its arguments.
    pub(crate) fn client_command(&self, datastore: &str) -> String {
        if has_options_file(datastore) {
            format!("{datastore} --defaults-file={}", self.options_file().display())
        } else {
            let client = if datastore == "valkey" { "valkey-cli -u" } else { "psql" };
            format!("{client} \"$(cat {})\"", self.uri_file().display())
        }
    }

    /// Removes everything, and the directory above it where nothing else is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.directory).map_err(|error| self.failed("remove", error))?;
        match self.directory.parent().map(fs::remove_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(self.failed("remove", error)),
            _ => Ok(()),
        }
    }

    fn options_file(&self) -> PathBuf {
        self.path("client.cnf")
    }

    fn write_secret(&self, path: &Path, content: &str) -> Result<()> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(content.as_bytes())).map_err(|error| self.failed("write to", error))
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::internal(format!("cannot {what} directory {}", self.directory.display())).because(error)
    }
}

/// True where the engine's own client is called like it and reads an options file.
fn has_options_file(datastore: &str) -> bool {
    ["mysql", "mariadb"].contains(&datastore)
}
