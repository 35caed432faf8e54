use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Output;

/// How soon a file is looked at again, first and when nothing has come for a while.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
const PIECE: usize = 64 << 10;

/// One file that grows somewhere else.
struct Followed {
    path: PathBuf,
    read: u64,
}

impl Followed {
    /// Passes on what has come. It is opened each time, since a network file system shows only then what is new.
    async fn pass_on(&mut self, to: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<bool, String> {
        let mut came = false;
        loop {
            let (path, from) = (self.path.clone(), self.read);
            let piece = tokio::task::spawn_blocking(move || piece(&path, from)).await;
            let piece = piece.map_err(|error| error.to_string())?;
            let piece = piece.map_err(|error| format!("{}: {error}", self.path.display()))?;
            if piece.is_empty() {
                return Ok(came);
            }
            came = true;
            self.read += piece.len() as u64;
            if to.write_all(&piece).await.is_err() {
                // Nobody reads it any more.
                return Ok(came);
            }
        }
    }
}

fn piece(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Passes on what grows in two files, standard output and standard error, until their writer has `ended` and all of it was read.
///
/// # Errors
/// A file cannot be read; one that is not there yet is waited for.
pub async fn follow(
    [stdout, stderr]: [PathBuf; 2],
    mut output: Output,
    mut ended: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut stdout = Followed { path: stdout, read: 0 };
    let mut stderr = Followed { path: stderr, read: 0 };
    let mut pause = PAUSE.0;
    loop {
        // What comes after this is of what has outlived the job.
        let is_last = *ended.borrow_and_update();
        let came = stdout.pass_on(&mut *output.stdout).await? | stderr.pass_on(&mut *output.stderr).await?;
        if is_last {
            return Ok(());
        }
        pause = if came { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::select! {
            () = sleep(pause) => {}
            told = ended.changed() => {
                if told.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
