//! Connects to a server's socket, in a directory that the server controls.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use tokio::net::UnixStream;

/// Connects to the socket of this name if the server's own user listens on it.
///
/// A server could replace its socket by a link to another tenant's server, which would trust the
/// administrator as well. So links are not followed, the listener must be the server's user, and
/// the connection uses the descriptor that was checked.
pub async fn connect(directory: &Path, name: &str, server: u32) -> io::Result<UnixStream> {
    let socket = find(directory, name, server)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
    match stream.peer_cred()?.uid() == server {
        true => Ok(stream),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens on the socket")),
    }
}

fn find(directory: &Path, name: &str, server: u32) -> io::Result<OwnedFd> {
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = openat(&directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&socket)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_uid != server {
        let why = "the socket does not belong to the server";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(socket)
}
