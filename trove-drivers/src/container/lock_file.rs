use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::Path};

/// Opens a file to lock, and creates it if it is absent. Its content is left alone.
pub(crate) fn open_lock_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}
