use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The files of one job, in a directory that it shares with the others of its array, on a file system that its node sees too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    /// Which element of the array it is; 0 for a job that is none.
    pub(crate) index: usize,
}

impl Files {
    /// What the job executes. It takes it away as it begins.
    pub(crate) fn commands(&self) -> PathBuf {
        self.named("sh")
    }

    /// Where it goes on once its environment is empty.
    pub(crate) fn emptied(&self) -> PathBuf {
        self.named("env.sh")
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.named("out")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.named("err")
    }

    /// Which proc it is, in labels that are not the same for all of the array.
    pub(crate) fn labels(&self) -> PathBuf {
        self.named("labels")
    }

    /// Why it never came to execute the program.
    pub(crate) fn refusal(&self) -> PathBuf {
        self.named("refused")
    }

    fn named(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", self.index))
    }

    /// Takes away what this job has left, and the directory with the last of its array.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for path in
            [self.commands(), self.emptied(), self.stdout(), self.stderr(), self.labels(), self.refusal()]
        {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Makes a directory for this user alone.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file for this user alone, which is not there yet.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_their_user_alone_and_the_last_job_takes_the_directory_along() {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("a/b");
        make_directory(&dir).expect("made");
        let jobs = [0, 1].map(|index| Files { dir: dir.clone(), index });
        for job in &jobs {
            write(&job.commands(), b"secret").expect("written");
        }
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&jobs[0].commands())), (0o700, 0o600));
        jobs[0].remove().expect("removed");
        assert!(!jobs[0].commands().exists() && jobs[1].commands().exists());
        jobs[1].remove().expect("removed");
        jobs[1].remove().expect("removed already");
        assert!(!dir.exists());
    }
}
