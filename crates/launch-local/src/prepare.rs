//! From what a caller asks for to what the kernel takes; whatever can be refused is refused here,
//! before anything starts.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use procession_launch::ProcLauncherError;
use procession_model::{LaunchId, LaunchOptions, RESERVED_PREFIX};
use procession_sys::{self as sys, ArgumentsError, MARKER, Process, ProgramError};

use crate::failure::{LaunchFailure, Shown, invalid};
use crate::order::Order;
use crate::protocol::Strings;

/// Every variable that the program gets.
pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// A program that can be started now.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) strings: Strings,
    pub(crate) cwd: OwnedFd,
    /// With absolute paths.
    pub(crate) shown: Shown,
}

/// What a launched proc gets: this process's environment without what is ours, the launch's own
/// variables, and the marker by which its descendants are found.
pub(crate) fn environment(opts: &LaunchOptions, launch: LaunchId) -> Environment {
    let mut all = Environment::new();
    if !opts.command.clear_env {
        all.extend(std::env::vars_os());
        all.retain(|key, _| !key.as_bytes().starts_with(RESERVED_PREFIX.as_bytes()));
        for key in &opts.command.env_remove {
            all.remove(OsStr::new(key));
        }
    }
    all.extend(opts.variables().into_iter().map(|(key, value)| (key.into(), value.into())));
    let marker = if opts.detach { detached_marker(launch) } else { marker(launch) };
    all.insert(MARKER.into(), marker.into());
    all
}

/// The marker of a launch from here: it belongs to what this process launches and, where this
/// process was launched itself, to that too.
pub fn marker(launch: LaunchId) -> String {
    let session = session();
    own_marker().map_or_else(|| format!("{launch}:{session}"), |own| format!("{launch}:{session}:{own}"))
}

/// The marker of a launch that outlives this process: it does not belong to its session.
fn detached_marker(launch: LaunchId) -> String {
    own_marker().map_or_else(|| launch.to_string(), |own| format!("{launch}:{own}"))
}

/// Marks all that this process launches, its own children too: what of it is still there when this
/// process is gone falls to the keeper.
pub fn session() -> LaunchId {
    static SESSION: OnceLock<LaunchId> = OnceLock::new();
    *SESSION.get_or_init(LaunchId::fresh)
}

/// The marker that this process was executed with, whatever became of its environment since.
pub(crate) fn own_marker() -> Option<&'static str> {
    static OWN: OnceLock<Option<String>> = OnceLock::new();
    OWN.get_or_init(|| Process::look(std::process::id()).ok()?.marker().map(str::to_owned)).as_deref()
}

/// Refuses what no environment can hold; the text never shows a value.
fn variable(key: &OsStr, value: &OsStr) -> Result<CString, ProcLauncherError> {
    let name = key.as_bytes();
    if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
        return Err(invalid(
            "env",
            format!("the name {key:?}"),
            "a name is not empty and has neither = nor NUL",
        ));
    }
    CString::new([name, b"=", value.as_bytes()].concat())
        .map_err(|_| invalid(format!("env[{key:?}]"), "(not shown)", "a value has no NUL"))
}

/// Looks everything up and checks it.
pub(crate) fn prepare(
    program: &Path,
    arg0: Option<&str>,
    args: &[String],
    env: &Environment,
    cwd: Option<&Path>,
) -> Result<Prepared, ProcLauncherError> {
    let shown = format!("{program:?}");
    let no_nul =
        |field: &str, value: &str| invalid(field, value.escape_debug().to_string(), "it has a NUL; drop it");
    if program.as_os_str().as_bytes().contains(&0) {
        return Err(no_nul("program", &program.to_string_lossy()));
    }
    let name = program.file_name().unwrap_or_default().as_bytes().to_vec();
    let arg0 = match arg0 {
        Some("") => {
            return Err(invalid("arg0", "\"\"", "it is not empty; leave it out for the program's name"));
        }
        Some(arg0) => CString::new(arg0).map_err(|_| no_nul("arg0", arg0))?,
        None => CString::new(name).map_err(|_| no_nul("program", &shown))?,
    };
    let mut argv = vec![arg0];
    for (index, arg) in args.iter().enumerate() {
        argv.push(CString::new(arg.as_str()).map_err(|_| no_nul(&format!("args[{index}]"), arg))?);
    }
    let envp = env.iter().map(|(key, value)| variable(key, value)).collect::<Result<Vec<_>, _>>()?;
    let (cwd_path, cwd_fd) = directory(cwd)?;
    let path = env.get(OsStr::new("PATH")).map(OsString::as_os_str);
    let program =
        sys::resolve_program(program, path, &cwd_path, cwd.is_some()).map_err(|e| refused(&shown, &e))?;
    sys::check_arguments(&argv, &envp).map_err(|error| too_long(&error, &argv, env))?;
    let program = CString::new(program.into_os_string().into_vec()).map_err(|_| no_nul("program", &shown))?;
    let shown = Shown {
        program: format!("{:?}", OsStr::from_bytes(program.as_bytes())),
        cwd: format!("{cwd_path:?}"),
    };
    Ok(Prepared { strings: Strings { program, argv, envp, order: Order::default() }, cwd: cwd_fd, shown })
}

fn directory(cwd: Option<&Path>) -> Result<(PathBuf, OwnedFd), ProcLauncherError> {
    let Some(cwd) = cwd else {
        // Opened by its shortest name, so that a directory that was deleted still serves.
        let here = sys::open_directory(Path::new(".")).map_err(|error| {
            LaunchFailure::of("this process's own directory cannot be entered; give a cwd", &error)
        })?;
        return Ok((std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")), here));
    };
    if cwd.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("cwd", format!("{cwd:?}"), "it has a NUL; drop it"));
    }
    let fd = sys::open_directory(cwd)
        .map_err(|error| LaunchFailure::of(&format!("the cwd {cwd:?} cannot be used; correct it"), &error))?;
    let absolute = std::path::absolute(cwd).map_err(|error| {
        LaunchFailure::of(&format!("the cwd {cwd:?} has no absolute form; give it"), &error)
    })?;
    Ok((absolute, fd))
}

fn refused(program: &str, error: &ProgramError) -> ProcLauncherError {
    match error {
        ProgramError::Empty | ProgramError::Relative(_) => invalid("program", program, error.to_string()),
        _ => LaunchFailure::new(error.to_string(), error.errno()).into(),
    }
}

fn too_long(error: &ArgumentsError, argv: &[CString], env: &Environment) -> ProcLauncherError {
    match *error {
        ArgumentsError::OneTooLong { index, size, limit } => {
            let field = match index.checked_sub(argv.len()) {
                None if index == 0 => "arg0".to_owned(),
                None => format!("args[{}]", index - 1),
                Some(index) => {
                    format!("env[{:?}]", env.keys().nth(index).map_or(OsStr::new(""), OsString::as_os_str))
                }
            };
            invalid(field, format!("{size} bytes"), format!("at most {limit} bytes each; pass it in a file"))
        }
        ArgumentsError::AllTooLong { size, limit } => {
            let rule = format!("at most {limit} bytes here (a quarter of ulimit -s); pass it in a file");
            invalid("args and env", format!("{size} bytes together"), rule)
        }
    }
}
