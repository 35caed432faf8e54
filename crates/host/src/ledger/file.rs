use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use procession_wire::{JournalError, decode_journal, encode_record, journal_header};
use tokio::sync::oneshot;

use super::{Entry, Past};

/// Goes up with every change to what an [`Entry`] is made of.
const VERSION: u16 = 2;
const NAME: &str = "journal";
/// The next journal, until it is whole.
const NEW: &str = "journal.new";
/// What could not be read of an earlier one, for people.
const DAMAGED: &str = "journal.damaged";

/// Why what earlier hosts wrote down cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("{}: {source}; see that it can be read and written by this user", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Journal { path: PathBuf, source: JournalError },
}

type Written = oneshot::Sender<io::Result<()>>;

/// Appends entries, on a thread of its own: a slow disk holds up nothing but launches that have to be written down first.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: PathBuf,
    entries: mpsc::Sender<(Entry, Option<Written>)>,
}

impl Ledger {
    /// Opens the journal in `directory`, which has to belong to this process alone by now, and gives what it says.
    /// It is written anew, with only what still matters.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Past), LedgerError> {
        let path = directory.join(NAME);
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed)?,
        };
        let journal = decode_journal(&bytes, VERSION)
            .map_err(|source| LedgerError::Journal { path: path.clone(), source })?;
        if journal.whole < bytes.len() {
            // The end of an entry that was being written is no loss; more than that may be, and is kept.
            tracing::warn!(
                path = %path.display(), bytes = bytes.len() - journal.whole,
                "the journal ends in bytes that are not whole; they were moved to {DAMAGED}"
            );
            fs::write(directory.join(DAMAGED), &bytes[journal.whole..]).map_err(failed)?;
        }
        let past = Past::replay(journal.records);
        let file = rewrite(directory, &past).map_err(failed)?;
        let (sender, entries) = mpsc::channel();
        let writer = thread::Builder::new().name("procession-journal".to_owned());
        writer.spawn(move || write_all(file, &entries)).map_err(failed)?;
        Ok((Self { directory: directory.to_owned(), entries: sender }, past))
    }

    /// Where it is, and what else procs and the hosts that they outlive have in common.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes it down, soon and in order. What cannot be written is logged: supervision goes on without.
    pub(crate) fn note(&self, entry: Entry) {
        let _writer_panicked = self.entries.send((entry, None));
    }

    /// Writes it down; returns when a killed host would not lose it any more. Cancel safe: it is written all the same.
    pub(crate) async fn write(&self, entry: Entry) -> io::Result<()> {
        let (written, answer) = oneshot::channel();
        let _writer_panicked = self.entries.send((entry, Some(written)));
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the journal's writer has ended")))
    }
}

fn rewrite(directory: &Path, past: &Past) -> io::Result<File> {
    let new = directory.join(NEW);
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    let mut bytes = journal_header(VERSION).to_vec();
    for entry in past.entries() {
        bytes.extend(encode_record(&entry).map_err(io::Error::other)?);
    }
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, directory.join(NAME))?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

fn write_all(mut file: File, entries: &mpsc::Receiver<(Entry, Option<Written>)>) {
    // Up to where the file is whole: what a full disk took only in part is written over by the next entry.
    let mut whole = file.metadata().map_or(0, |meta| meta.len());
    while let Ok((entry, written)) = entries.recv() {
        let done = encode_record(&entry).map_err(io::Error::other).and_then(|bytes| {
            let appended = append(&mut file, whole, &bytes);
            appended.inspect(|()| whole += bytes.len() as u64)
        });
        if let Err(error) = &done {
            tracing::warn!(%error, "the journal cannot be written; free some space: a host that is started again may not know what happened now");
        }
        if let Some(written) = written {
            let _nobody_waits = written.send(done);
        }
    }
}

fn append(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    // A process that is killed after this loses nothing of it, and a machine that fails loses the procs too.
    file.write_all_at(bytes, at).inspect_err(|_| drop(file.set_len(at)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use procession_model::{
        BootTiming, BootstrapCommand, HostId, ProcExit, ProcExitKind, ProcId, Secret, StopRequest,
    };

    use super::super::{Asked, Ended};
    use super::*;
    use crate::spec::SpawnSpec;

    fn asked(host: &HostId, name: &str) -> Box<Asked> {
        Box::new(Asked {
            proc_id: ProcId::fresh(name, host).unwrap(),
            incarnation: 1,
            at: SystemTime::now(),
            token: Secret::random(),
            spec: SpawnSpec::new(name, BootstrapCommand::new("/bin/true")),
        })
    }

    fn ended(asked: &Asked) -> Box<Ended> {
        let exit = ProcExit {
            proc_id: asked.proc_id.clone(),
            rank: 0,
            incarnation: asked.incarnation,
            launcher: "native".to_owned(),
            kind: ProcExitKind::Exited { code: 7 },
            reported: None,
            stderr_tail: vec!["last".to_owned()],
            stdout_tail: Vec::new(),
            stdout_path: None,
            stderr_path: None,
            log_dropped_bytes: 0,
            certificate: procession_model::Certificate::bare(procession_model::Verdict::AppError { code: 7 }),
            oom: None,
            pid: Some(1234),
            requested: None,
            started_at: SystemTime::now(),
            ready_at: None,
            ended_at: SystemTime::now(),
            verdict: "app error: exit code 7".to_owned(),
        };
        Box::new(Ended { exit, mesh: "of four".to_owned() })
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn the_next_host_learns_who_the_last_one_was_what_still_runs_and_how_the_rest_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, past) = Ledger::open(directory.path()).unwrap();
        assert!(past.open.is_empty() && past.ended.is_empty());
        let id = HostId::fresh("machine");
        let (lives, ends) = (asked(&id, "lives"), asked(&id, "ends"));
        let proc_id = lives.proc_id.clone();
        let request =
            StopRequest { by: "stop".to_owned(), at: SystemTime::now(), why: "the test".to_owned() };
        ledger.note(Entry::Asked(lives.clone()));
        ledger.note(Entry::Started {
            proc_id: proc_id.clone(),
            pid: 4711,
            started: 99,
            boot: "b".to_owned(),
        });
        ledger.note(Entry::Asked(ends.clone()));
        let boot = BootTiming { exec: Some(Duration::from_millis(7)), ..BootTiming::default() };
        let at = SystemTime::UNIX_EPOCH;
        ledger.note(Entry::Ready { proc_id: proc_id.clone(), at, boot: boot.clone() });
        ledger.note(Entry::StopAsked { proc_id, request: request.clone() });
        let ended = ended(&ends);
        block_on(ledger.write(Entry::Ended(ended.clone()))).unwrap();
        // Twice, because what is written anew has to say the same.
        for _ in 0..2 {
            let (_, past) = Ledger::open(directory.path()).unwrap();
            let [open] = &past.open[..] else { panic!("{:?}", past.open) };
            assert_eq!(open.asked.proc_id, lives.proc_id);
            assert_eq!(open.leader, Some((4711, 99, "b".to_owned())));
            assert_eq!((open.ready_at, &open.boot), (Some(SystemTime::UNIX_EPOCH), &boot));
            assert_eq!(open.stop, Some(request.clone()));
            assert_eq!(past.ended, [*ended.clone()]);
        }
    }

    #[test]
    fn bytes_that_are_not_whole_are_moved_aside_and_the_rest_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(directory.path()).unwrap();
        let id = HostId::fresh("machine");
        block_on(ledger.write(Entry::Asked(asked(&id, "p")))).unwrap();
        let path = directory.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"torn");
        fs::write(&path, bytes).unwrap();
        let (_, past) = Ledger::open(directory.path()).unwrap();
        assert_eq!(past.open.len(), 1);
        assert_eq!(fs::read(directory.path().join(DAMAGED)).unwrap(), b"torn");
    }

    #[test]
    fn a_journal_of_another_release_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        fs::write(&path, journal_header(VERSION + 1)).unwrap();
        let error = Ledger::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("version 3") && error.contains("journal"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), journal_header(VERSION + 1));
    }
}
