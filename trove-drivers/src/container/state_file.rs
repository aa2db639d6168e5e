//! Small JSON files in which the agent persists its state, out of the server's reach. Everything
//! here blocks.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use trove_core::{
    error::Result,
    fs::{replace, sync_directory},
};

use super::{bounded_read, failed};

/// Far more than any of them holds.
const MAX_BYTES: u64 = 16 << 20;

/// The content of a state file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StateFile<T> {
    Absent,
    Found(T),
    /// The file exists but cannot be parsed.
    Damaged,
}

/// Reads a state file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<StateFile<T>> {
    match bounded_read(path, MAX_BYTES) {
        Ok(text) => Ok(serde_json::from_str(&text).map_or(StateFile::Damaged, StateFile::Found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StateFile::Absent),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(StateFile::Damaged),
        Err(error) => Err(failed("read a state file", path, error)),
    }
}

/// Replaces a state file, atomically and durably.
pub(crate) fn write(path: &Path, note: &impl Serialize) -> Result<()> {
    let done = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        replace(path, &serde_json::to_vec(note)?)
    };
    done().map_err(|error| failed("write a state file", path, error))
}

/// Removes a state file, durably. An absent one is `Ok`.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let done = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(path),
        }
    };
    done().map_err(|error| failed("remove a state file", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_files_are_complete_absent_or_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest/note");
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), StateFile::Absent);
        remove(&path).unwrap();
        write(&path, &[1, 2]).unwrap();
        write(&path, &[3]).unwrap();
        assert_eq!(read(&path).unwrap(), StateFile::Found(vec![3]));
        for damage in [&b"[1"[..], b"", b"\xff"] {
            fs::write(&path, damage).unwrap();
            assert_eq!(read::<Vec<u8>>(&path).unwrap(), StateFile::Damaged);
        }
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
