use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use procession_wire::{encode_record, journal_header};

use super::file::{NAME, VERSION, Written};
use super::{Entry, Past};

/// The next journal, until it is whole.
const NEW: &str = "journal.new";
/// A journal that is shorter, in bytes, is not written anew.
pub(super) const SMALL: u64 = 1 << 20;

/// The journal, as long as this process is the one that writes it.
pub(super) struct Writer {
    directory: PathBuf,
    pub(super) file: File,
    /// What was written down so far, and what of it could not be.
    past: Past,
    /// Up to where the file is whole.
    whole: u64,
    /// The length at which it is worth writing anew.
    limit: u64,
    /// An entry is missing in the file.
    behind: bool,
}

impl Writer {
    pub(super) fn begin(directory: &Path, past: Past) -> io::Result<Self> {
        let (file, whole) = rewrite(directory, &past)?;
        Ok(Self { directory: directory.to_owned(), file, past, whole, limit: limit(whole), behind: false })
    }

    pub(super) fn run(mut self, entries: &mpsc::Receiver<(Entry, Option<Written>)>) {
        while let Ok((entry, written)) = entries.recv() {
            let done = self.write(entry);
            if let Err(error) = &done {
                tracing::warn!(%error, "the journal cannot be written; free some space: a host that is started again may not know what happened now");
            }
            if let Some(written) = written {
                let _nobody_waits = written.send(done);
            }
        }
    }

    pub(super) fn write(&mut self, entry: Entry) -> io::Result<()> {
        let bytes = encode_record(&entry).map_err(io::Error::other)?;
        self.past.take(entry);
        if self.behind || self.whole > self.limit {
            self.behind = true;
            (self.file, self.whole) = rewrite(&self.directory, &self.past)?;
            (self.behind, self.limit) = (false, limit(self.whole));
            return Ok(());
        }
        procession_sys::failpoint!("host-journal-append");
        // A process that is killed after this loses nothing of it, and a machine that fails loses the procs too.
        if let Err(error) = self.file.write_all_at(&bytes, self.whole) {
            // What a full disk has taken only a part of makes place, and is made up for by the next entry.
            let _cut = self.file.set_len(self.whole);
            self.behind = true;
            return Err(error);
        }
        self.whole += bytes.len() as u64;
        Ok(())
    }
}

fn limit(whole: u64) -> u64 {
    SMALL.max(whole * 4)
}

/// Only what still matters, in a file that is whole before it has the journal's name.
fn rewrite(directory: &Path, past: &Past) -> io::Result<(File, u64)> {
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
    Ok((file, bytes.len() as u64))
}
