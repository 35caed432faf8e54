use std::sync::Arc;

use procession_model::{Confinement, InvalidArgument, ProcId};

use crate::{Capabilities, Confines, ProcLauncher};

/// What every one of them can do. They reach back in the same way, or the first of them speaks for all.
pub(super) fn common(parts: &[Arc<dyn ProcLauncher>]) -> Capabilities {
    let mut all = parts.iter().map(|part| part.capabilities());
    let first = all.next().unwrap_or_default();
    all.fold(first, |one, other| Capabilities {
        pid: one.pid && other.pid,
        stdio: one.stdio && other.stdio,
        tail: one.tail && other.tail,
        tree_kill: one.tree_kill && other.tree_kill,
        raw_paths: one.raw_paths && other.raw_paths,
        command_attributes: one.command_attributes && other.command_attributes,
        confines: both(one.confines, other.confines),
        group_kill: one.group_kill && other.group_kill,
        oom_facts: one.oom_facts && other.oom_facts,
        // These are wants.
        folds_signals: one.folds_signals || other.folds_signals,
        one_stream: one.one_stream || other.one_stream,
        adopt: one.adopt && other.adopt,
        dial_back: one.dial_back,
    })
}

fn both(one: Confines, other: Confines) -> Confines {
    Confines {
        memory: one.memory && other.memory,
        pids: one.pids && other.pids,
        cpu: one.cpu && other.cpu,
        user: one.user && other.user,
        rlimits: one.rlimits && other.rlimits,
        security: one.security && other.security,
        binding: one.binding && other.binding,
    }
}

/// Refuses what one of them would refuse.
pub(super) fn check(
    parts: &[Arc<dyn ProcLauncher>],
    confinement: &Confinement,
) -> Result<(), InvalidArgument> {
    parts.iter().try_for_each(|part| part.check(confinement))
}

/// The proc that they all run in, where it is one.
pub(super) fn own_proc(parts: &[Arc<dyn ProcLauncher>]) -> Option<ProcId> {
    let mut all = parts.iter().map(|part| part.own_proc());
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}
