use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::ListenError;

/// The user that this process runs as; the kernel says it of both ends of a pair.
pub(crate) fn own_uid() -> io::Result<u32> {
    Ok(UnixStream::pair()?.0.peer_cred()?.uid())
}

/// Whether `uid` may be at the other end: ourselves, or root, who needs no socket to be us.
pub(crate) fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// A bound socket's file, which goes when the listener does.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: what stands at the path later need not be ours.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds a socket that only this user can reach.
    pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Self), ListenError> {
        check_directory(path)?;
        let failed = |source| ListenError::Bind { address: format!("unix:{}", path.display()), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        Ok((listener, Self { path: path.to_owned(), identity: identity(&metadata) }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn check_directory(path: &Path) -> Result<(), ListenError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let refused = |why: String| ListenError::Directory { directory: directory.to_owned(), why };
    let metadata = fs::symlink_metadata(directory).map_err(|error| refused(error.to_string()))?;
    if metadata.is_symlink() {
        return Err(refused("it is a symbolic link, which can be turned elsewhere".to_owned()));
    }
    if !metadata.is_dir() {
        return Err(refused("it is not a directory".to_owned()));
    }
    let own = own_uid().map_err(|error| refused(error.to_string()))?;
    if metadata.uid() != own {
        return Err(refused(format!("it belongs to user {} and this process runs as {own}", metadata.uid())));
    }
    match metadata.mode() & 0o7777 {
        0o700 => Ok(()),
        mode => Err(refused(format!("its mode is {mode:04o}: use chmod 0700"))),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.file_type().is_socket() && identity(&found) == self.identity);
        if ours {
            // It may have been removed in between, with its directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}
