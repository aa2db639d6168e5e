use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{KeyProvider, MasterKey, MasterKeys};
use crate::{
    error::{Error, Result},
    fs::sync_directory,
};

/// The maximum size of the file; fits about 1,400 keys.
const MAX_BYTES: u64 = 64 << 10;

/// Reads master keys from a file: in base64, one per line, the current key first. Only the owner
/// may have access to it.
///
/// If the file does not exist, it is created with a new key and mode 0600.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Creates a provider for the file at this path, which is read when a service starts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

/// Fails with [`Invalid`](crate::error::Kind::Invalid) if the file is malformed or its mode grants
/// access to others. The error does not show its content.
#[async_trait]
impl KeyProvider for KeyFile {
    async fn keys(&self) -> Result<MasterKeys> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || read_or_create(&path))
            .await
            .unwrap_or_else(|error| Err(Error::internal("could not read the master key file").with_source(error)))
    }
}

fn read_or_create(path: &Path) -> Result<MasterKeys> {
    if let Some(keys) = read(path)? {
        return Ok(keys);
    }
    let key = MasterKey::generate()?;
    // A hard link is atomic and fails if the file exists: a crash leaves no partial key, and one of
    // several racing processes wins.
    let draft = path.with_extension(format!("new-{}", Uuid::new_v4().simple()));
    let text = Zeroizing::new(format!("{}\n", *key.to_base64()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => sync_directory(path).map(|()| MasterKeys::new(key)).map_err(|error| failed("sync", path, error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path)?.ok_or_else(|| {
            Error::busy(format!("the master key file {} was removed while it was being created", path.display()))
        }),
        Err(error) => Err(failed("create", path, error)),
    }
}

fn read(path: &Path) -> Result<Option<MasterKeys>> {
    let unreadable = |error| failed("read", path, error);
    let place = format!("the master key file {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let why = format!("{place} is accessible to other users: its mode is {mode:04o} and must be 0600");
        return Err(Error::invalid(why));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::invalid(format!("{place} is longer than {MAX_BYTES} bytes")));
    }
    let mut text = Zeroizing::new(String::with_capacity(1 << 10));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    MasterKeys::read(&place, text.lines().map(str::trim).filter(|line| !line.is_empty())).map(Some)
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::internal(format!("could not {what} the master key file {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        error::Kind,
        secret::{ExposeSecret, SecretString},
    };

    #[tokio::test]
    async fn a_new_key_file_is_private_and_reused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let sealed = KeyFile::new(&path).keys().await.unwrap().seal("x", &SecretString::from("s")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = KeyFile::new(&path).keys().await.unwrap();
        assert_eq!(again.open("x", &sealed).unwrap().expose_secret(), "s");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_creation_yields_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let racers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || read_or_create(&path).unwrap().current().id())
            })
            .collect();
        let ids: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_prepended_key_becomes_the_current_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let sealed = KeyFile::new(&path).keys().await.unwrap().seal("x", &SecretString::from("s")).unwrap();
        let (new, old) = (MasterKey::generate().unwrap(), fs::read_to_string(&path).unwrap());
        fs::write(&path, format!("{}\n\n {old}", *new.to_base64())).unwrap();
        let keys = KeyFile::new(&path).keys().await.unwrap();
        assert_eq!(keys.current().id(), new.id());
        assert_eq!(keys.open("x", &sealed).unwrap().expose_secret(), "s");
    }

    #[tokio::test]
    async fn invalid_key_files_are_rejected_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let key = MasterKey::generate().unwrap().to_base64();
        let half = &key[..20];
        let cases = [
            (0o644, key.as_bytes().to_vec(), "its mode is 0644"),
            (0o620, key.as_bytes().to_vec(), "its mode is 0620"),
            (0o600, b"\n \n".to_vec(), "contains no master key"),
            (0o600, format!("{}\n{half}", *key).into_bytes(), "key 2"),
            (0o600, format!("{half}!").into_bytes(), "not base64"),
            (0o600, vec![b'A'; 100_000], "longer than"),
        ];
        for (mode, content, said) in cases {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = KeyFile::new(&path).keys().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
            assert!(error.to_string().contains(said) && error.to_string().contains("master.key"), "{error:?}");
            assert!(!format!("{error:?}").contains(&half[..8]), "{error:?}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(KeyFile::new(&path).keys().await.is_err());
        assert!(KeyFile::new(directory.path()).keys().await.is_err(), "a directory");
    }
}
