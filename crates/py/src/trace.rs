use std::io;

use tracing_subscriber::filter::LevelFilter;

/// How much the runtime tells on stderr: `off`, `error`, `warn`, `info`, `debug` or `trace`.
const LEVEL_ENV: &str = "PROCESSION_LOG";

/// Shows on stderr what the runtime has to say, warnings and errors unless [`LEVEL_ENV`] asks for something else.
pub(crate) fn start() {
    let asked = std::env::var(LEVEL_ENV).ok();
    let level = asked.as_deref().map_or(Ok(LevelFilter::WARN), str::parse);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(*level.as_ref().unwrap_or(&LevelFilter::WARN))
        .with_writer(io::stderr)
        .with_ansi(false)
        .finish();
    let _there_is_one = tracing::subscriber::set_global_default(subscriber);
    if level.is_err() {
        tracing::warn!(
            "{LEVEL_ENV} = {:?}: use off, error, warn, info, debug or trace",
            asked.unwrap_or_default()
        );
    }
}
