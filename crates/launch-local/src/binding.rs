use std::fs;

use procession_model::{Binding, InvalidArgument};
use procession_sys::{self as sys, Mask};

const NODES: &str = "/sys/devices/system/node";

/// What a child is bound to.
pub(crate) fn resolve(binding: &Binding) -> Result<sys::Binding, InvalidArgument> {
    let mut bound = sys::Binding::default();
    if *binding == Binding::default() {
        return Ok(bound);
    }
    let available = sys::available_processors().map_err(|error| refused("", "", unknown(&error)))?;
    let mut processors: Option<Vec<u32>> = None;
    for (name, list) in binding.given() {
        let own = match name {
            "membind" => {
                bound.nodes = nodes(name, list, "has_memory")?.into_iter().collect();
                continue;
            }
            "cpunodebind" => of_nodes(name, list, &available)?,
            _ => of_list(name, list, &available)?,
        };
        processors = Some(match processors {
            None => own,
            Some(others) => others.into_iter().filter(|one| own.contains(one)).collect(),
        });
    }
    if let Some(processors) = processors {
        if processors.is_empty() {
            let all = binding.given().map(|(name, list)| format!("{name}={list}")).collect::<Vec<_>>();
            let rule = "what is given holds together, and these have no processor in common; leave one out";
            return Err(InvalidArgument::new("proc_bind", all.join(" "), rule));
        }
        bound.processors = processors.into_iter().collect();
    }
    let (name, list) = binding.given().last().unwrap_or_default();
    bound.try_out().map_err(|error| {
        let rule = format!(
            "the kernel does not let this process bind its children so: {error}; leave it out, or ask for less"
        );
        refused(name, list, rule)
    })?;
    Ok(bound)
}

/// The processors that procs can be bound to, as a list; and whether their memory can be bound to nodes, with the reason
/// where it cannot.
pub(crate) fn available() -> (String, Result<(), String>) {
    let processors = sys::available_processors().unwrap_or_default();
    let memory = Binding { membind: Some("all".to_owned()), ..Binding::default() };
    (shown(processors.numbers()), resolve(&memory).map(drop).map_err(|refused| refused.rule))
}

fn refused(name: &str, list: &str, rule: impl Into<String>) -> InvalidArgument {
    InvalidArgument::new(format!("proc_bind[{name:?}]"), format!("{list:?}"), rule)
}

fn unknown(error: &std::io::Error) -> String {
    format!("it is not known which processors this process may use: {error}; leave it out")
}

fn of_list(name: &str, list: &str, available: &Mask) -> Result<Vec<u32>, InvalidArgument> {
    let Some(processors) = parse(name, list)? else { return Ok(available.numbers().collect()) };
    match processors.iter().find(|&&one| !available.contains(one)) {
        None => Ok(processors),
        Some(missing) => {
            let there = shown(available.numbers());
            Err(refused(name, list, format!("processor {missing} is not available here, {there} are")))
        }
    }
}

fn of_nodes(name: &str, list: &str, available: &Mask) -> Result<Vec<u32>, InvalidArgument> {
    let mut processors = Vec::new();
    for node in nodes(name, list, "has_cpu")? {
        let there = fs::read_to_string(format!("{NODES}/node{node}/cpulist")).unwrap_or_default();
        let there = numbers(there.trim()).unwrap_or_default();
        processors.extend(there.into_iter().filter(|&one| available.contains(one)));
    }
    if processors.is_empty() {
        return Err(refused(name, list, "no processor of these nodes is available here"));
    }
    Ok(processors)
}

/// The nodes that are asked for, all of which are in the file `known`.
fn nodes(name: &str, list: &str, known: &str) -> Result<Vec<u32>, InvalidArgument> {
    let there = fs::read_to_string(format!("{NODES}/{known}")).unwrap_or_default();
    let Some(there) = numbers(there.trim()) else {
        return Err(refused(name, list, format!("this machine names no nodes in {NODES}; leave it out")));
    };
    let Some(asked) = parse(name, list)? else { return Ok(there) };
    match asked.iter().find(|one| !there.contains(one)) {
        None => Ok(asked),
        Some(missing) => {
            let there = shown(there.into_iter());
            Err(refused(name, list, format!("there is no such node {missing}, there are {there}")))
        }
    }
}

/// None for all of them.
fn parse(name: &str, list: &str) -> Result<Option<Vec<u32>>, InvalidArgument> {
    if list == "all" {
        return Ok(None);
    }
    numbers(list)
        .map(Some)
        .ok_or_else(|| refused(name, list, "has to be a list of numbers and ranges, \"0-3,8\", or \"all\""))
}

fn numbers(list: &str) -> Option<Vec<u32>> {
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&number: &u32| is_plain && number < Mask::MOST)
    };
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// As a list with ranges.
fn shown(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Binding)) -> String {
        let mut binding = Binding::default();
        change(&mut binding);
        resolve(&binding).expect_err("it must be refused").to_string()
    }

    #[test]
    fn lists_are_read_as_numactl_reads_them() {
        assert_eq!(numbers("0-2,7,9-9"), Some(vec![0, 1, 2, 7, 9]));
        for bad in ["", "a", "1-", "-1", "3-1", "1,,2", "+1", " 1", "0x1", "99999", "4294967296"] {
            assert_eq!(numbers(bad), None, "{bad:?}");
        }
        assert_eq!(shown([0, 1, 2, 5, 7, 8].into_iter()), "0-2,5,7-8");
    }

    #[test]
    fn what_cannot_be_bound_to_is_refused_by_name() {
        let text = refusal(|b| b.cpus = Some("one".to_owned()));
        assert!(text.starts_with("proc_bind[\"cpus\"] = \"one\": has to be a list"), "{text}");
        let text = refusal(|b| b.physcpubind = Some("8191".to_owned()));
        assert!(text.contains("processor 8191 is not available here, "), "{text}");
        let text = refusal(|b| b.membind = Some("8000".to_owned()));
        assert!(text.starts_with("proc_bind[\"membind\"] = \"8000\": "), "{text}");
        let text = refusal(|b| b.cpunodebind = Some("8000".to_owned()));
        assert!(text.starts_with("proc_bind[\"cpunodebind\"] = \"8000\": "), "{text}");
    }

    #[test]
    fn what_is_given_of_processors_holds_together() {
        let available: Vec<u32> = sys::available_processors().expect("some").numbers().collect();
        let [first, .., last] = available.as_slice() else { return };
        let all = resolve(&Binding { cpus: Some("all".to_owned()), ..Binding::default() }).expect("all");
        assert_eq!(all.processors.numbers().collect::<Vec<_>>(), available);
        let both = Binding {
            cpus: Some("all".to_owned()),
            physcpubind: Some(last.to_string()),
            ..Binding::default()
        };
        let both = resolve(&both).expect("the last one");
        assert_eq!(both.processors.numbers().collect::<Vec<_>>(), [*last]);
        let text = refusal(|b| {
            b.cpus = Some(first.to_string());
            b.physcpubind = Some(last.to_string());
        });
        assert!(text.contains("no processor in common"), "{text}");
    }
}
