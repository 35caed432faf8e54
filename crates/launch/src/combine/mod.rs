//! Launchers made of launchers: each hands what it is asked on to others, and is one for its host.

mod attempts;
mod chaos;
mod fallback;
mod known;
mod later;
mod odds;
mod parts;
mod record;
mod replay;
mod retry;
mod tape;
mod throttle;

pub use chaos::{Chaos, ChaosRates};
pub use fallback::Fallback;
pub use record::Recording;
pub use replay::Replay;
pub use retry::Retry;
pub use tape::TapeError;
pub use throttle::Throttle;
