use std::ffi::{OsStr, OsString};

/// Takes a variable out of this process's environment; none when it is not set.
///
/// Has to be called while no other thread of the process reads or writes the environment: at the
/// start of `main`.
pub fn take_variable(name: impl AsRef<OsStr>) -> Option<OsString> {
    let value = std::env::var_os(name.as_ref())?;
    // SAFETY: the caller has no other thread that uses the environment, as the contract above says.
    unsafe { std::env::remove_var(name.as_ref()) };
    Some(value)
}
