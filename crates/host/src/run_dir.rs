use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

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
}

impl RunDir {
    /// Makes a fresh one, and takes away what hosts that died without cleaning up have left.
    pub(crate) fn create(unique: &str) -> io::Result<Self> {
        let base = base();
        sweep(&base);
        let path = base.join(format!("{PREFIX}{unique}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
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
        let is_ours = fs::symlink_metadata(entry.path()).is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
        // A directory without a lock is one that is being made at this moment.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if is_ours && lock.try_lock().is_ok() {
            let _raced_with_another_sweep = fs::remove_dir_all(entry.path());
        }
    }
}
