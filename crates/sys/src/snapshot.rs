use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use crate::{Looking, Process};

/// All processes at about one moment.
#[derive(Debug)]
pub struct Snapshot {
    all: Vec<Process>,
    places: HashMap<u32, usize>,
    children: HashMap<u32, Vec<usize>>,
    sessions: HashMap<u32, Vec<usize>>,
    groups: HashMap<u32, Vec<usize>>,
    marked: RefCell<HashMap<Option<u32>, Marked>>,
}

/// By launch, who carries its mark.
type Marked = HashMap<String, Vec<usize>>;

impl Snapshot {
    /// One pass over `/proc`.
    ///
    /// # Errors
    /// `/proc` is not mounted, or no descriptor is left to read it with.
    pub fn take() -> io::Result<Self> {
        let mut looking = Looking::begin()?;
        loop {
            if let Some(all) = looking.go_on(usize::MAX)? {
                return Ok(all);
            }
        }
    }

    pub(crate) fn of(all: Vec<Process>) -> Self {
        let [mut children, mut sessions, mut groups] = <[HashMap<u32, Vec<usize>>; 3]>::default();
        for (index, process) in all.iter().enumerate() {
            children.entry(process.parent).or_default().push(index);
            sessions.entry(process.session).or_default().push(index);
            groups.entry(process.group).or_default().push(index);
        }
        let places = all.iter().enumerate().map(|(index, process)| (process.pid, index)).collect();
        Self { all, places, children, sessions, groups, marked: RefCell::default() }
    }

    /// All of them, by rising pid.
    pub fn all(&self) -> &[Process] {
        &self.all
    }

    /// The process with this id.
    pub fn find(&self, pid: u32) -> Option<&Process> {
        self.places.get(&pid).map(|&index| &self.all[index])
    }

    fn at(&self, places: Option<&Vec<usize>>) -> Vec<&Process> {
        places.into_iter().flatten().map(|&index| &self.all[index]).collect()
    }

    /// Those in a session.
    pub(crate) fn in_session(&self, session: u32) -> Vec<&Process> {
        self.at(self.sessions.get(&session))
    }

    /// Those in a process group.
    pub(crate) fn in_group(&self, group: u32) -> Vec<&Process> {
        self.at(self.groups.get(&group))
    }

    /// Those that carry the mark of `launch`, among the children of `parent`, or among all.
    pub(crate) fn marked(&self, launch: &str, parent: Option<u32>) -> Vec<&Process> {
        let mut marked = self.marked.borrow_mut();
        let marked = marked.entry(parent).or_insert_with(|| {
            let mut by_launch = Marked::new();
            let all: Vec<usize> = match parent {
                Some(parent) => self.children.get(&parent).cloned().unwrap_or_default(),
                None => (0..self.all.len()).collect(),
            };
            for index in all {
                for launch in self.all[index].marker().into_iter().flat_map(|marker| marker.split(':')) {
                    by_launch.entry(launch.to_owned()).or_default().push(index);
                }
            }
            by_launch
        });
        self.at(marked.get(launch))
    }

    /// Whether a process descends from `root`.
    pub(crate) fn is_below(&self, process: &Process, root: u32) -> bool {
        let mut at = process;
        // What was looked at one after the other need not be a tree.
        for _ in 0..self.all.len() {
            if at.parent == root {
                return true;
            }
            match self.find(at.parent) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// Children, their children and so on, of all `roots`; the roots themselves are not among them.
    pub fn descendants(&self, roots: impl IntoIterator<Item = u32>) -> Vec<&Process> {
        let mut found = Vec::new();
        let mut open: Vec<u32> = roots.into_iter().collect();
        let mut seen = vec![false; self.all.len()];
        while let Some(pid) = open.pop() {
            for &index in self.children.get(&pid).into_iter().flatten() {
                if !std::mem::replace(&mut seen[index], true) {
                    found.push(&self.all[index]);
                    open.push(self.all[index].pid);
                }
            }
        }
        found
    }
}
