use std::fmt;

/// A caller's argument that was refused before anything started.
///
/// The text names the field, what was given (never an environment value) and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidArgument {
    /// The argument, as the caller spells it: `name`, `env["A=B"]`, `args[3]`.
    pub field: String,
    /// A short summary of what was given.
    pub value: String,
    /// What the argument has to be, and so what to do next.
    pub rule: String,
}

impl InvalidArgument {
    /// Refuses `field`, which was `value`, because of `rule`.
    pub fn new(field: impl Into<String>, value: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), rule: rule.into() }
    }
}

impl fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.rule)
    }
}

impl std::error::Error for InvalidArgument {}
