use std::time::Duration;

use procession_model::Secret;
use tokio::time::{Instant, sleep, timeout};

use crate::carrier::Connection;
use crate::dial::connect_tcp;
use crate::greet::Call;
use crate::{Dial, DialCause};

/// How long one attempt may take, and how long is waited before the next one.
const ATTEMPT: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(100);
/// How long a host's machine may say that nobody is there: it has ended, and nothing is to be waited for.
const REFUSED: Duration = Duration::from_secs(1);

/// How the end that dials comes by the next connection of its session.
pub(crate) struct Redial {
    pub(crate) dial: Dial,
    /// The host and the port that led to it.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) session: Secret,
}

impl Redial {
    /// Dials until that succeeds, it cannot succeed any more, or `lease` is over. A moment in which this
    /// process did not run does not count.
    pub(crate) async fn within(&mut self, lease: Duration) -> Result<Connection, String> {
        let call = Call::Again { launch: self.dial.launch, session: &self.session };
        let (mut spent, mut refused) = (Duration::ZERO, Duration::ZERO);
        loop {
            let start = Instant::now();
            let most = ATTEMPT.min(lease.saturating_sub(spent));
            let attempt = timeout(most, connect_tcp(&self.dial, &self.host, self.port, call)).await;
            let why = match attempt {
                Ok(Ok((connection, _))) => return Ok(connection),
                Ok(Err(cause)) => {
                    if !cause.is_temporary() {
                        return Err(cause.to_string());
                    }
                    refused =
                        if is_refusal(&cause) { refused + start.elapsed() + PAUSE } else { Duration::ZERO };
                    cause.to_string()
                }
                Err(_) => {
                    refused = Duration::ZERO;
                    format!("the host did not answer within {most:?}")
                }
            };
            spent += start.elapsed().min(ATTEMPT) + PAUSE;
            if spent >= lease {
                return Err(format!("the host could not be reached for {lease:?}: {why}"));
            }
            if refused >= REFUSED {
                return Err(format!("the host has ended: {why}"));
            }
            sleep(PAUSE).await;
        }
    }
}

/// Whether somebody answered, and it was not the session.
fn is_refusal(cause: &DialCause) -> bool {
    match cause {
        DialCause::Refused => true,
        DialCause::Connect(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}
