use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::call::{check_size, retry};
use crate::fd::bytes_waiting;

/// When a file is put aside for a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// No file gets longer than that, in bytes; none lets it grow.
    pub max_bytes: Option<u64>,
    /// How many earlier files are kept, as `<file>.1` (the latest), `<file>.2`, …
    pub keep: u32,
}

/// What one look at a pipe gave.
#[derive(Debug)]
pub struct Taken {
    /// How many bytes left the pipe; 0 is the pipe's end.
    pub bytes: usize,
    /// How many of them are in the buffer: all, unless another program cuts the file.
    pub shown: usize,
    /// Why some of them are not in the file.
    pub failure: Option<io::Error>,
}

/// A file that takes all that one stream has to say, byte for byte, and is rotated when it is full.
///
/// What it cannot take is counted, and the next write tries again, from the directory on. It is made
/// for its user alone (0600, in a directory of 0700 where that was missing), and no symbolic link is
/// followed to it. What it holds already stays in front. Every call blocks as the file system does.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
    written: u64,
    dropped: u64,
}

impl LogFile {
    /// One that will be at `path`. Touches nothing.
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None, written: 0, dropped: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of the stream it has taken, and how many it could not take.
    pub fn counts(&self) -> (u64, u64) {
        (self.written, self.dropped)
    }

    /// Makes the directory and the file, where they are missing.
    ///
    /// # Errors
    /// What is in the way; a write tries again.
    pub fn make(&mut self) -> io::Result<()> {
        self.ready().map(drop)
    }

    /// Goes on with what an earlier process has written: it counts as taken. Whether the stream's first byte is still there.
    ///
    /// # Errors
    /// A file cannot be looked at.
    pub fn resume(&mut self) -> io::Result<bool> {
        let (mut kept, mut number) = (0, 0);
        while number <= self.rotation.keep {
            match fs::symlink_metadata(self.numbered(number)) {
                Ok(meta) => kept += meta.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
            number += 1;
        }
        self.written = kept;
        let nothing_went = if self.rotation.keep == 0 {
            self.rotation.max_bytes.is_none()
        } else {
            number <= self.rotation.keep
        };
        Ok(nothing_went)
    }

    /// Closes the file; a write would open it again.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Takes all of `bytes`; gives why some could not be taken, which are counted.
    pub fn append(&mut self, mut bytes: &[u8]) -> Option<io::Error> {
        while !bytes.is_empty() {
            let written = self.ready().and_then(|(file, end, room)| {
                let now = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
                retry(|| file.write_at(&bytes[..now], end))
            });
            match written {
                Ok(count) if count > 0 => {
                    self.wrote(count);
                    bytes = &bytes[count..];
                }
                other => {
                    self.dropped += bytes.len() as u64;
                    return Some(other.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        None
    }

    /// Moves what waits in a pipe into the file without taking it out first, so that whoever is killed
    /// in between loses none of it; then shows it in `buffer`, which bounds how much that is.
    ///
    /// What the file cannot take is read all the same, and counted.
    ///
    /// # Errors
    /// Nothing waits in the pipe (`WouldBlock`), or it cannot be read.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Taken> {
        // Nothing is put aside before there is something to write.
        if self.open.as_ref().is_some_and(|(_, end)| *end >= self.max_bytes()) && bytes_waiting(pipe)? == 0 {
            let bytes = retry(|| read(pipe, buffer))?;
            return Ok(Taken { bytes, shown: bytes, failure: self.append(&buffer[..bytes]) });
        }
        let spliced = self.ready().and_then(|(file, end, room)| {
            let most = usize::try_from(room).map_or(buffer.len(), |room| room.min(buffer.len()));
            let bytes = splice(pipe, file, end, most)?;
            let shown = file.read_exact_at(&mut buffer[..bytes], end).map_or(0, |()| bytes);
            Ok(Taken { bytes, shown, failure: None })
        });
        match spliced {
            Ok(taken) => {
                self.wrote(taken.bytes);
                Ok(taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // A full disk, for one; or a file system that knows no splice, and takes a write.
            Err(_) => {
                let bytes = retry(|| read(pipe, buffer))?;
                Ok(Taken { bytes, shown: bytes, failure: self.append(&buffer[..bytes]) })
            }
        }
    }

    /// The bytes of the stream before its position `to`, at most `most` of them and none that are not
    /// kept any more; and where they begin. None once bytes are missing, since positions are not those
    /// of the stream then.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read_back(&self, to: u64, most: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.dropped > 0 || to > self.written {
            return Ok(None);
        }
        let from = to.saturating_sub(most);
        let (mut end, mut parts) = (self.written, Vec::new());
        for number in 0..=self.rotation.keep {
            if end <= from {
                break;
            }
            let file = match open_regular(OpenOptions::new().read(true), &self.numbered(number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                other => other?,
            };
            let length = file.metadata()?.len();
            // What lies in front of the stream is not of it.
            let (start, skipped) = (end.saturating_sub(length), length.saturating_sub(end));
            let (low, high) = (start.max(from), end.min(to));
            if low < high {
                let mut part = vec![0; usize::try_from(high - low).map_err(io::Error::other)?];
                file.read_exact_at(&mut part, skipped + low - start)?;
                parts.push((low, part));
            }
            end = start;
        }
        let begin = parts.last().map_or(to, |(low, _)| *low);
        Ok(Some((begin, parts.into_iter().rev().flat_map(|(_, part)| part).collect())))
    }

    fn max_bytes(&self) -> u64 {
        self.rotation.max_bytes.unwrap_or(u64::MAX)
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        if let Some((_, end)) = &mut self.open {
            *end += count as u64;
        }
    }

    /// The file, where its end is, and how much still fits; at least one byte.
    fn ready(&mut self) -> io::Result<(&File, u64, u64)> {
        let max = self.max_bytes();
        // What was removed takes bytes that nobody will ever see.
        if self.open.as_ref().is_some_and(|(file, _)| file.metadata().is_ok_and(|meta| meta.nlink() == 0)) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(self.open_or_make()?);
        }
        if self.open.as_ref().is_some_and(|(_, end)| *end >= max) {
            self.rotate()?;
            self.open = None;
            self.open = Some(self.open_or_make()?);
        }
        match &self.open {
            Some((file, end)) if *end < max => Ok((file, *end, max - end)),
            _ => Err(io::Error::other("another program fills the file")),
        }
    }

    fn open_or_make(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            match fs::symlink_metadata(directory) {
                Ok(meta) if meta.is_symlink() => return Err(link(directory)),
                Ok(_) => {}
                Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(directory)?,
            }
        }
        let file =
            open_regular(OpenOptions::new().read(true).write(true).create(true).mode(0o600), &self.path)?;
        let end = file.metadata()?.len();
        Ok((file, end))
    }

    fn rotate(&self) -> io::Result<()> {
        if self.rotation.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (0..self.rotation.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut path = OsString::from(&self.path);
        path.push(format!(".{number}"));
        path.into()
    }
}

fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // A FIFO would wait for its other end.
    let file = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| if error.raw_os_error() == Some(libc::ELOOP) { link(path) } else { error })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no regular file", path.display())));
    }
    Ok(file)
}

fn link(path: &Path) -> io::Error {
    io::Error::other(format!("{} is a symbolic link, and none is followed", path.display()))
}

fn splice(pipe: BorrowedFd<'_>, file: &File, at: u64, most: usize) -> io::Result<usize> {
    let mut offset = libc::loff_t::try_from(at).map_err(io::Error::other)?;
    retry(|| {
        // SAFETY: both descriptors are open, and the offset outlives the call.
        check_size(unsafe {
            libc::splice(
                pipe.as_raw_fd(),
                std::ptr::null_mut(),
                file.as_raw_fd(),
                &raw mut offset,
                most,
                libc::SPLICE_F_NONBLOCK,
            )
        })
    })
}

fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer has room for as much as is asked for.
    check_size(unsafe { libc::read(pipe.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}
