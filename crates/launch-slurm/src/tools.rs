use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use procession_model::RESERVED_PREFIX;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than they themselves wait for a controller that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// What belongs to the cluster, and not to the job that this process itself may be.
const OF_THE_CLUSTER: [&str; 2] = ["SLURM_CONF", "SLURM_CLUSTERS"];

/// Slurm's own commands, which know how to reach the controller and who we are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) conf: Option<PathBuf>,
}

impl Tools {
    /// Runs one of them, and gives what it wrote; or, in a line, why it failed.
    pub(crate) async fn run(
        &self,
        program: &str,
        arguments: &[String],
        input: Option<&str>,
    ) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let other = name.starts_with("SLURM_") && !OF_THE_CLUSTER.contains(&&*name);
            if other || name.starts_with(RESERVED_PREFIX) {
                command.env_remove(&*name);
            }
        }
        if let Some(conf) = &self.conf {
            command.env("SLURM_CONF", conf);
        }
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{program} cannot be run: {error}"))?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // One that refuses its arguments reads nothing.
            let _told_by_its_code = stdin.write_all(text.as_bytes()).await;
        }
        let done = timeout(PATIENCE, child.wait_with_output()).await;
        let done = done
            .map_err(|_| format!("{program} has not ended within {PATIENCE:?}"))?
            .map_err(|error| format!("{program}: {error}"))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        Err(if said.is_empty() { format!("{program} ended with {}", done.status) } else { said })
    }
}
