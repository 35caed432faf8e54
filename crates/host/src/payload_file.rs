use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use procession_model::LaunchId;

use crate::common_file::CommonFile;

/// What a payload starts with that is in a file; none that is base64 does.
const FILE: &str = "file:";

/// A bootstrap payload in a file, so that the environment of a proc on this machine has no secret in it.
pub(crate) struct PayloadFile(CommonFile);

impl PayloadFile {
    /// # Errors
    /// The directory cannot be written to.
    pub(crate) fn write(directory: &Path, launch: LaunchId, payload: &str, stays: bool) -> io::Result<Self> {
        let path = path(directory, launch);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self(CommonFile::new(path, stays));
        file.write_all(payload.as_bytes())?;
        Ok(made)
    }

    /// What an earlier host has written, if it is still there.
    pub(crate) fn written(directory: &Path, launch: LaunchId) -> Self {
        Self(CommonFile::new(path(directory, launch), true))
    }

    /// What stands for the payload.
    pub(crate) fn reference(&self) -> String {
        format!("{FILE}{}", self.0.path().display())
    }

    pub(crate) fn remove(self) {
        self.0.remove();
    }
}

fn path(directory: &Path, launch: LaunchId) -> PathBuf {
    directory.join(format!("launch-{launch}"))
}

/// The payload that `text` is, or stands for.
///
/// # Errors
/// The file that it names cannot be read.
pub(crate) fn resolve(text: &str) -> Result<String, String> {
    let Some(path) = text.strip_prefix(FILE) else { return Ok(text.to_owned()) };
    fs::read_to_string(path).map_err(|error| {
        format!("{path}: {error}; it serves one call back, by the same user, and goes when that was made or is overdue")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_payload_is_in_a_file_of_its_user_until_it_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let launch = LaunchId::fresh();
        let write = |payload, stays| PayloadFile::write(directory.path(), launch, payload, stays);
        let file = write("the payload", false).expect("it can be written");
        assert!(write("another", false).is_err(), "it is not replaced");
        let text = file.reference();
        let mode = fs::metadata(text.strip_prefix(FILE).expect("a path")).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(resolve(&text).as_deref(), Ok("the payload"));
        drop(file);
        let error = resolve(&text).expect_err("it is gone");
        assert!(error.contains("No such file") && error.contains("one call back"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).expect("it is ours").count(), 0);
        assert_eq!(resolve("cGF5bG9hZA").as_deref(), Ok("cGF5bG9hZA"));
    }

    #[test]
    fn that_of_a_proc_which_outlives_its_host_stays_until_it_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let launch = LaunchId::fresh();
        let text =
            PayloadFile::write(directory.path(), launch, "the payload", true).expect("a file").reference();
        assert_eq!(resolve(&text).as_deref(), Ok("the payload"));
        PayloadFile::written(directory.path(), launch).remove();
        resolve(&text).expect_err("it is gone");
    }
}
