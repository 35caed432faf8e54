//! What the inits of engines say when they cannot execute their program.

/// Why Podman's could not, from all that a container has said which has ended with code 1, as it does then; none where that is of
/// a program. Docker's gives the codes of a shell, 126 and 127.
pub(crate) fn refusal(said: &str) -> Option<&str> {
    let (pid, why) = said.strip_prefix("ERROR (catatonit:")?.split_once("): failed to exec pid1: ")?;
    let why = why.strip_suffix('\n')?;
    (pid.bytes().all(|byte| byte.is_ascii_digit()) && !why.contains('\n')).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_init_says_is_a_refusal() {
        let said = "ERROR (catatonit:6): failed to exec pid1: No such file or directory\n";
        assert_eq!(refusal(said), Some("No such file or directory"));
        assert_eq!(refusal(&format!("before\n{said}")), None);
        assert_eq!(refusal(&format!("{said}after\n")), None);
        for other in
            ["", "ERROR (catatonit:6): something else", "failed to exec pid1: No such file or directory"]
        {
            assert_eq!(refusal(other), None, "{other:?}");
        }
    }
}
