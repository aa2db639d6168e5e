//! The directory of one instance of the tour.

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

/// The directory with all data of one instance.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) id: InstanceId,
    directory: PathBuf,
}

impl Home {
    pub(crate) fn new(data: &Path, id: InstanceId) -> Self {
        Self { id, directory: data.join(id.to_string()) }
    }

    /// Fails if no instance was kept.
    pub(crate) fn check(&self) -> Result<()> {
        if self.path("trove.db").exists() {
            return Ok(());
        }
        Err(Error::not_found(format!("instance {} does not exist below {}", self.id, self.directory.display())))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn create(&self) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| self.failed("create", error))
    }

    /// Returns the file with the URI of a kept instance, including the password.
    pub(crate) fn uri_file(&self) -> PathBuf {
        self.path("uri")
    }

    /// Writes the connection data of a user to files, for programs and for the client of the
    /// engine.
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
        // The clients of both engines read the group `mysql`. Their other programs do not know the
        // option `database`.
        let options = format!(
            "[client]\nprotocol=tcp\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\n\
            [client-mariadb]\nskip-ssl-verify-server-cert\n[mysql]\ndatabase={}\n",
            database.unwrap_or_default(),
        );
        self.write_secret(&self.options_file(), &options)
    }

    /// Returns a command that connects to a kept instance, without the password in its arguments.
    pub(crate) fn client_command(&self, datastore: &str) -> String {
        if has_options_file(datastore) {
            format!("{datastore} --defaults-file={}", self.options_file().display())
        } else {
            let client = if datastore == "valkey" { "valkey-cli -u" } else { "psql" };
            format!("{client} \"$(cat {})\"", self.uri_file().display())
        }
    }

    /// Removes the directory, and its parent if it is empty.
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
        Error::internal(format!("could not {what} directory {}", self.directory.display())).with_source(error)
    }
}

/// Returns whether the client of the engine has the name of the engine and reads an options file.
fn has_options_file(datastore: &str) -> bool {
    ["mysql", "mariadb"].contains(&datastore)
}
