use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use procession_wire::{JournalError, decode_journal};
use tokio::sync::oneshot;

use super::writer::Writer;
use super::{Entry, Past};

/// Goes up with every change to what an [`Entry`] is made of.
pub(super) const VERSION: u16 = 3;
pub(super) const NAME: &str = "journal";
/// What could not be read of an earlier one, for people.
pub(super) const DAMAGED: &str = "journal.damaged";

/// Why what earlier hosts wrote down cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("{}: {source}; see that it can be read and written by this user", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Journal { path: PathBuf, source: JournalError },
}

pub(super) type Written = oneshot::Sender<io::Result<()>>;

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
            // Behind what is there from an earlier time.
            let mut options = OpenOptions::new();
            let damaged = options.create(true).append(true).mode(0o600).open(directory.join(DAMAGED));
            damaged.and_then(|mut file| file.write_all(&bytes[journal.whole..])).map_err(failed)?;
        }
        let mut past = Past::replay(journal.records);
        past.groups.retain(|_, group| !group.is_over());
        if past.groups.is_empty() {
            past.listens.clear();
        }
        let writer = Writer::begin(directory, past.clone()).map_err(failed)?;
        let (sender, entries) = mpsc::channel();
        let thread = thread::Builder::new().name("procession-journal".to_owned());
        thread.spawn(move || writer.run(&entries)).map_err(failed)?;
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
