use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "procession-";
const LOCK: &str = "lock";
/// Leaves room for a file name below the 107 bytes of a socket's path.
const LONGEST: usize = 70;

/// The directory of one host: only its user can enter, it is locked while the host lives, and it
/// goes with it.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: File,
    /// A fork of this process has it too, and must leave it alone.
    owner: u32,
}

impl RunDir {
    /// Makes a fresh one, and takes away what hosts that died without cleaning up have left.
    pub(crate) fn create(unique: &str) -> io::Result<Self> {
        let base = base();
        sweep(&base);
        let path = base.join(format!("{PREFIX}{unique}"));
        // It gets its name once it is locked: no sweep ever sees it without its owner.
        let nameless = base.join(format!(".{PREFIX}{unique}"));
        DirBuilder::new().mode(0o700).create(&nameless)?;
        let made = lock_in(&nameless).and_then(|lock| fs::rename(&nameless, &path).map(|()| lock));
        let lock = made.inspect_err(|_| drop(fs::remove_dir_all(&nameless)))?;
        Ok(Self { path, _lock: lock, owner: std::process::id() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn lock_in(directory: &Path) -> io::Result<File> {
    let lock = File::create(directory.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the run directory could not be removed");
        }
    }
}

fn base() -> PathBuf {
    let fits = |path: &PathBuf| path.is_absolute() && path.is_dir() && path.as_os_str().len() <= LONGEST;
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(fits)
        .or_else(|| Some(std::env::temp_dir()).filter(fits))
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Removes run directories whose host no longer holds the lock. Those of others are left alone.
fn sweep(base: &Path) {
    let Ok(own) = fs::metadata("/proc/self").map(|meta| meta.uid()) else { return };
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let meta = fs::symlink_metadata(entry.path());
        if !meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == own) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _raced_with_another_sweep = fs::remove_dir_all(entry.path());
        }
    }
}
