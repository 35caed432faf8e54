//! Places where a test stops a process to do something to it just there.

use std::ffi::CString;

/// The variable that names the directory of a test's failpoints.
pub const FAILPOINTS: &str = "PROCESSION_FAILPOINTS";

/// `NAME=value` for a process that is to have the same failpoints; none where they are not built in.
pub fn failpoint_variable() -> Option<CString> {
    let directory = std::env::var(FAILPOINTS).ok().filter(|_| cfg!(feature = "failpoints"))?;
    CString::new(format!("{FAILPOINTS}={directory}")).ok()
}

/// Stops here for as long as the test's directory has a file of this name, and says so: with a line,
/// its pid, in the file of this name with `.hit` after it. Where the file says `panic`, it is taken away, and
/// this panics. Nothing at all without the feature `failpoints`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::pass($name)
    };
}

/// Stops here for as long as the test's directory has a file of this name, and says so: with a line,
/// its pid, in the file of this name with `.hit` after it. Where the file says `panic`, it is taken away, and
/// this panics. Nothing at all without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}

#[cfg(feature = "failpoints")]
pub use on::{pass, set_failpoints};

#[cfg(feature = "failpoints")]
mod on {
    use std::ffi::{CStr, c_char};
    use std::path::Path as Directory;

    /// Lets this process, and the keepers that it starts from here on, look into `directory`; for a test
    /// that has a process to itself, before anything in it looks at the environment.
    pub fn set_failpoints(directory: &Directory) {
        // SAFETY: nobody uses the environment yet, as asked for above.
        unsafe { std::env::set_var(super::FAILPOINTS, directory) };
    }

    /// A path, built without the allocator: a child between fork and exec comes here too.
    struct Path([u8; 512], usize);

    impl Path {
        fn push(&mut self, bytes: &[u8]) {
            let end = (self.1 + bytes.len()).min(self.0.len() - 1);
            self.0[self.1..end].copy_from_slice(&bytes[..end - self.1]);
            self.1 = end;
        }

        fn as_ptr(&self) -> *const c_char {
            self.0.as_ptr().cast()
        }
    }

    /// What [`failpoint!`](crate::failpoint) stands for.
    pub fn pass(name: &str) {
        let mut path = Path([0; 512], 0);
        // SAFETY: async-signal-safe calls and getenv, in processes that leave their environment alone; the
        // buffer ends in NUL, since it is zeroed and its last byte is never written.
        unsafe {
            let directory = libc::getenv(c"PROCESSION_FAILPOINTS".as_ptr());
            if directory.is_null() {
                return;
            }
            path.push(CStr::from_ptr(directory).to_bytes());
            path.push(b"/");
            path.push(name.as_bytes());
            if libc::access(path.as_ptr(), libc::F_OK) != 0 {
                return;
            }
            let mut what = [0_u8; 5];
            let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            libc::read(file, what.as_mut_ptr().cast(), what.len());
            libc::close(file);
            if &what == b"panic" {
                // Once.
                libc::unlink(path.as_ptr());
                panic!("failpoint {name}");
            }
            let end = path.1;
            path.push(b".hit");
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
            let hit = libc::open(path.as_ptr(), flags, 0o600);
            let (mut line, mut at, mut rest) = ([b'\n'; 12], 11, libc::getpid());
            while rest > 0 {
                at -= 1;
                line[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            libc::write(hit, line[at..].as_ptr().cast(), line.len() - at);
            libc::close(hit);
            path.0[end..].fill(0);
            while libc::access(path.as_ptr(), libc::F_OK) == 0 {
                libc::usleep(1000);
            }
        }
    }
}
