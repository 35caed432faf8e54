//! What a launch asks for beside its program: the group of the proc, what it is held to, what it gives up.

use std::ffi::OsString;
use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procession_sys::{Confinement, Identity, Limits, Mask, Rlimit, Rotation};

/// The files that the output of a detached proc goes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Of stdout and of stderr, absolute.
    pub(crate) paths: [PathBuf; 2],
    pub(crate) rotation: Rotation,
}

impl Output {
    fn encode(&self) -> String {
        let hex =
            |path: &Path| path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let [stdout, stderr]: [String; 2] = self.paths.each_ref().map(|path| hex(path));
        let max_bytes = self.rotation.max_bytes.map(|max| max.to_string()).unwrap_or_default();
        format!("{stdout},{stderr},{max_bytes},{}", self.rotation.keep)
    }

    fn decode(text: &str) -> Option<Self> {
        let path = |hex: &str| {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes = hex.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
            Some(PathBuf::from(OsString::from_vec(bytes)))
        };
        let mut parts = text.split(',');
        let paths = [path(parts.next()?)?, path(parts.next()?)?];
        let max_bytes = match parts.next()? {
            "" => None,
            number => Some(number.parse().ok()?),
        };
        let keep = parts.next()?.parse().ok()?;
        Some(Self { paths, rotation: Rotation { max_bytes, keep } })
    }
}

/// It travels as words of text among the strings of the launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// The name of the proc's control group.
    pub(crate) group: String,
    pub(crate) limits: Limits,
    pub(crate) confinement: Confinement,
    /// Given for a proc that outlives its host.
    pub(crate) output: Option<Output>,
    /// It may be forked from an interpreter that has imported this; a word for that alone to read.
    pub(crate) preload: Option<String>,
}

impl Order {
    pub(crate) fn encode(&self) -> CString {
        let mut words = format!("group={}", self.group);
        let Limits { memory, pids, cpu_millis } = self.limits;
        let limits = [("memory", memory), ("pids", pids), ("cpu", cpu_millis)];
        for (key, limit) in limits.into_iter().filter_map(|(key, limit)| Some((key, limit?))) {
            push(&mut words, key, [limit]);
        }
        let Confinement { rlimits, identity, no_new_privs, dropped, seccomp, binding } = &self.confinement;
        for Rlimit { resource, soft, hard } in rlimits {
            push(&mut words, "rlimit", [u64::from(*resource), *soft, *hard]);
        }
        if let Some(Identity { uid, gid, groups }) = identity {
            push(&mut words, "user", [uid, gid].into_iter().chain(groups).map(|&number| number.into()));
        }
        push(&mut words, "no_new_privs", [u64::from(*no_new_privs)]);
        push(&mut words, "dropped", [*dropped]);
        for (key, mask) in [("processors", &binding.processors), ("nodes", &binding.nodes)] {
            if !mask.is_empty() {
                push(&mut words, key, mask.numbers().map(u64::from));
            }
        }
        if let Some(output) = &self.output {
            words = format!("{words} output={}", output.encode());
        }
        if let Some(preload) = &self.preload {
            words = format!("{words} preload={preload}");
        }
        if !seccomp.is_empty() {
            push(&mut words, "seccomp", seccomp.iter().map(|&byte| byte.into()));
        }
        // Words of numbers and names of groups hold no NUL; one that does names no group.
        CString::new(words).unwrap_or_default()
    }

    pub(crate) fn decode(text: &CStr) -> Option<Self> {
        let mut order = Self::default();
        for word in text.to_str().ok()?.split(' ') {
            let (key, value) = word.split_once('=')?;
            if key == "group" {
                value.clone_into(&mut order.group);
                continue;
            }
            if key == "output" {
                order.output = Some(Output::decode(value)?);
                continue;
            }
            if key == "preload" {
                order.preload = Some(value.to_owned());
                continue;
            }
            let numbers = value.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
            let confinement = &mut order.confinement;
            match (key, numbers.as_slice()) {
                ("memory", &[limit]) => order.limits.memory = Some(limit),
                ("pids", &[limit]) => order.limits.pids = Some(limit),
                ("cpu", &[limit]) => order.limits.cpu_millis = Some(limit),
                ("rlimit", &[resource, soft, hard]) => {
                    confinement.rlimits.push(Rlimit { resource: resource.try_into().ok()?, soft, hard });
                }
                ("user", numbers) => {
                    let mut ids = numbers.iter().map(|&number| u32::try_from(number));
                    let (uid, gid) = (ids.next()?.ok()?, ids.next()?.ok()?);
                    let groups = ids.collect::<Result<_, _>>().ok()?;
                    confinement.identity = Some(Identity { uid, gid, groups });
                }
                ("no_new_privs", &[flag]) => confinement.no_new_privs = flag != 0,
                ("dropped", &[bits]) => confinement.dropped = bits,
                ("processors", numbers) => confinement.binding.processors = mask(numbers)?,
                ("nodes", numbers) => confinement.binding.nodes = mask(numbers)?,
                ("seccomp", bytes) => {
                    let bytes = bytes.iter().map(|&byte| u8::try_from(byte));
                    confinement.seccomp = bytes.collect::<Result<_, _>>().ok()?;
                }
                _ => return None,
            }
        }
        Some(order)
    }
}

fn mask(numbers: &[u64]) -> Option<Mask> {
    numbers.iter().map(|&number| u32::try_from(number).ok().filter(|&number| number < Mask::MOST)).collect()
}

fn push(words: &mut String, key: &str, numbers: impl IntoIterator<Item = u64>) {
    let _a_string_takes_all = write!(words, " {key}=");
    for (index, number) in numbers.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _a_string_takes_all = write!(words, "{comma}{number}");
    }
}

#[cfg(test)]
mod tests {
    use procession_sys::Binding;

    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_sent() {
        let confinement = Confinement {
            rlimits: vec![Rlimit { resource: 7, soft: 1, hard: Rlimit::UNLIMITED }],
            identity: Some(Identity { uid: 1, gid: 2, groups: vec![3, 4_294_967_294] }),
            no_new_privs: true,
            dropped: u64::MAX,
            seccomp: vec![0, 255, 10],
            binding: Binding { processors: [0, 200].into_iter().collect(), nodes: [1].into_iter().collect() },
        };
        let limits = Limits { memory: Some(1 << 26), pids: Some(9), cpu_millis: Some(1500) };
        let paths = [PathBuf::from("/a b/ü.out"), PathBuf::from(OsString::from_vec(b"/\xff=,".to_vec()))];
        let rotation = Rotation { max_bytes: Some(9), keep: 2 };
        let output = Some(Output { paths: paths.clone(), rotation });
        let group = "procession-1.2.3-abc".to_owned();
        let unlimited = Output { paths, rotation: Rotation { max_bytes: None, keep: 0 } };
        for order in [
            Order { group, limits, confinement, output, preload: Some("a.b,c;2f".to_owned()) },
            Order { output: Some(unlimited), ..Order::default() },
            Order::default(),
        ] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        assert_eq!(Order::decode(c"group=g user=1"), None);
        assert_eq!(Order::decode(c"what=1"), None);
        assert_eq!(Order::decode(c"group=g processors=4294967296"), None);
    }
}
