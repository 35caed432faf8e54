//! What a proc is held to, between Python and Rust.

use std::collections::{BTreeMap, HashMap};

use procession_launch_local::{Fact, Named, facts, find_user as look_up};
use procession_model::{Binding, Confinement, DropCapabilities, Resources, Rlimits, Security, User};
use pyo3::prelude::*;

use crate::errors::invalid_argument;
use crate::pickle::Pickle;

type Ids = (u32, u32, Vec<u32>);

/// As `procession._confine` makes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct GivenConfinement {
    memory: Option<u64>,
    pids: Option<u64>,
    cpu_millis: Option<u64>,
    user: Option<Ids>,
    rlimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    no_new_privs: bool,
    drop_all_capabilities: bool,
    drop_capabilities: Vec<String>,
    seccomp: Vec<u8>,
    binding: HashMap<String, String>,
}

impl From<GivenConfinement> for Confinement {
    fn from(given: GivenConfinement) -> Self {
        let drop_capabilities = if given.drop_all_capabilities {
            DropCapabilities::All
        } else if given.drop_capabilities.is_empty() {
            DropCapabilities::None
        } else {
            DropCapabilities::Named(given.drop_capabilities)
        };
        let rlimits = given.rlimits.into_iter().map(|(name, (soft, hard))| (name, Rlimits { soft, hard }));
        Self {
            resources: Resources { memory: given.memory, pids: given.pids, cpu_millis: given.cpu_millis },
            user: given.user.map(|(uid, gid, groups)| User { uid, gid, groups }),
            rlimits: rlimits.collect(),
            security: Security {
                no_new_privs: given.no_new_privs,
                drop_capabilities,
                seccomp: given.seccomp,
            },
            binding: binding(given.binding),
        }
    }
}

fn binding(mut given: HashMap<String, String>) -> Binding {
    let mut take = |name: &str| given.remove(name);
    Binding {
        cpunodebind: take("cpunodebind"),
        membind: take("membind"),
        physcpubind: take("physcpubind"),
        cpus: take("cpus"),
    }
}

/// The arguments of `LaunchOptions` for it: resources, user, rlimits, security, proc_bind.
pub(crate) fn arguments(confinement: &Confinement) -> [Pickle; 5] {
    let Confinement { resources, user, rlimits, security, binding } = confinement;
    let int = |number: u64| Pickle::Int(number.try_into().unwrap_or(i64::MAX));
    let limit = |number: Option<u64>| number.map_or(Pickle::None, int);
    let dict = |items: Vec<(&str, Option<Pickle>)>| {
        let given = items.into_iter().filter_map(|(key, value)| Some((Pickle::Str(key.to_owned()), value?)));
        Pickle::Dict(given.collect())
    };
    let numbers = |groups: &[u32]| Pickle::List(groups.iter().map(|&group| int(group.into())).collect());
    let user = user.as_ref().map_or(Pickle::None, |user| {
        Pickle::Tuple(vec![int(user.uid.into()), int(user.gid.into()), numbers(&user.groups)])
    });
    let rlimits = rlimits.iter().map(|(name, Rlimits { soft, hard })| {
        (Pickle::Str(name.clone()), Pickle::Tuple(vec![limit(*soft), limit(*hard)]))
    });
    let dropped = match &security.drop_capabilities {
        DropCapabilities::None => None,
        DropCapabilities::All => Some(Pickle::Str("all".to_owned())),
        DropCapabilities::Named(names) => Some(Pickle::strings(names)),
    };
    let filter = (!security.seccomp.is_empty()).then(|| Pickle::Bytes(security.seccomp.clone()));
    [
        dict(vec![
            ("memory", resources.memory.map(int)),
            ("pids", resources.pids.map(int)),
            ("cpu", resources.cpu_millis.map(|millis| Pickle::Float(millis as f64 / 1000.0))),
        ]),
        user,
        Pickle::Dict(rlimits.collect()),
        dict(vec![
            ("no_new_privs", security.no_new_privs.then_some(Pickle::Bool(true))),
            ("drop_capabilities", dropped),
            ("seccomp", filter),
        ]),
        dict(binding.given().map(|(name, list)| (name, Some(Pickle::Str(list.to_owned())))).collect()),
    ]
}

/// A user or a group, by name or by number.
#[derive(FromPyObject)]
pub(crate) enum GivenName {
    Number(i64),
    Name(String),
}

impl From<GivenName> for Named {
    fn from(given: GivenName) -> Self {
        match given {
            GivenName::Number(number) => Self::Number(number),
            GivenName::Name(name) => Self::Name(name),
        }
    }
}

/// The numbers of a user: with all its groups, or with `group` alone.
#[pyfunction]
#[pyo3(signature = (user, group))]
pub(crate) fn find_user(py: Python<'_>, user: GivenName, group: Option<GivenName>) -> PyResult<Ids> {
    let (user, group) = (Named::from(user), group.map(Named::from));
    // Users may come over the network.
    let found = py.detach(|| look_up(&user, group.as_ref()));
    let User { uid, gid, groups } = found.map_err(invalid_argument)?;
    Ok((uid, gid, groups))
}

/// What this machine, and this process on it, can promise: name, whether it holds, what it means.
#[pyfunction]
pub(crate) fn machine_facts(py: Python<'_>) -> Vec<(&'static str, bool, String)> {
    let all = py.detach(facts);
    all.into_iter().map(|Fact { name, holds, detail }| (name, holds, detail)).collect()
}

/// What the launcher of a Python class says that it carries out.
pub(crate) fn read_confines(given: &HashMap<String, bool>) -> procession_launch::Confines {
    let can = |what: &str| given.get(what).copied().unwrap_or(false);
    let resources = can("resources");
    procession_launch::Confines {
        memory: resources,
        pids: resources,
        cpu: resources,
        user: can("user"),
        rlimits: can("rlimits"),
        security: can("security"),
        binding: can("proc_bind"),
    }
}
