//! The native launcher and its keeper, the parent and subreaper of native procs.

mod accounts;
mod adopt;
mod binding;
mod confine;
mod driver;
#[path = "../keeper/src/exits.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "the keeper uses the other half"))]
mod exits;
mod failure;
mod home;
mod keeper;
mod launcher;
mod machine;
#[path = "../keeper/src/order.rs"]
mod order;
mod own;
mod preload;
mod prepare;
#[path = "../keeper/src/protocol.rs"]
#[expect(dead_code, reason = "the keeper uses the other half")]
mod protocol;
mod spawner;
pub mod supervised;
mod survivors;
mod watch_child;
mod watched;

pub use accounts::{Named, find_user};
pub use confine::check_user_environment;
pub use driver::kind_of;
pub use failure::LaunchFailure;
pub use keeper::Helper;
pub use launcher::NativeLauncher;
pub use machine::{Fact, facts, left_behind, sweep_groups};
pub use prepare::{marker, session};
pub use procession_sys::fork_beside;
pub use watched::watched;
