use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use procession_host::{AGENT_SPEAKS, AgentLauncher, AgentStream, Guard, Way, WorkerError};
use procession_launch_command::start;
use procession_model::InvalidArgument;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::SshConfig;
use crate::script::{WANTS, name_of, remote_command};

/// How much may come before an agent speaks.
const NOISE: usize = 64 << 10;

/// Why there is no launcher for a machine.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// No agent answers there.
    #[error(transparent)]
    Agent(#[from] WorkerError),
}

/// Starts an agent there; it is copied there when it is missing. Has to be called inside a runtime with time and I/O enabled.
///
/// # Errors
/// The configuration is refused, or no agent answers; the text has what `ssh` said.
pub async fn connect(config: SshConfig) -> Result<Arc<AgentLauncher>, SshError> {
    let how = config.check()?;
    let bundle = match &config.bundle {
        Some(path) => {
            let refused = |error: std::io::Error| {
                InvalidArgument::new("bundle", format!("{path:?}"), error.to_string())
            };
            Some((path.clone(), std::fs::metadata(path).map_err(refused)?.len()))
        }
        None => None,
    };
    let named = bundle.as_ref().map(|(path, size)| (name_of(path), *size));
    let remote = remote_command(&config, named.as_ref().map(|(name, size)| (name.as_str(), *size)))?;
    // Nobody can type a password, and what goes through one connection needs nothing forwarded beside it.
    let fixed = ["-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes", "-o", "ServerAliveInterval=5"];
    let words = [config.ssh.clone()]
        .into_iter()
        .chain(config.options.iter().cloned())
        .chain(fixed.map(str::to_owned))
        .chain(["--".to_owned(), config.host.clone(), remote])
        .collect();
    let way = Machine { place: format!("ssh {}", config.host), words, bundle: bundle.map(|(path, _)| path) };
    Ok(AgentLauncher::connect("ssh", Arc::new(way), how).await?)
}

struct Machine {
    place: String,
    words: Vec<String>,
    bundle: Option<PathBuf>,
}

#[async_trait]
impl Way for Machine {
    fn place(&self) -> &str {
        &self.place
    }

    fn command_line(&self) -> Vec<String> {
        self.words.clone()
    }

    async fn open(&self) -> Result<AgentStream, String> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        let (mut stdin, mut stdout, mut process) = start(command)?;
        let heard = match &self.bundle {
            None => Vec::new(),
            Some(bundle) => match self.answer(bundle, &mut stdin, &mut stdout).await {
                Ok(heard) => heard,
                Err(why) => return Err(format!("{why}; {}", process.last_words().await)),
            },
        };
        let reader = Box::new(Cursor::new(heard).chain(stdout));
        Ok(AgentStream { reader, writer: Box::new(stdin), guard: Box::new(process) })
    }
}

impl Machine {
    /// Gives the bundle when it is asked for; returns what was read of an agent that is there.
    async fn answer(
        &self,
        bundle: &PathBuf,
        stdin: &mut ChildStdin,
        stdout: &mut ChildStdout,
    ) -> Result<Vec<u8>, String> {
        let mut heard = Vec::new();
        loop {
            if heard.ends_with(AGENT_SPEAKS.as_bytes()) || heard.len() > NOISE {
                return Ok(heard);
            }
            if heard.ends_with(WANTS.as_bytes()) {
                tracing::info!(place = self.place, ?bundle, "the agent is copied there");
                let copied = async {
                    copy(&mut File::open(bundle).await?, stdin).await?;
                    stdin.flush().await
                };
                copied.await.map_err(|error| format!("the agent could not be copied there: {error}"))?;
                return Ok(Vec::new());
            }
            match stdout.read_u8().await {
                Ok(byte) => heard.push(byte),
                // What was said instead is told by whoever waits for the agent.
                Err(_) => return Ok(heard),
            }
        }
    }
}
