//! QEMU's own protocol: what happens to a machine, line by line.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// What QEMU has told of a machine's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Its kernel has failed.
    pub(crate) panicked: bool,
    /// Why it was turned off, in QEMU's words: `guest-shutdown`, `host-signal`.
    pub(crate) reason: Option<String>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let Ok(told) = serde_json::from_str::<Value>(line) else { return };
        match told["event"].as_str() {
            Some("GUEST_PANICKED") => self.panicked = true,
            Some("SHUTDOWN") => self.reason = told["data"]["reason"].as_str().map(str::to_owned),
            _ => {}
        }
    }
}

/// A conversation with one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Qmp {
    /// # Errors
    /// Nobody listens there, or it is no QEMU.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(path).await?.into_split();
        let mut qmp = Self { reader: BufReader::new(reader), writer };
        if !qmp.line().await?.contains("\"QMP\"") {
            return Err(io::Error::other("who listens there is no QEMU"));
        }
        qmp.tell("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Without waiting for an answer.
    pub(crate) async fn tell(&mut self, command: &str) -> io::Result<()> {
        self.writer.write_all(format!("{{\"execute\": {command:?}}}\n").as_bytes()).await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Until QEMU has ended.
    pub(crate) async fn listen(mut self, told: Arc<Mutex<Told>>) {
        while let Ok(line) = self.line().await {
            told.lock().unwrap_or_else(PoisonError::into_inner).hear(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_the_reason_of_an_end_are_heard_among_all_else() {
        let mut told = Told::default();
        for line in [
            r#"{"return": {}}"#,
            r#"{"timestamp": {}, "event": "RESUME"}"#,
            "no JSON",
            r#"{"event": "GUEST_PANICKED", "data": {"action": "shutdown"}}"#,
            r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#,
        ] {
            told.hear(line);
        }
        assert_eq!(told, Told { panicked: true, reason: Some("guest-panic".to_owned()) });
    }
}
