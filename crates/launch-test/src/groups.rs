//! The checks, by what they are about.

mod adopt;
mod chaos;
mod exec;
mod exec_attributes;
mod exit;
mod identity;
mod limits;
mod output;
mod ready;
mod stop;
mod tree;

use crate::check::Check;

/// In the order of a proc's life.
pub(crate) const ALL: &[&[Check]] = &[
    exec::CHECKS,
    exec_attributes::CHECKS,
    ready::CHECKS,
    exit::CHECKS,
    output::CHECKS,
    stop::CHECKS,
    tree::CHECKS,
    identity::CHECKS,
    limits::CHECKS,
    adopt::CHECKS,
    chaos::CHECKS,
];

/// One check: its name, what is promised, what to look at, what it needs, and the function that finds out.
macro_rules! check {
    ($name:literal, $promise:literal, $hint:literal, [$($need:ident),*], $run:path) => {
        crate::check::Check {
            name: $name,
            promise: $promise,
            hint: $hint,
            needs: &[$(crate::check::Need::$need),*],
            run: |stage| Box::pin($run(stage)),
        }
    };
}
use check;
