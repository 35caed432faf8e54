use procession_model::InvalidArgument;

/// What stands in a template for the command that is to run.
const ARGV: &str = "{argv}";

/// A command line with a place in it for another: `docker run -i --rm image {argv}`.
///
/// It is taken apart into words as a shell does, and no shell runs it. The place alone becomes as many words as the other
/// command has; within quotes, `sh -c 'cd /srv && {argv}'`, or in a longer word, the other command is quoted for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    words: Vec<String>,
    /// Whether the place stands alone.
    is_alone: bool,
}

impl Template {
    /// Takes `text` apart; `field` is what it is called in errors.
    ///
    /// # Errors
    /// A quote has no end, or the place is not in it exactly once.
    pub fn parse(field: &str, text: &str) -> Result<Self, InvalidArgument> {
        let refused = |rule: &str| InvalidArgument::new(field, format!("{text:?}"), rule);
        let words = shlex::split(text).ok_or_else(|| refused("a quote in it has no end; close it"))?;
        let places: usize = words.iter().map(|word| word.matches(ARGV).count()).sum();
        if places != 1 {
            let rule = "{argv} has to be in it once, where the command of the agent goes: \"nice {argv}\"";
            return Err(refused(rule));
        }
        if words[0].contains(ARGV) && words.len() > 1 {
            return Err(refused(
                "{argv} is a command of its own, and no program: write what runs it before it",
            ));
        }
        let (before, after) = text.split_once(ARGV).unwrap_or_default();
        let ends = |side: Option<char>| side.is_none_or(char::is_whitespace);
        let is_open = shlex::split(before).is_none();
        let is_alone = !is_open && ends(before.chars().next_back()) && ends(after.chars().next());
        Ok(Self { words, is_alone })
    }

    /// With `argv` in its place.
    ///
    /// # Errors
    /// A word of `argv` has a zero byte in it, which none can.
    pub fn fill(&self, argv: &[String]) -> Result<Vec<String>, InvalidArgument> {
        let quoted = shlex::try_join(argv.iter().map(String::as_str));
        let quoted = quoted.map_err(|error| {
            InvalidArgument::new("agent", format!("{argv:?}"), format!("{error}: leave the zero byte out"))
        })?;
        let mut filled = Vec::new();
        for word in &self.words {
            if self.is_alone && word == ARGV {
                filled.extend(argv.iter().cloned());
            } else {
                filled.push(word.replace(ARGV, &quoted));
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Vec<String> {
        let argv = ["python3", "-c", "print('a b')"].map(str::to_owned);
        Template::parse("command", text).expect("a template").fill(&argv).expect("words")
    }

    #[test]
    fn the_place_alone_becomes_several_words_and_within_quotes_or_a_longer_one_it_is_quoted() {
        assert_eq!(filled("nice -n 5 {argv}"), ["nice", "-n", "5", "python3", "-c", "print('a b')"]);
        assert_eq!(
            filled("ssh 'far away' 'cd /srv && {argv}'"),
            ["ssh", "far away", "cd /srv && python3 -c \"print('a b')\""]
        );
        assert_eq!(filled("sh -c '{argv}'"), ["sh", "-c", "python3 -c \"print('a b')\""]);
        assert_eq!(filled("sh -c \"{argv} &\"")[2], "python3 -c \"print('a b')\" &");
        assert_eq!(filled("{argv}"), ["python3", "-c", "print('a b')"]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_what_was_given() {
        for (text, why) in [
            ("docker run image", "once"),
            ("{argv} and {argv}", "once"),
            ("sh -c '{argv}", "no end"),
            ("{argv} image", "before it"),
            ("", "once"),
        ] {
            let error = Template::parse("command", text).expect_err(text);
            assert_eq!((error.field.as_str(), error.value), ("command", format!("{text:?}")));
            assert!(error.rule.contains(why), "{text}: {}", error.rule);
        }
    }
}
