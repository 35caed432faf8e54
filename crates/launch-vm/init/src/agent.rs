use std::fs::{File, OpenOptions, read_dir, read_to_string};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use crate::{SAYS, at};

/// How long a device may take to be there, and how often it is looked for.
const APPEARS: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// The name that the launcher gives to the port.
const PORT: &str = "procession.agent";

/// Waits until `look` finds what a driver makes.
pub(crate) fn appears<T>(what: &str, look: impl Fn() -> Option<T>) -> Result<T, String> {
    let until = Instant::now() + APPEARS;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > until {
            return Err(format!(
                "{what} is not there after {APPEARS:?}; does the kernel have a driver for it?"
            ));
        }
        sleep(LOOK);
    }
}

/// What the launcher has written down: words that end with a zero byte each.
pub(crate) fn command_line() -> Result<Vec<String>, String> {
    let text = at("/agent", read_to_string("/agent"))?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// The port that leads to the launcher.
pub(crate) fn port() -> Result<File, String> {
    let path = appears("the port to the launcher", || {
        let ports = read_dir("/sys/class/virtio-ports").ok()?;
        let is_it = |port: &std::fs::DirEntry| {
            read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT)
        };
        let port = ports.flatten().find(is_it)?;
        let path = std::path::Path::new("/dev").join(port.file_name());
        path.exists().then_some(path)
    })?;
    at(path.display(), OpenOptions::new().read(true).write(true).open(&path))
}

/// Runs the agent, and waits for it and for whoever has lost his parents meanwhile.
pub(crate) fn run(words: &[String], port: File) -> Result<String, String> {
    let [program, arguments @ ..] = words else { return Err("the command of the agent is empty".to_owned()) };
    let console = at("/dev/console", OpenOptions::new().write(true).open("/dev/console"))?;
    let stdin = at("the port", port.try_clone())?;
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(port))
        .stderr(Stdio::from(console))
        .spawn();
    let agent = at(format!("the agent, {program}, cannot be started in the image"), started)?;
    println!("{SAYS}the agent was started");
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == agent.id() => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (_, Some(signal)) => format!("the agent was ended by signal {signal}"),
                    (code, None) => format!("the agent has ended with code {}", code.unwrap_or_default()),
                });
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("the agent cannot be waited for: {error}")),
        }
    }
}
