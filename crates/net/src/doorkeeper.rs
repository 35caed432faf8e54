use std::time::Duration;

use procession_model::{LaunchId, Secret};

use crate::Link;

/// Who knows which launches are expected to call back, and takes their links.
///
/// The methods are called on the runtime's threads and must not block.
pub trait Doorkeeper: Send + Sync + 'static {
    /// The token that `launch` has to prove; none when it is not expected, or not any more.
    fn token(&self, launch: LaunchId) -> Option<Secret>;

    /// A peer has proved that it is `launch`. What this gives is dropped when that has come in, or left.
    fn arriving(&self, _launch: LaunchId) -> Box<dyn Send> {
        Box::new(())
    }

    /// Takes the token of `launch`, which a peer has just proved, out of use. Of several calls for
    /// one token exactly one returns true, and [`Self::admit`] follows it at once.
    fn claim(&self, launch: LaunchId) -> bool;

    /// How long the link of `launch` may be without a connection, over TCP, before it has ended.
    fn lease(&self, launch: LaunchId) -> Duration;

    /// Takes the link of `launch`.
    fn admit(&self, launch: LaunchId, link: Link);
}
