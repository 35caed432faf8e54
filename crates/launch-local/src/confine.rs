//! From what a proc is to be held to, to what the kernel is told. What this machine or this process cannot
//! do is refused before anything starts.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use procession_launch::Confines;
use procession_model::{
    BootstrapCommand, Confinement, DropCapabilities, InvalidArgument, LaunchId, Resources, Rlimits, User,
};
use procession_sys::{self as sys, Cgroups, Controller, Identity, Limits, Owner, Rlimit};

use crate::binding;

/// What loads code into programs, and so must not come from another user.
const LOADING: [&str; 6] =
    ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"];

/// How long a group may take to be empty once it is killed.
const EMPTYING: Duration = Duration::from_millis(200);

/// Where groups can be made, found out once: a process that is moved later keeps what it found.
pub(crate) fn cgroups() -> &'static Cgroups {
    static CGROUPS: OnceLock<Cgroups> = OnceLock::new();
    CGROUPS.get_or_init(Cgroups::find)
}

/// What can be carried out for children of this process.
pub(crate) fn confines() -> Confines {
    let limits = |controller| cgroups().version_for(controller).is_some();
    Confines {
        memory: limits(Controller::Memory),
        pids: limits(Controller::Pids),
        cpu: limits(Controller::Cpu),
        user: true,
        rlimits: true,
        security: true,
        binding: true,
    }
}

pub(crate) fn limits(resources: &Resources) -> Limits {
    let Resources { memory, pids, cpu_millis } = *resources;
    Limits { memory, pids, cpu_millis }
}

/// Refuses limits on groups that nothing enforces here.
pub(crate) fn check_resources(resources: &Resources) -> Result<(), InvalidArgument> {
    let Resources { memory, pids, cpu_millis } = *resources;
    let asked = [(Controller::Memory, memory), (Controller::Pids, pids), (Controller::Cpu, cpu_millis)];
    for (controller, given) in asked {
        if let Some(given) = given
            && cgroups().version_for(controller).is_none()
        {
            let name = controller.name();
            return Err(InvalidArgument::new(
                format!("resources[{name:?}]"),
                given.to_string(),
                format!(
                    "this machine cannot enforce it for us: no control group with the controller {name} can be made \
                     below ours, neither of version 2 nor of version 1; leave it out, and see `procession doctor`"
                ),
            ));
        }
    }
    Ok(())
}

/// What a child is told, without limits on its group.
pub(crate) fn resolve(confinement: &Confinement) -> Result<sys::Confinement, InvalidArgument> {
    let Confinement { resources: _, user, rlimits, security, binding } = confinement;
    let rlimits = rlimits.iter().map(|(name, limits)| rlimit(name, *limits)).collect::<Result<_, _>>()?;
    let dropped = dropped(&security.drop_capabilities)?;
    let no_new_privs = security.no_new_privs || !security.seccomp.is_empty();
    if dropped != 0 && !no_new_privs && !may("setpcap") {
        return Err(InvalidArgument::new(
            "security[\"drop_capabilities\"]",
            format!("{:?}", security.drop_capabilities),
            "this process has no CAP_SETPCAP, and so programs could be given them again; add no_new_privs",
        ));
    }
    Ok(sys::Confinement {
        rlimits,
        identity: user.as_ref().map(identity).transpose()?.flatten(),
        no_new_privs,
        dropped,
        seccomp: security.seccomp.clone(),
        binding: binding::resolve(binding)?,
    })
}

fn may(capability: &str) -> bool {
    sys::capability(capability).is_some_and(|bit| sys::own_capabilities() & bit != 0)
}

/// None for who we are already.
fn identity(user: &User) -> Result<Option<Identity>, InvalidArgument> {
    let User { uid, gid, groups } = user.clone();
    if may("setuid") && may("setgid") {
        return Ok(Some(Identity { uid, gid, groups }));
    }
    let refuse = |rule: &str| Err(InvalidArgument::new("user", format!("{uid}:{gid}"), rule));
    if (uid, gid) != sys::own_ids() {
        return refuse(
            "this process may not start others as another user: it has no CAP_SETUID and CAP_SETGID; leave it out",
        );
    }
    let set = |groups: &[u32]| groups.iter().copied().chain([gid]).collect::<BTreeSet<_>>();
    if sys::own_groups().is_ok_and(|own| set(&own) != set(&groups)) {
        return refuse(
            "this process may not take groups away, or add some: it has no CAP_SETGID; leave it out",
        );
    }
    Ok(None)
}

fn rlimit(name: &str, Rlimits { soft, hard }: Rlimits) -> Result<Rlimit, InvalidArgument> {
    let refuse =
        |value: String, rule: String| InvalidArgument::new(format!("rlimits[{name:?}]"), value, rule);
    let Some(resource) = sys::rlimit_resource(name) else {
        let rule = "known are as, core, cpu, data, fsize, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, \
                    sigpending, stack";
        return Err(refuse("a limit of that name".to_owned(), rule.to_owned()));
    };
    let (soft, hard) = (soft.unwrap_or(Rlimit::UNLIMITED), hard.unwrap_or(Rlimit::UNLIMITED));
    let shown =
        |limit: u64| if limit == Rlimit::UNLIMITED { "unlimited".to_owned() } else { limit.to_string() };
    let (_, own) = sys::own_rlimit(resource).unwrap_or((0, Rlimit::UNLIMITED));
    if hard > own && !may("sys_resource") {
        let rule = format!("the hard limit of this process is {}; ask for no more than that", shown(own));
        return Err(refuse(shown(hard), rule));
    }
    if name == "nofile"
        && let Some(most) = read_number("/proc/sys/fs/nr_open")
        && hard > most
    {
        return Err(refuse(shown(hard), format!("at most {most} here (fs.nr_open)")));
    }
    Ok(Rlimit { resource, soft, hard })
}

pub(crate) fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn dropped(drop: &DropCapabilities) -> Result<u64, InvalidArgument> {
    match drop {
        DropCapabilities::None => Ok(0),
        DropCapabilities::All => Ok(sys::all_capabilities()),
        DropCapabilities::Named(names) => names.iter().try_fold(0, |bits, name| {
            let bit = sys::capability(name).filter(|bit| sys::all_capabilities() & bit != 0);
            let unknown = || {
                let rule =
                    "this kernel knows no such capability; write it as in capabilities(7): \"net_raw\"";
                InvalidArgument::new("security[\"drop_capabilities\"]", format!("{name:?}"), rule)
            };
            Ok(bits | bit.ok_or_else(unknown)?)
        }),
    }
}

/// Kills what `kill_trees` finds of launches of this process whose keeper is gone, then what is still in
/// their groups; and removes these. What stays is found by a later host.
pub(crate) fn bury_groups<T>(launches: &[LaunchId], kill_trees: impl FnOnce() -> T) -> T {
    let killed = kill_trees();
    let owner = Owner::this_process();
    let names = |launch: &LaunchId| [owner.group_name(launch), Owner::detached_group_name(launch)];
    for group in launches.iter().flat_map(names).map(|name| cgroups().open(&name)) {
        let members = group.members();
        let deadline = Instant::now() + EMPTYING;
        while !group.is_empty() && Instant::now() < deadline {
            group.kill();
            thread::sleep(Duration::from_millis(1));
        }
        // They are ours where this process adopts orphans; else to fail says that they are not.
        members.into_iter().for_each(|pid| drop(sys::reap_child(pid)));
        group.remove();
    }
    killed
}

/// Refuses variables that would load code of ours into a program of another user.
///
/// # Errors
/// Names the variable.
pub fn check_user_environment(command: &BootstrapCommand) -> Result<(), InvalidArgument> {
    let Some(user) = &command.confinement.user else { return Ok(()) };
    if user.uid == sys::own_ids().0 {
        return Ok(());
    }
    match LOADING.into_iter().find(|name| command.env.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(InvalidArgument::new(
            format!("env[{name:?}]"),
            "(not shown)",
            "it loads code, and the proc runs as another user; install that for the user, or leave user out",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Confinement)) -> String {
        let mut confinement = Confinement::default();
        change(&mut confinement);
        resolve(&confinement).expect_err("it must be refused").to_string()
    }

    #[test]
    fn names_that_nobody_knows_are_refused_with_those_that_are_known() {
        let one = Rlimits { soft: Some(1), hard: Some(1) };
        let text = refused(|c| c.rlimits = [("files".to_owned(), one)].into());
        assert!(text.starts_with("rlimits[\"files\"]") && text.contains("nofile"), "{text}");
        let all = Rlimits { soft: None, hard: None };
        let text = refused(|c| c.rlimits = [("nofile".to_owned(), all)].into());
        assert!(text.starts_with("rlimits[\"nofile\"] = unlimited: "), "{text}");
        let text =
            refused(|c| c.security.drop_capabilities = DropCapabilities::Named(vec!["net".to_owned()]));
        assert!(text.contains("\"net\"") && text.contains("net_raw"), "{text}");
    }

    #[test]
    fn code_is_not_loaded_into_programs_of_another_user() {
        let mut command = BootstrapCommand::new("/bin/true");
        command.env.insert("PYTHONPATH".to_owned(), "canary".to_owned());
        check_user_environment(&command).expect("the same user");
        let (uid, gid) = sys::own_ids();
        command.confinement.user = Some(User { uid: uid + 1, gid, groups: vec![] });
        let text = check_user_environment(&command).expect_err("another user").to_string();
        assert!(text.starts_with("env[\"PYTHONPATH\"]") && !text.contains("canary"), "{text}");
    }
}
