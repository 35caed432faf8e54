use std::ffi::CString;
use std::io::Read;
use std::time::{Duration, Instant};

use super::*;
use crate::{Child, SpawnSpec, Stdio, spawn};

/// This machine's groups, and what they would be if it had less.
fn variants() -> Vec<(&'static str, Cgroups)> {
    let all = Cgroups::find();
    let old = Unified {
        kill: false,
        ..all.unified.clone().unwrap_or(Unified {
            base: PathBuf::new(),
            controllers: Vec::new(),
            kill: false,
        })
    };
    let old = all.unified.is_some().then_some(old);
    let found = [
        ("all that there is", all.clone()),
        ("version 2 before Linux 5.14", Cgroups { unified: old, ..all.clone() }),
        ("version 1 with a freezer", Cgroups { unified: None, ..all.clone() }),
        ("version 1 without one", Cgroups { unified: None, freezer: None, ..all.clone() }),
        (
            "version 2 without controllers",
            Cgroups { memory: None, pids: None, cpu: None, freezer: None, ..all },
        ),
    ];
    let usable =
        |(_, groups): &(_, Cgroups)| groups.has_unified() || groups.version_for(Controller::Pids).is_some();
    found.into_iter().filter(usable).collect()
}

fn pids(groups: &Cgroups, most: u64) -> Limits {
    let enforced = groups.version_for(Controller::Pids).is_some();
    Limits { pids: enforced.then_some(most), ..Limits::default() }
}

fn fresh_name() -> String {
    let own = Owner::this_process();
    own.group_name(own.next_number().replace('.', "x"))
}

fn shell(script: &str, group: &Group) -> Child {
    let argv = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    let group = Some(group);
    let spec =
        SpawnSpec { stdout: Stdio::Pipe, group, ..SpawnSpec::new(c"/bin/sh".into(), argv, Vec::new()) };
    spawn(&spec).unwrap()
}

/// Reads until the child has said that it is ready.
fn ready(child: &mut Child) {
    let mut byte = [0];
    fs::File::from(child.stdout.take().unwrap()).read_exact(&mut byte).unwrap();
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_killed_and_removed(variant: &str, group: &Group, child: Child) {
    until(variant, || {
        group.kill();
        group.is_empty()
    });
    child.pidfd.wait().unwrap();
    until(variant, || group.remove());
}

#[test]
fn a_kill_reaches_what_has_left_its_session_its_parent_and_its_environment_behind() {
    for (variant, groups) in variants() {
        let group = groups.make(&fresh_name(), &pids(&groups, 100)).unwrap().unwrap();
        assert!(group.is_empty());
        let mut child =
            shell("(setsid env -i /bin/sh -c 'echo; exec sleep 1000' &) ; exec sleep 1000", &group);
        ready(&mut child);
        assert!(group.members().len() >= 2, "{variant}: {:?}", group.members());
        is_killed_and_removed(variant, &group, child);
        assert!(group.members().is_empty());
    }
}

mod f15 {
    use super::*;

    #[test]
    fn a_group_that_stands_still_is_killed() {
        for (variant, groups) in variants() {
            let group = groups.make(&fresh_name(), &pids(&groups, 100)).unwrap().unwrap();
            let mut child = shell("echo; while :; do :; done", &group);
            ready(&mut child);
            for path in group.directories() {
                // One of the two is there, or none.
                let _ = fs::write(path.join("cgroup.freeze"), "1");
                let _ = fs::write(path.join("freezer.state"), "FROZEN");
            }
            is_killed_and_removed(variant, &group, child);
        }
    }
}

#[test]
fn groups_that_its_processes_made_are_removed_with_it() {
    for (variant, groups) in variants() {
        let group = groups.make(&fresh_name(), &pids(&groups, 100)).unwrap().unwrap();
        let own = group.directories().next().unwrap().clone();
        fs::create_dir_all(own.join("a/b")).unwrap();
        fs::create_dir(own.join("c")).unwrap();
        assert!(group.remove(), "{variant}");
        assert!(!own.exists());
        assert!(group.remove(), "what is gone is removed");
    }
}

#[test]
fn a_limit_on_processes_counts_those_of_the_whole_group() {
    for (variant, groups) in variants() {
        if groups.version_for(Controller::Pids).is_none() {
            continue;
        }
        let group = groups.make(&fresh_name(), &pids(&groups, 3)).unwrap().unwrap();
        let child = shell("for n in 1 2 3 4; do sleep 1000 & done; exec sleep 1000", &group);
        let refused = |path: &PathBuf| {
            let events = fs::read_to_string(path.join("pids.events")).unwrap_or_default();
            number_after(&events, "max").is_some_and(|times| times > 0)
        };
        until(variant, || group.directories().any(refused));
        assert!(group.members().len() <= 3, "{variant}: {:?}", group.members());
        is_killed_and_removed(variant, &group, child);
    }
}

#[test]
fn without_any_groups_nothing_fails_but_what_was_asked_for() {
    let none = Cgroups::default();
    assert!(none.make("procession-1.2.3-none", &Limits::default()).unwrap().is_none());
    for controller in Controller::ALL {
        assert_eq!(none.version_for(controller), None);
    }
    let limits = Limits { memory: Some(1 << 26), ..Limits::default() };
    let error = none.make("procession-1.2.3-none", &limits).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    assert!(none.left_behind().is_empty());
    assert!(none.open("procession-1.2.3-none").is_nowhere());
}

#[test]
fn what_an_owner_that_is_gone_left_is_found_by_name_and_what_a_living_one_has_is_not() {
    let groups = Cgroups::find();
    let living = fresh_name();
    let Some(own) = groups.make(&living, &Limits::default()).unwrap() else {
        println!("skipped: capability: cgroup2");
        return;
    };
    let mut child = spawn(&SpawnSpec::new(c"/bin/true".into(), vec![c"true".into()], Vec::new())).unwrap();
    let dead = living.replacen(&format!(".{}.", std::process::id()), &format!(".{}.", child.pid), 1);
    assert_ne!(dead, living);
    child.pidfd.wait().unwrap();
    child.stdout.take();
    let _left = groups.make(&dead, &Limits::default()).unwrap().unwrap();
    let found = groups.left_behind();
    assert!(found.contains(&dead) && !found.contains(&living), "{found:?}");
    assert!(groups.open(&dead).remove());
    assert!(!groups.left_behind().contains(&dead));
    assert!(own.remove());
}

#[test]
fn to_find_out_leaves_nothing() {
    let groups = Cgroups::find();
    let own = Owner::this_process().to_string();
    for base in groups.bases() {
        let tries =
            fs::read_dir(base).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let left: Vec<_> =
            tries.filter(|name| name.starts_with("procession-try-") && name.contains(&own)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn in_a_delegated_unit_groups_are_made_beside_the_leaf_that_we_are_in() {
    let Some(unified) = Cgroups::find().unified else {
        println!("skipped: capability: cgroup2");
        return;
    };
    let unit = unified.base.join(fresh_name());
    let leaf = unit.join("leaf");
    fs::create_dir_all(&leaf).unwrap();
    let before = find_unified(&leaf).unwrap().base;
    let path = CString::new(unit.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: both strings end in NUL, and the value is one byte.
    let marked =
        unsafe { libc::setxattr(path.as_ptr(), c"user.delegate".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
    let after = find_unified(&leaf).unwrap().base;
    fs::remove_dir(&leaf).unwrap();
    fs::remove_dir(&unit).unwrap();
    assert_eq!(before, leaf);
    assert_eq!(after, if marked == 0 { unit } else { leaf });
}
