use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use procession_model::LaunchId;
use rustix::fs::OFlags;

use crate::common_file::CommonFile;
use crate::flight_layout::LENGTH;

/// What a payload starts with that is in a file; none that is base64 does.
const FILE: &str = "file:";
/// And one that is in a file behind the flight record.
const BEHIND: &str = "behind:";

/// A bootstrap payload in a file, so that the environment of a proc on this machine has no secret in it.
pub(crate) enum PayloadFile {
    Alone(CommonFile),
    BehindFlight(Tail),
}

/// What is in a file behind the flight record. It goes with this.
pub(crate) struct Tail(PathBuf);

impl Drop for Tail {
    fn drop(&mut self) {
        // The proc could have put anything in its place.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&self.0);
        let is_longer =
            |file: &File| file.metadata().is_ok_and(|found| found.is_file() && found.len() > LENGTH as u64);
        // Or it has gone.
        if let Some(file) = file.ok().filter(is_longer) {
            let _ = file.set_len(LENGTH as u64);
        }
    }
}

impl PayloadFile {
    /// # Errors
    /// The directory cannot be written to.
    pub(crate) fn write(directory: &Path, launch: LaunchId, payload: &str, stays: bool) -> io::Result<Self> {
        let path = path(directory, launch);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self::Alone(CommonFile::new(path, stays));
        file.write_all(payload.as_bytes())?;
        Ok(made)
    }

    /// Into the file at `flight`, behind the flight record. To make files is what costs a host most of a launch where many have
    /// gone shortly before: ext4 looks at each of them.
    ///
    /// # Errors
    /// There is no space.
    pub(crate) fn append(flight: &Path, payload: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).open(flight)?;
        let made = Self::BehindFlight(Tail(flight.to_owned()));
        file.write_all(payload.as_bytes())?;
        Ok(made)
    }

    /// What an earlier host has written, if it is still there.
    pub(crate) fn written(directory: &Path, launch: LaunchId) -> Self {
        Self::Alone(CommonFile::new(path(directory, launch), true))
    }

    /// What stands for the payload.
    pub(crate) fn reference(&self) -> String {
        match self {
            Self::Alone(file) => format!("{FILE}{}", file.path().display()),
            Self::BehindFlight(tail) => format!("{BEHIND}{}", tail.0.display()),
        }
    }

    pub(crate) fn remove(self) {
        match self {
            Self::Alone(file) => file.remove(),
            Self::BehindFlight(tail) => drop(tail),
        }
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
    let (path, found) = if let Some(path) = text.strip_prefix(FILE) {
        (path, fs::read_to_string(path))
    } else if let Some(path) = text.strip_prefix(BEHIND) {
        (path, read_behind(path))
    } else {
        return Ok(text.to_owned());
    };
    found.map_err(|error| {
        format!("{path}: {error}; it serves one call back, by the same user, and goes when that was made or is overdue")
    })
}

fn read_behind(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(LENGTH as u64))?;
    let mut text = String::new();
    match file.read_to_string(&mut text)? {
        0 => Err(io::Error::new(io::ErrorKind::NotFound, "the payload is gone")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::flight::{FlightFile, Recorder};

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
    fn behind_a_flight_record_it_goes_and_leaves_that_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let record = FlightFile::create(directory.path(), LaunchId::fresh()).expect("a file");
        let before = fs::read(record.path()).expect("it is there");
        let payload = PayloadFile::append(record.path(), "the payload").expect("it can be written");
        let text = payload.reference();
        assert_eq!(resolve(&text).as_deref(), Ok("the payload"));
        let recorder = Recorder::open(record.path()).expect("a record");
        payload.remove();
        let error = resolve(&text).expect_err("it is gone");
        assert!(error.contains("one call back"), "{error}");
        drop(recorder);
        assert_eq!(fs::read(record.path()).expect("it is there").len(), before.len());
        let late = PayloadFile::append(record.path(), "the payload").expect("it can be written");
        record.remove();
        drop(late);
        assert_eq!(fs::read_dir(directory.path()).expect("it is ours").count(), 0);
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
