//! Which launches may be forked, and the word for what they are forked from.

use procession_model::{BootstrapCommand, Confinement, Preload};

/// The longest such word: it is a variable of the one that forks.
const LONGEST: usize = 100 << 10;

/// What `_fork_server.py` reads: the modules with commas between; a semicolon; the path as hex digits, with commas between.
/// None for what is executed in any case, since only the kernel's own way gives it all that was asked for.
pub(crate) fn preload(command: &BootstrapCommand) -> Option<String> {
    let Preload { modules, path } = command.preload.as_ref()?;
    if command.confinement != Confinement::default() {
        return None;
    }
    // Without modules it is all the same where they would be looked for.
    let path = if modules.is_empty() { &Vec::new() } else { path };
    let hex = |entry: &String| entry.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let word = format!("{};{}", modules.join(","), path.iter().map(hex).collect::<Vec<_>>().join(","));
    let is_a_word = !modules.iter().any(|module| module.contains([' ', ',', ';', '\0']));
    (is_a_word && word.len() <= LONGEST).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_confined_or_no_proc_of_ours_is_executed() {
        let mut command = BootstrapCommand::new("python");
        assert_eq!(preload(&command), None);
        command.preload =
            Some(Preload { modules: vec!["a.b".into(), "c".into()], path: vec!["/ü".into(), "x".into()] });
        assert_eq!(preload(&command).as_deref(), Some("a.b,c;2fc3bc,78"));
        command.preload = Some(Preload { modules: vec![], path: vec!["/p".into()] });
        assert_eq!(preload(&command).as_deref(), Some(";"), "all of these have one server");
        command.confinement.security.no_new_privs = true;
        assert_eq!(preload(&command), None);
    }

    #[test]
    fn what_is_no_word_is_not_forked() {
        let mut command = BootstrapCommand::new("python");
        command.preload = Some(Preload { modules: vec!["a b".into()], path: vec![] });
        assert_eq!(preload(&command), None);
        command.preload = Some(Preload { modules: vec!["a".into()], path: vec!["p".repeat(LONGEST)] });
        assert_eq!(preload(&command), None);
    }
}
