use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use procession_host::Guard;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a command may take to end after its output has, to be asked how.
const ENDING: Duration = Duration::from_secs(2);
/// How long the last of what it says may take.
const SAYING: Duration = Duration::from_millis(200);
/// How many of its last lines are kept, and how long each may be.
const LINES: usize = 5;
const LINE: usize = 300;

/// A command that leads to an agent. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    listening: JoinHandle<()>,
}

/// Starts a command; what it reads, what it writes, and itself. Has to be called inside a runtime.
///
/// # Errors
/// The program cannot be started; the text names it.
pub fn start(mut command: Command) -> Result<(ChildStdin, ChildStdout, Process), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What a terminal sends to whoever uses it is nothing to a command that launches.
    command.process_group(0).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |error| format!("{program} cannot be started: {error}; is it installed?");
    let mut child = command.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(format!("{program} was started without its pipes"));
    };
    let said = Arc::<Mutex<VecDeque<String>>>::default();
    let listening = tokio::spawn(listen(program, stderr, Arc::clone(&said)));
    Ok((stdin, stdout, Process { child, said, listening }))
}

/// Keeps its last lines.
async fn listen(program: String, stderr: ChildStderr, said: Arc<Mutex<VecDeque<String>>>) {
    let (mut reader, mut line) = (BufReader::new(stderr), Vec::new());
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim_end().chars().take(LINE).collect();
        tracing::debug!(program, "{text}");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LINES {
            said.pop_front();
        }
        said.push_back(text);
        line.clear();
    }
}

#[async_trait]
impl Guard for Process {
    async fn last_words(&mut self) -> String {
        let ended = match timeout(ENDING, self.child.wait()).await {
            Ok(Ok(status)) => how(status),
            Ok(Err(error)) => format!("how the command ended is not known: {error}"),
            Err(_) => "the command still runs, and is killed".to_owned(),
        };
        // What it has started may hold its stderr.
        let _for_longer = timeout(SAYING, &mut self.listening).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        if said.is_empty() { ended } else { format!("{ended}, and had said: {said}") }
    }
}

fn how(status: ExitStatus) -> String {
    format!("the command ended with {status}")
}
