use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf, absolute};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_launch::{Output, follow};
use procession_model::OutputFiles;
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// What stands in the fields of a unit that outlives its host before the path of its files.
const FIELD: &str = "PROCESSION_OUTPUT=";

/// Where the output of a unit comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The ends to read, until somebody does.
    Pipes(Mutex<Option<[OwnedFd; 2]>>),
    /// It outlives its host.
    Files(Files, watch::Sender<bool>),
    /// Another process has launched it, and reads it, or nobody does.
    Elsewhere,
}

/// Two files that a unit writes to, `PATH.out` and `PATH.err`, from which its host reads as from pipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files(PathBuf);

impl Files {
    /// Those of `unit` beside the files that its host writes.
    ///
    /// # Errors
    /// The path cannot be found out.
    pub(crate) fn beside(files: &OutputFiles, unit: &str) -> io::Result<Self> {
        Ok(Self(absolute(&files.stdout)?.with_file_name(unit)))
    }

    /// Those that the fields of a unit name.
    pub(crate) fn among(fields: &[Vec<u8>]) -> Option<Self> {
        let path = fields.iter().find_map(|field| field.strip_prefix(FIELD.as_bytes()))?;
        Some(Self(Path::new(OsStr::from_bytes(path)).to_owned()))
    }

    /// What names them.
    pub(crate) fn field(&self) -> Vec<u8> {
        [FIELD.as_bytes(), self.0.as_os_str().as_bytes()].concat()
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["out", "err"].map(|kind| {
            let mut path = self.0.clone().into_os_string();
            path.push(".");
            path.push(kind);
            path.into()
        })
    }

    /// Makes them, for this user alone: where the unit is to write.
    ///
    /// # Errors
    /// They cannot be made; none is left then.
    pub(crate) fn make(&self) -> io::Result<[OwnedFd; 2]> {
        let open = |path: &Path| OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let [out, err] = self.paths();
        let first = open(&out)?;
        match open(&err) {
            Ok(second) => Ok([first.into(), second.into()]),
            Err(error) => {
                let _not_left = fs::remove_file(&out);
                Err(error)
            }
        }
    }

    /// # Errors
    /// One is left.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for path in self.paths() {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Source {
    pub(crate) fn of(files: Option<Files>) -> Self {
        files.map_or(Self::Elsewhere, |files| Self::Files(files, watch::Sender::new(false)))
    }

    /// Nothing more is written to it.
    pub(crate) fn end(&self) {
        if let Self::Files(_, ended) = self {
            ended.send_replace(true);
        }
    }

    /// # Errors
    /// What it leaves cannot be taken away.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self {
            Self::Files(files, _) => files.remove(),
            Self::Pipes(_) | Self::Elsewhere => Ok(()),
        }
    }

    /// Passes all of it on.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) async fn pass_on(&self, output: Output) -> Result<(), String> {
        match self {
            Self::Files(files, ended) => follow(files.paths(), output, ended.subscribe()).await,
            Self::Elsewhere => Ok(()),
            Self::Pipes(pipes) => {
                let pipes = lock(pipes).take();
                let Some(pipes) = pipes else { return Ok(()) };
                read(pipes, output).await.map_err(|error| error.to_string())
            }
        }
    }
}

async fn read(pipes: [OwnedFd; 2], Output { mut stdout, mut stderr }: Output) -> io::Result<()> {
    let [out, err] = pipes.map(pipe::Receiver::from_owned_fd);
    let (mut out, mut err) = (out?, err?);
    let each = async {
        let _nobody_reads = copy(&mut out, &mut stdout).await;
        let _or_flushes = stdout.shutdown().await;
    };
    let other = async {
        let _nobody_reads = copy(&mut err, &mut stderr).await;
        let _or_flushes = stderr.shutdown().await;
    };
    tokio::join!(each, other);
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of each unit that is known here, until it is taken away.
#[derive(Debug, Default)]
pub(crate) struct Sources(Mutex<HashMap<String, Arc<Source>>>);

impl Sources {
    pub(crate) fn get(&self, unit: &str) -> Option<Arc<Source>> {
        lock(&self.0).get(unit).cloned()
    }

    /// The one that is known already, if there is one.
    pub(crate) fn add(&self, unit: &str, source: Source) -> Arc<Source> {
        Arc::clone(lock(&self.0).entry(unit.to_owned()).or_insert_with(|| Arc::new(source)))
    }

    pub(crate) fn forget(&self, unit: &str) {
        lock(&self.0).remove(unit);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_files_are_for_their_user_alone_and_are_found_by_the_field_of_the_unit() {
        let outer = tempfile::tempdir().expect("a directory");
        let (stdout, stderr) = (outer.path().join("p-0.1.out"), outer.path().join("p-0.1.err"));
        let output = OutputFiles { stdout, stderr, max_bytes: None, keep: 0 };
        let files = Files::beside(&output, "procession-p.service").expect("a path");
        drop(files.make().expect("made"));
        assert!(files.make().is_err(), "they are there");
        for path in files.paths() {
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(Files::among(&[b"OTHER=x".to_vec(), files.field()]).as_ref(), Some(&files));
        files.remove().expect("removed");
        files.remove().expect("removed already");
        assert_eq!(fs::read_dir(outer.path()).expect("there").count(), 0);
    }
}
