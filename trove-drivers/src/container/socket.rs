//! The way to a server's socket, which lies in a directory that is the server's to change.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use tokio::net::UnixStream;

/// Connects to the socket of this name at which the server's own user listens, and to no other.
///
/// A socket that the server put a link in place of might be another tenant's server, which lets the administrator in as
/// well. So links are not followed, and whoever listens must be the server's user. What was looked at is what is
/// connected to, because it is reached through its descriptor.
pub async fn connect(directory: &Path, name: &str, server: u32) -> io::Result<UnixStream> {
    let socket = find(directory, name, server)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
    match stream.peer_cred()?.uid() == server {
        true => Ok(stream),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens at the socket")),
    }
}

fn find(directory: &Path, name: &str, server: u32) -> io::Result<OwnedFd> {
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = openat(&directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&socket)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_uid != server {
        let why = "what stands in the place of the socket is not the server's";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(socket)
}
