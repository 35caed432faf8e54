use std::ffi::{OsStr, OsString};
use std::io;

/// Takes a variable out of this process's environment; none when it is not set.
///
/// # Errors
/// It is set, and this process has other threads, which may be using the environment: it stays. To be
/// called at the start of `main`.
pub fn take_variable(name: impl AsRef<OsStr>) -> io::Result<Option<OsString>> {
    let name = name.as_ref();
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let text = format!(
            "{} cannot be taken out of the environment, which {} other threads may be using; do it first in main",
            name.display(),
            threads - 1
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    // SAFETY: no other thread uses the environment, since there is none and nobody but this one could
    // start one.
    unsafe { std::env::remove_var(name) };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_was_taken_is_in_the_environment_no_more() {
        // A forked child has one thread, as a program has at the start of main.
        // SAFETY: the child asks the C library for nothing that another thread could hold, and goes at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let taken = take_variable("PATH").is_ok_and(|path| path.is_some());
            // SAFETY: it ends this process and does nothing else.
            unsafe { libc::_exit(i32::from(!(taken && std::env::var_os("PATH").is_none()))) };
        }
        let mut status = 0;
        // SAFETY: it writes one integer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    }

    #[test]
    fn a_variable_stays_where_other_threads_may_be_using_it() {
        let text = take_variable("PATH").expect_err("tests have threads").to_string();
        assert!(text.starts_with("PATH cannot be taken") && text.contains("first in main"), "{text}");
        assert!(std::env::var_os("PATH").is_some());
        assert_eq!(take_variable("PROCESSION_TEST_NOT_SET").expect("it is not set"), None);
    }
}
