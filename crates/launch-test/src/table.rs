use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// What came out of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "why", rename_all = "snake_case")]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// It was not: what was expected, and what was seen.
    Failed(String),
    /// It was not tried: what the launcher does not claim, or what is missing here.
    NotCapable(String),
}

impl Outcome {
    /// `passed`, `failed` or `not capable`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::NotCapable(_) => "not capable",
        }
    }

    /// Why it did not pass; empty where it did.
    pub fn why(&self) -> &str {
        match self {
            Self::Passed => "",
            Self::Failed(why) | Self::NotCapable(why) => why,
        }
    }
}

/// One check, and what came out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The check's name.
    pub name: String,
    /// What is promised.
    pub promise: String,
    /// What to look at in a launcher that fails.
    pub hint: String,
    /// What came out of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What came out of a run of the kit, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The launcher's name.
    pub launcher: String,
    /// One for each check.
    pub rows: Vec<Row>,
}

impl Table {
    fn names(&self, of: impl Fn(&Outcome) -> bool) -> Vec<&str> {
        self.rows.iter().filter(|row| of(&row.outcome)).map(|row| row.name.as_str()).collect()
    }

    /// The names of the checks that passed.
    pub fn passed(&self) -> Vec<&str> {
        self.names(|outcome| *outcome == Outcome::Passed)
    }

    /// The names of those that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The names of those that could not be tried.
    pub fn not_capable(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::NotCapable(_)))
    }

    /// As JSON: `{"launcher", "rows": [{"name", "promise", "hint", "outcome", "why", "seconds"}]}`, where `outcome` is
    /// `passed`, `failed` or `not_capable`, and what passed has no `why`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| unreachable!("it is plain data: {error}"))
    }

    /// As one page of HTML that needs nothing beside it.
    pub fn to_html(&self) -> String {
        crate::html::page(self)
    }

    /// How many passed, failed and could not be tried, as a sentence.
    pub fn summary(&self) -> String {
        let (passed, failed) = (self.passed().len(), self.failed().len());
        format!(
            "{}: {passed} passed, {failed} failed, {} not capable",
            self.launcher,
            self.not_capable().len()
        )
    }
}

/// As text: a line for each check, and why it did not pass; for one that failed what to look at.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let Row { name, outcome, seconds, .. } = row;
            writeln!(text, "{name:width$}  {:11}  {seconds:7.3} s", outcome.as_str())?;
            if *outcome != Outcome::Passed {
                writeln!(text, "    {}", outcome.why())?;
            }
            if let Outcome::Failed(_) = outcome {
                writeln!(text, "    promised: {}\n    look at: {}", row.promise, row.hint)?;
            }
        }
        write!(f, "{text}{}", self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, outcome| Row {
            name: name.to_owned(),
            promise: "It holds.".to_owned(),
            hint: "the <launch>".to_owned(),
            outcome,
            seconds: 0.25,
        };
        let rows = vec![
            row("exit.a", Outcome::Passed),
            row("exit.b", Outcome::Failed("expected 1; saw <script>alert(\"x\" & 'y')</script>".to_owned())),
            row("tree.c", Outcome::NotCapable("it does not claim it".to_owned())),
        ];
        Table { launcher: "mine & <yours>".to_owned(), rows }
    }

    #[test]
    fn json_is_plain_data_that_reads_back() {
        let json = table().to_json();
        let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(value["rows"][1]["outcome"], "failed");
        assert_eq!(value["rows"][2]["why"], "it does not claim it");
        assert_eq!(serde_json::from_str::<Table>(&json).expect("it reads back"), table());
    }

    #[test]
    fn a_page_has_every_check_and_no_markup_of_anybody_else() {
        let page = table().to_html();
        for name in ["exit.a", "exit.b", "tree.c"] {
            assert!(page.contains(name), "{name}");
        }
        assert!(page.contains("&lt;script&gt;alert(&quot;x&quot; &amp; &#39;y&#39;)"), "{page}");
        assert!(!page.contains("<script") && page.contains("mine &amp; &lt;yours&gt;"), "{page}");
    }

    #[test]
    fn text_has_a_hint_for_each_failure_and_for_nothing_else() {
        let text = table().to_string();
        assert_eq!(text.matches("look at: the <launch>").count(), 1, "{text}");
        assert!(text.ends_with("mine & <yours>: 1 passed, 1 failed, 1 not capable"), "{text}");
    }
}
