use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What systemd sets in the environment of services by itself, beside what its manager has.
pub(crate) const OF_SYSTEMD: [&str; 24] = [
    "CREDENTIALS_DIRECTORY",
    "EXIT_CODE",
    "EXIT_STATUS",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LOGNAME",
    "LOG_NAMESPACE",
    "MAINPID",
    "MANAGERPID",
    "MANAGERPIDFDID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "PATH",
    "SERVICE_RESULT",
    "SHELL",
    "SYSTEMD_EXEC_PID",
    "TERM",
    "USER",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
];

/// The variables of a proc, in a file that its manager reads when it starts the proc: whoever may talk to the manager can read the
/// properties of a unit, and these nobody but this user and root. It goes with this.
pub(crate) struct EnvironmentFile(PathBuf);

impl EnvironmentFile {
    /// # Errors
    /// A variable cannot be in one, or the directory cannot be written to.
    pub(crate) fn write(unit: &str, variables: &[(String, String)]) -> io::Result<Self> {
        let text = text(variables)?;
        let path = directory().join(format!("{unit}.env"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for EnvironmentFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the file with a proc's environment could not be removed");
        }
    }
}

/// One that the manager sees too.
fn directory() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    own.filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir)
}

fn text(variables: &[(String, String)]) -> io::Result<String> {
    let mut text = String::new();
    for (name, value) in variables {
        if !is_name(name) {
            let why = format!("env[{name:?}]: systemd takes names of letters, digits and _; rename it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        text.push_str(name);
        text.push_str("=\"");
        for letter in value.chars() {
            if matches!(letter, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(letter);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn values_are_quoted_as_systemd_reads_them() {
        let written = text(&[pair("A", "x\"y\n\\ $B `c`"), pair("_E2", "")]).unwrap();
        assert_eq!(written, "A=\"x\\\"y\n\\\\ \\$B \\`c\\`\"\n_E2=\"\"\n");
    }

    #[test]
    fn a_name_that_systemd_would_leave_out_is_refused() {
        for name in ["", "1A", "A.B", "A B", "Ä"] {
            let error = text(&[pair(name, "")]).unwrap_err().to_string();
            assert!(error.contains("rename it"), "{error}");
        }
    }

    #[test]
    fn the_file_is_for_its_user_alone_and_goes_with_what_wrote_it() {
        let unit = format!("test-{}.service", std::process::id());
        let file = EnvironmentFile::write(&unit, &[pair("A", "b")]).unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }
}
