use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use procession_model::Secret;
use procession_sys::own_ids;
use ring::hmac;

use crate::socket_file::is_trusted;

/// Of a key in bytes, and of the text that it is kept as.
const LEN: usize = 32;
const DIGITS: usize = 2 * LEN;
/// The longest text that may be a key, with blanks around it.
const MOST: u64 = 256;

/// What machines share whose ends trust each other: who has it may launch programs on each of them. It shows in no
/// log, error or `Debug` form.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(Secret);

/// Why there is no session key. The text never shows anything of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// None was given.
    #[error(
        "there is no session key: make one with `procession key FILE`, copy that file to each machine, and name it by {file} there (or give its text in {text})",
        file = SessionKey::FILE_ENV,
        text = SessionKey::ENV
    )]
    Missing,
    /// What was given is none.
    #[error("{from} is no session key, which is {DIGITS} hex digits: {why}; `procession key` makes one")]
    Malformed {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// Others can read it.
    #[error("the session key in {} can be read by others: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// In which way, and what to do.
        why: String,
    },
    /// The file cannot be read.
    #[error("the session key cannot be read from {}: {source}; `procession key {}` makes one", path.display(), path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("the session key cannot be written to {}: {source}; give the path of a file that is not there yet", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SessionKey {
    /// The variable that may hold a key, as hex digits.
    pub const ENV: &str = "PROCESSION_SESSION_KEY";
    /// The variable that may name the file of one.
    pub const FILE_ENV: &str = "PROCESSION_SESSION_KEY_FILE";

    /// A new one.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// These 32 bytes.
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    /// The key that `text` shows, which came `from` somewhere.
    ///
    /// # Errors
    /// It is not 64 hex digits, with blanks around them at most.
    pub fn from_text(text: &[u8], from: &str) -> Result<Self, KeyError> {
        let malformed = |why: String| KeyError::Malformed { from: from.to_owned(), why };
        let text = text.trim_ascii();
        if text.len() != DIGITS {
            return Err(malformed(format!("it has {} characters", text.len())));
        }
        let digit = |at: usize| (text[at] as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; LEN];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let [high, low] = [2 * at, 2 * at + 1].map(digit);
            let (Some(high), Some(low)) = (high, low) else {
                return Err(malformed(format!("character {} or the next one is no hex digit", 2 * at)));
            };
            *byte = high << 4 | low;
        }
        Ok(Self::from_bytes(bytes))
    }

    /// The key in a file of this user that nobody else can read.
    ///
    /// # Errors
    /// There is no such file, others can read it, or it has something else in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read { path: path.to_owned(), source };
        let open = |why: String| KeyError::Open { path: path.to_owned(), why };
        // Before it is opened, which waits for a writer where it is a pipe.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !is_trusted(found.uid(), own_ids().0) {
            return Err(open(format!("it belongs to user {}; copy it to a file of this user", found.uid())));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o777;
            return Err(open(format!(
                "its mode is {mode:04o}; run chmod 600 {}, and make a new key if somebody may have read it",
                path.display()
            )));
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).map_err(failed)?;
        Self::from_text(&text, &path.display().to_string())
    }

    /// The key that the environment holds, or names the file of.
    ///
    /// # Errors
    /// It does neither, or what it holds is none.
    pub fn from_environment() -> Result<Self, KeyError> {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(text) = given(Self::ENV) {
            return Self::from_text(text.as_encoded_bytes(), Self::ENV);
        }
        given(Self::FILE_ENV).map_or(Err(KeyError::Missing), |path| Self::read(Path::new(&path)))
    }

    /// Writes it to a new file that only this user can read.
    ///
    /// # Errors
    /// There is a file already, or it cannot be made.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{}\n", self.text()).as_bytes()));
        written.map_err(|source| KeyError::Write { path: path.to_owned(), source })
    }

    /// As hex digits, for whoever keeps it: not for a log.
    pub fn text(&self) -> String {
        self.0.expose().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What those who dial with this key prove.
    pub fn token(&self) -> Secret {
        Secret::from_bytes(self.derive(b"procession 1 token of who dials"))
    }

    /// A secret of its own for each `label`, from which nobody finds the key.
    pub(crate) fn derive(&self, label: &[u8]) -> [u8; LEN] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.expose()), label);
        let mut secret = [0; LEN];
        secret.copy_from_slice(tag.as_ref());
        secret
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_the_same_after_a_file_and_shows_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (directory.path().join("key"), SessionKey::random());
        key.write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(SessionKey::read(&path).unwrap() == key);
        assert!(key.write(&path).unwrap_err().to_string().contains("not there yet"));
        assert!(SessionKey::read(&path).unwrap() == key, "nothing was overwritten");
        assert_eq!(format!("{key:?} {key:#?}"), "SessionKey(…) SessionKey(…)");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        SessionKey::random().write(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = SessionKey::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let digits = "0123456789abcdef".repeat(4);
        let long = format!("{digits}0");
        let odd = format!("x{}", &digits[1..]);
        for text in ["", "canary", &digits[1..], &long, &odd] {
            let error = SessionKey::from_text(text.as_bytes(), "FILE").unwrap_err().to_string();
            assert!(error.contains("64 hex digits") && error.contains("FILE"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(SessionKey::from_text(format!(" {digits}\n").as_bytes(), "").is_ok());
        let error = SessionKey::read(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("no regular file") && error.contains("procession key"), "{error}");
        let error = SessionKey::read(Path::new("/no/such/key")).unwrap_err().to_string();
        assert!(error.contains("procession key /no/such/key"), "{error}");
    }

    #[test]
    fn what_is_derived_differs_by_key_and_purpose_and_nothing_else() {
        let (one, other) = (SessionKey::from_bytes([1; 32]), SessionKey::from_bytes([2; 32]));
        assert_eq!(one.derive(b"a"), one.clone().derive(b"a"));
        assert_ne!(one.derive(b"a"), one.derive(b"b"));
        assert_ne!(one.derive(b"a"), other.derive(b"a"));
        assert!(one.token() != Secret::from_bytes([1; 32]));
    }
}
