use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_launch_local::{left_behind, sweep_groups};
use rustix::fs::{FlockOperation, flock};

use crate::dead_hosts;
use crate::run_record::{RunRecord, Standing};

const PREFIX: &str = "procession-";
const LOCK: &str = "lock";
/// Leaves room for the directory and the longest name in it, 46 bytes together, in the 107 of a socket's path.
const LONGEST: usize = 60;
/// No host takes as long as that to lock its directory and to give it its name.
const STILLBORN: Duration = Duration::from_secs(600);

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
    /// Makes a fresh one in the first place that allows it. What hosts that died without cleaning up have
    /// left in any of the places is ended and taken away, which nobody waits for.
    ///
    /// # Errors
    /// Says of each place where its path came from, and what is wrong with it.
    pub(crate) fn create(unique: &str) -> io::Result<Self> {
        sweep(abandoned());
        Self::create_in(places(), unique)
    }

    fn create_in<'a>(places: impl Iterator<Item = (&'a str, PathBuf)>, unique: &str) -> io::Result<Self> {
        let mut kind = io::ErrorKind::NotFound;
        let mut refused = Vec::new();
        for (source, base) in places {
            match Self::create_at(&base, unique) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    kind = error.kind();
                    refused.push(format!("{} ({source}): {error}", base.display()));
                }
            }
        }
        Err(io::Error::new(kind, refused.join("; ")))
    }

    fn create_at(base: &Path, unique: &str) -> io::Result<Self> {
        let unfit = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !base.is_absolute() {
            return unfit("the path is not absolute");
        }
        if base.as_os_str().len() > LONGEST {
            return unfit("the path is too long for sockets");
        }
        let path = base.join(format!("{PREFIX}{unique}"));
        // It gets its name once it is locked: no sweep ever sees it without its owner.
        let nameless = base.join(format!(".{PREFIX}{unique}"));
        DirBuilder::new().mode(0o700).create(&nameless)?;
        let made = lock_in(&nameless).and_then(|lock| {
            RunRecord::write(&nameless)?;
            fs::rename(&nameless, &path)?;
            Ok(lock)
        });
        let lock = made.inspect_err(|_| drop(fs::remove_dir_all(&nameless)))?;
        Ok(Self { path, _lock: lock, owner: std::process::id() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Where a run directory may be, best first, and what says so.
fn places() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let given = |name| std::env::var_os(name).map(|path| (name, PathBuf::from(path)));
    // What another user's session left in the environment is not for this one.
    let places = [given("XDG_RUNTIME_DIR"), given("TMPDIR"), Some(("the default", PathBuf::from("/tmp")))];
    places.into_iter().flatten()
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

/// A run directory whose host no longer holds its lock; it is held here now.
pub(crate) struct Abandoned {
    pub(crate) path: PathBuf,
    pub(crate) lock: Option<File>,
    pub(crate) record: Option<RunRecord>,
}

/// Those of this user, in all places.
pub(crate) fn abandoned() -> Vec<Abandoned> {
    let mut bases: Vec<_> = places().map(|(_, base)| base).collect();
    bases.sort();
    bases.dedup();
    bases.iter().flat_map(|base| abandoned_in(base, STILLBORN)).collect()
}

/// Run directories without a host, and those that never got so far as to be named and are older than
/// `stillborn`. Those of other users are left alone.
fn abandoned_in(base: &Path, stillborn: Duration) -> Vec<Abandoned> {
    let Ok(own) = fs::metadata("/proc/self").map(|meta| meta.uid()) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_nameless = name.strip_prefix('.').is_some_and(|name| name.starts_with(PREFIX));
        if !is_nameless && !name.starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if !meta.is_dir() || meta.uid() != own {
            continue;
        }
        let age = meta.modified().ok().and_then(|made| made.elapsed().ok()).unwrap_or_default();
        if is_nameless && age <= stillborn {
            continue;
        }
        match File::open(path.join(LOCK)) {
            Ok(lock) => {
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    let record = RunRecord::read(&path);
                    found.push(Abandoned { path, lock: Some(lock), record });
                }
            }
            // Something else may have such a name, but nothing with a dot before it.
            Err(error) if is_nameless && error.kind() == io::ErrorKind::NotFound => {
                found.push(Abandoned { path, lock: None, record: None });
            }
            Err(_) => {}
        }
    }
    found
}

/// Takes them away: at once where nothing lives of their host, else when that is ended, by a thread.
fn sweep(all: Vec<Abandoned>) {
    let mut living = Vec::new();
    for abandoned in all {
        match abandoned.record.as_ref().map_or(Standing::Bygone, RunRecord::standing) {
            Standing::Bygone => drop(fs::remove_dir_all(&abandoned.path)),
            Standing::Here => living.push(abandoned),
            Standing::NotOurs => {}
        }
    }
    if living.is_empty() {
        return;
    }
    let run = || {
        for Abandoned { path, lock: _held, record } in living {
            // What could not be ended is left for the next host.
            if record.as_ref().is_some_and(dead_hosts::end) {
                let _raced_with_its_user = fs::remove_dir_all(path);
            }
        }
        // What carried no mark is in their control groups.
        sweep_groups(&left_behind());
    };
    if let Err(error) = std::thread::Builder::new().name("procession-sweep".into()).spawn(run) {
        tracing::warn!(%error, "what dead hosts have left is not swept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_used_is_passed_over_for_the_next() {
        let good = tempfile::tempdir().unwrap();
        let places = [
            ("XDG_RUNTIME_DIR", PathBuf::from("/proc/self")),
            ("TMPDIR", PathBuf::from("relative")),
            ("the default", good.path().to_owned()),
        ];
        let made = RunDir::create_in(places.into_iter(), "test").unwrap();
        assert_eq!(made.path(), good.path().join("procession-test"));
        drop(made);
        assert_eq!(fs::read_dir(good.path()).unwrap().count(), 0);
    }

    mod f75 {
        use super::*;

        #[test]
        fn when_no_place_can_be_used_each_is_named_with_where_it_came_from_and_why() {
            let long = PathBuf::from(format!("/{}", "x".repeat(LONGEST)));
            let places = [("XDG_RUNTIME_DIR", PathBuf::from("/proc/self")), ("TMPDIR", long)];
            let text = RunDir::create_in(places.into_iter(), "test").unwrap_err().to_string();
            assert!(text.starts_with("/proc/self (XDG_RUNTIME_DIR): "), "{text}");
            assert!(text.contains("x (TMPDIR): the path is too long for sockets"), "{text}");
        }
    }

    #[test]
    fn what_dead_hosts_left_is_taken_away_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str, locked: bool| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            locked.then(|| lock_in(&path).unwrap())
        };
        drop(make("procession-dead", true));
        drop(make(".procession-stillborn", true));
        make(".procession-stillborn-without-a-lock", false);
        make("procession-somebody-elses", false);
        let _lives = [make("procession-lives", true), make(".procession-being-born", true)];
        sweep(abandoned_in(base.path(), STILLBORN));
        let left = || {
            let mut left: Vec<_> = fs::read_dir(base.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            left
        };
        assert_eq!(left().len(), 5, "what has no name yet is left for a while: {:?}", left());
        sweep(abandoned_in(base.path(), Duration::ZERO));
        assert_eq!(left(), [".procession-being-born", "procession-lives", "procession-somebody-elses"]);
    }
}
