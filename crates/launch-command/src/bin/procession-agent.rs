//! An agent without Python: `procession-agent --stdio` launches procs for whoever speaks over its stdin and stdout.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use procession_host::{Engines, serve_stdio};
use procession_launch::Engine;
use procession_launch_command::connect;
use tokio::runtime::Builder;

/// How long nothing may be heard of whoever it launches for.
const LEASE: Duration = Duration::from_secs(30);

/// Beside its own it has the launcher of this crate.
struct Commands;

#[async_trait]
impl Engines for Commands {
    async fn connect(&self, kind: &str, config: &str) -> Result<Arc<dyn Engine>, String> {
        if kind != "command" {
            return Err(
                "procession-agent has no launcher of that kind; have `procession agent --stdio` run there"
                    .to_owned(),
            );
        }
        let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
        Ok(connect(config).await.map_err(|error| error.to_string())?)
    }
}

fn main() -> ExitCode {
    let usage = "usage: procession-agent --stdio [--lease SECONDS]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lease = match arguments[..] {
        ["--stdio"] => Some(LEASE),
        ["--stdio", "--lease", seconds] => {
            seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        }
        _ => None,
    };
    let Some(lease) = lease else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    let served = Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve_stdio(None, lease, Some(Arc::new(Commands)))));
    match served {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "procession-agent: {error}; start it with stdin and stdout that lead to whoever launches"
            );
            ExitCode::FAILURE
        }
    }
}
