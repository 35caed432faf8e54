//! The native launcher and its keeper, the parent and subreaper of native procs.

mod driver;
mod failure;
mod keeper;
mod launcher;
mod own;
mod prepare;
#[path = "../keeper/src/protocol.rs"]
#[expect(dead_code, reason = "the keeper uses the other half")]
mod protocol;
mod spawner;
pub mod supervised;
mod survivors;
mod watch_child;
mod watched;

pub use driver::kind_of;
pub use failure::LaunchFailure;
pub use keeper::Helper;
pub use launcher::NativeLauncher;
pub use prepare::{marker, session};
pub use watched::watched;
