use std::fs;
use std::path::{Path, PathBuf};

/// A file that a proc has in common with its host. It goes with this; one that `stays`, because the proc outlives its
/// host, goes only when it is removed.
#[derive(Debug)]
pub(crate) struct CommonFile {
    path: PathBuf,
    stays: bool,
}

impl CommonFile {
    pub(crate) fn new(path: PathBuf, stays: bool) -> Self {
        Self { path, stays }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn remove(mut self) {
        self.stays = false;
    }
}

impl Drop for CommonFile {
    fn drop(&mut self) {
        if !self.stays {
            // It may have gone with its directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}
