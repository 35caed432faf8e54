use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where systemd has control groups on every machine.
const GROUPS: &str = "/sys/fs/cgroup";

/// What a manager can limit, by the controllers that its own control group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    pub(crate) memory: bool,
    pub(crate) pids: bool,
    pub(crate) cpu: bool,
    /// Whether the manager hears of it when the kernel kills for want of memory.
    pub(crate) hears_of_oom: bool,
}

impl Controllers {
    /// Those of the manager whose control group is `group`, and whose user is `uid`.
    pub(crate) fn of(group: &str, uid: u32) -> Self {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count() > 1;
        Self::below(Path::new(GROUPS), group, uid, swaps)
    }

    fn below(root: &Path, group: &str, uid: u32, swaps: bool) -> Self {
        let group = group.trim_start_matches('/');
        if let Ok(list) = fs::read_to_string(root.join(group).join("cgroup.controllers")) {
            let has = |name| list.split_whitespace().any(|one| one == name);
            let memory = has("memory");
            return Self { memory, pids: has("pids"), cpu: has("cpu"), hears_of_oom: memory };
        }
        // Of version 1 each has a tree of its own, and says so to nobody: without the right to it a limit is ignored.
        let has = |name| {
            let found = fs::metadata(root.join(name).join(group));
            found.is_ok_and(|found| found.is_dir() && (uid == 0 || found.uid() == uid))
        };
        // There systemd limits no swap, so that what is over the limit would be swapped out.
        Self { memory: has("memory") && !swaps, pids: has("pids"), cpu: has("cpu"), hears_of_oom: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_has_the_controllers_of_its_group_of_version_2() {
        let root = std::env::temp_dir().join(format!("controllers-2-{}", std::process::id()));
        fs::create_dir_all(root.join("user.slice")).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        fs::write(root.join("user.slice/cgroup.controllers"), "memory pids\n").unwrap();
        let all = Controllers { memory: true, pids: true, cpu: true, hears_of_oom: true };
        let found = ["/", "/user.slice"].map(|group| Controllers::below(&root, group, 1000, true));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [all, Controllers { cpu: false, ..all }]);
    }

    #[test]
    fn of_version_1_it_has_those_in_whose_tree_it_may_make_groups() {
        let root = std::env::temp_dir().join(format!("controllers-1-{}", std::process::id()));
        for controller in ["memory", "pids"] {
            fs::create_dir_all(root.join(controller).join("a.slice")).unwrap();
        }
        let mine = fs::metadata(&root).unwrap().uid();
        let of = |uid, swaps| Controllers::below(&root, "/a.slice", uid, swaps);
        let found = [of(mine, false), of(mine, true), of(mine + 1, false)];
        fs::remove_dir_all(&root).unwrap();
        let both = Controllers { memory: true, pids: true, ..Controllers::default() };
        assert_eq!(found[..2], [both, Controllers { memory: false, ..both }]);
        assert!(!found[2].pids || mine + 1 == 0);
    }
}
