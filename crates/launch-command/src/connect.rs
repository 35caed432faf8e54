use std::sync::Arc;

use async_trait::async_trait;
use procession_host::{AgentLauncher, AgentStream, Way, WorkerError};
use procession_model::InvalidArgument;
use tokio::process::Command;

use crate::{CommandConfig, start};

/// Why there is no launcher for a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// No agent answers at its other end.
    #[error(transparent)]
    Agent(#[from] WorkerError),
}

/// Runs the command a first time, to learn what can be launched there; the first proc uses that agent. Has to be called inside
/// a runtime with time and I/O enabled.
///
/// # Errors
/// The configuration is refused, or no agent answers.
pub async fn connect(config: CommandConfig) -> Result<Arc<AgentLauncher>, CommandError> {
    let words = config.check()?.fill(&config.agent)?;
    let how = config.dial()?;
    let way = Arc::new(Line { place: config.command.replace("{argv}", "…"), words, config });
    Ok(AgentLauncher::connect("command", way, how).await?)
}

struct Line {
    place: String,
    words: Vec<String>,
    config: CommandConfig,
}

#[async_trait]
impl Way for Line {
    fn place(&self) -> &str {
        &self.place
    }

    fn command_line(&self) -> Vec<String> {
        self.words.clone()
    }

    async fn open(&self) -> Result<AgentStream, String> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(&self.config.env);
        let (stdin, stdout, process) = start(command)?;
        Ok(AgentStream { reader: Box::new(stdout), writer: Box::new(stdin), guard: Box::new(process) })
    }
}
