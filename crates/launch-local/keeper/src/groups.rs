//! The control groups of procs, as far as there are any.

use std::rc::Rc;

use procession_sys::{self as sys, Cgroups, Group, Owner, SpawnError, Stage};

use crate::order::Order;

/// Where groups are made, found out for the first launch.
pub(crate) struct Groups {
    cgroups: Option<Cgroups>,
    /// The host, whose name they carry.
    owner: Owner,
}

impl Groups {
    pub(crate) fn new(owner: Owner) -> Self {
        Self { cgroups: None, owner }
    }

    /// The group that a launch was given by somebody else, as far as it is there.
    pub(crate) fn of_launch(&mut self, launch: &str) -> ProcGroup {
        self.open(&self.owner.group_name(launch))
    }

    /// The group of that name, as far as it is there.
    pub(crate) fn open(&mut self, name: &str) -> ProcGroup {
        let cgroups = self.cgroups.get_or_insert_with(Cgroups::find);
        ProcGroup::of(Some(cgroups.open(name)))
    }

    /// The group that a launch asks for.
    pub(crate) fn make(&mut self, order: &Order) -> Result<ProcGroup, SpawnError> {
        let cgroups = self.cgroups.get_or_insert_with(Cgroups::find);
        let group = cgroups.make(&order.group, &order.limits);
        let group = group.map_err(|source| SpawnError { stage: Stage::Group, source })?;
        Ok(ProcGroup::of(group))
    }
}

struct Inner {
    group: Option<Group>,
    /// What the kernel had killed for want of memory on this machine when the proc was launched.
    oom_kills: Option<u64>,
}

/// The group of one proc, or none.
#[derive(Clone)]
pub(crate) struct ProcGroup(Rc<Inner>);

impl ProcGroup {
    pub(crate) fn none() -> Self {
        Self::of(None)
    }

    fn of(group: Option<Group>) -> Self {
        Self(Rc::new(Inner { group, oom_kills: sys::oom_kills() }))
    }

    pub(crate) fn inner(&self) -> Option<&Group> {
        self.0.group.as_ref()
    }

    /// Takes the group away again when nothing was started.
    pub(crate) fn or_removed<T>(&self, started: Result<T, SpawnError>) -> Result<T, SpawnError> {
        if started.is_err() {
            self.remove();
        }
        started
    }

    pub(crate) fn kill(&self) {
        if let Some(group) = self.inner() {
            group.kill();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner().is_none_or(Group::is_empty)
    }

    pub(crate) fn any_member(&self) -> Option<u32> {
        self.inner().and_then(|group| group.members().first().copied())
    }

    /// False while somebody is in it.
    pub(crate) fn remove(&self) -> bool {
        self.inner().is_none_or(Group::remove)
    }

    /// Whether something in it was killed for want of memory. Where the group does not count that, it is
    /// still known that nothing was when the whole machine has killed nothing meanwhile.
    pub(crate) fn oom(&self) -> Option<bool> {
        let counted = self.inner().and_then(Group::oom);
        let nothing = || self.0.oom_kills.is_some() && self.0.oom_kills == sys::oom_kills();
        counted.or_else(|| nothing().then_some(false))
    }
}
