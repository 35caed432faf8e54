//! What a child is held to, and what it gives up before it executes its program.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::CString;
use std::fs::File;
use std::io::Read;

use procession_sys::*;

fn shell(script: &str, confinement: Confinement) -> SpawnSpec<'static> {
    let argv = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    SpawnSpec { stdout: Stdio::Pipe, confinement, ..SpawnSpec::new(c"/bin/sh".into(), argv, Vec::new()) }
}

fn output(script: &str, confinement: Confinement) -> String {
    let mut child = spawn(&shell(script, confinement)).unwrap();
    let mut text = String::new();
    File::from(child.stdout.take().unwrap()).read_to_string(&mut text).unwrap();
    child.pidfd.wait().unwrap();
    text
}

/// A filter that allows every call.
fn allow_all() -> Vec<u8> {
    let (ret, allow) = (0x06_u16, 0x7fff_0000_u32);
    [&ret.to_ne_bytes()[..], &[0, 0], &allow.to_ne_bytes()].concat()
}

#[test]
fn limits_and_given_up_rights_show_in_the_child() {
    let nofile = rlimit_resource("nofile").unwrap();
    let text = output(
        "ulimit -Sn; ulimit -Hn; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status",
        Confinement {
            rlimits: vec![Rlimit { resource: nofile, soft: 33, hard: 44 }],
            seccomp: allow_all(),
            ..Confinement::default()
        },
    );
    assert_eq!(text, "33\n44\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let text = output("grep NoNewPrivs /proc/self/status", Confinement::default());
    assert_eq!(text, "NoNewPrivs:\t0\n");
}

#[test]
fn a_child_runs_on_its_processors_and_so_does_what_it_starts() {
    let available = available_processors().unwrap();
    for processor in available.numbers().take(2) {
        let binding = Binding { processors: [processor].into_iter().collect(), nodes: Mask::default() };
        let confinement = Confinement { binding, ..Confinement::default() };
        let text = output("(grep Cpus_allowed_list /proc/self/status)", confinement);
        assert_eq!(text, format!("Cpus_allowed_list:\t{processor}\n"));
    }
    assert_eq!(available_processors().unwrap(), available);
}

#[test]
fn capabilities_that_are_dropped_stay_away_after_an_exec() {
    let confinement =
        Confinement { dropped: all_capabilities(), no_new_privs: true, ..Confinement::default() };
    let text = output("grep -E '^Cap(Eff|Prm|Inh)' /proc/self/status", confinement);
    let zero = "0".repeat(16);
    assert_eq!(text, format!("CapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{zero}\n"));
}

#[test]
fn what_cannot_be_applied_is_told_with_its_stage_and_starts_nothing() {
    let nofile = rlimit_resource("nofile").unwrap();
    let nowhere = Binding { processors: [Mask::MOST - 1].into_iter().collect(), nodes: Mask::default() };
    let above = Rlimit { resource: nofile, soft: 2, hard: 1 };
    for (confinement, stage, errno) in [
        (Confinement { rlimits: vec![above], ..Confinement::default() }, Stage::Limits, libc::EINVAL),
        (Confinement { seccomp: vec![0; 8], ..Confinement::default() }, Stage::Privileges, libc::EINVAL),
        (Confinement { binding: nowhere, ..Confinement::default() }, Stage::Binding, libc::EINVAL),
    ] {
        let error = spawn(&shell("exit 0", confinement)).unwrap_err();
        assert_eq!((error.stage, error.source.raw_os_error()), (stage, Some(errno)));
    }
    let all = Snapshot::take().unwrap();
    assert!(all.descendants([std::process::id()]).is_empty());
}
