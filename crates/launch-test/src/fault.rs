/// Why a check did not pass.
#[derive(Debug)]
pub(crate) enum Fault {
    /// What was expected, and what was seen.
    Failed(String),
    /// What is missing for it to be tried.
    NotCapable(String),
    /// As failed, by an end that did not come or that nobody could tell: of a launcher that tells no end the check says
    /// nothing.
    NoEnd(String),
    /// As failed, by another code than the program's: of a launcher that tells codes wrongly each time the check says
    /// nothing.
    OtherCode(String),
}

/// What a check comes to.
pub(crate) type Verdict<T = ()> = Result<T, Fault>;

/// Fails: `expected` did not happen, `seen` did.
pub(crate) fn failed<T>(expected: &str, seen: impl std::fmt::Display) -> Verdict<T> {
    Err(Fault::Failed(format!("expected {expected}; saw {seen}")))
}

/// Fails for want of an end.
pub(crate) fn no_end<T>(expected: &str, seen: impl std::fmt::Display) -> Verdict<T> {
    Err(Fault::NoEnd(format!("expected {expected}; saw {seen}")))
}

/// It cannot be tried here.
pub(crate) fn not_capable<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Fault::NotCapable(why.into()))
}

/// Fails unless `holds`.
pub(crate) fn demand(holds: bool, expected: &str, seen: impl std::fmt::Display) -> Verdict {
    if holds { Ok(()) } else { failed(expected, seen) }
}
