//! Small files in which the agent keeps what it has to know after it was replaced. The server cannot reach them.
//! Everything here blocks.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use trove_core::{
    error::Result,
    fs::{replace, sync_directory},
};

use super::failed;

/// Far more than any of them has.
const MAX_BYTES: u64 = 16 << 20;

/// What was found in the place of a note.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note<T> {
    Absent,
    Found(T),
    /// There is a file that says nothing.
    Damaged,
}

/// What a note says.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Note<T>> {
    let text = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    match text() {
        Ok(text) => Ok(serde_json::from_str(&text).map_or(Note::Damaged, Note::Found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Note::Absent),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Note::Damaged),
        Err(error) => Err(failed("read what was noted", path, error)),
    }
}

/// Replaces a note as a whole, durably.
pub(crate) fn write(path: &Path, note: &impl Serialize) -> Result<()> {
    let done = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        replace(path, &serde_json::to_vec(note)?)
    };
    done().map_err(|error| failed("note something", path, error))
}

/// Removes a note, durably. One that is absent is `Ok`.
pub(crate) fn erase(path: &Path) -> Result<()> {
    let done = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(path),
        }
    };
    done().map_err(|error| failed("forget what was noted", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest/note");
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), Note::Absent);
        erase(&path).unwrap();
        write(&path, &[1, 2]).unwrap();
        write(&path, &[3]).unwrap();
        assert_eq!(read(&path).unwrap(), Note::Found(vec![3]));
        for damage in [&b"[1"[..], b"", b"\xff"] {
            fs::write(&path, damage).unwrap();
            assert_eq!(read::<Vec<u8>>(&path).unwrap(), Note::Damaged);
        }
        erase(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
