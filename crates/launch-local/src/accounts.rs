use procession_model::{InvalidArgument, User};
use procession_sys::{self as sys, Account};

/// A user or a group, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its name.
    Name(String),
    /// By its number.
    Number(i64),
}

impl Named {
    fn number(&self) -> Result<Option<u32>, InvalidArgument> {
        let Self::Number(number) = *self else { return Ok(None) };
        match u32::try_from(number) {
            // To the kernel the largest one means "unchanged".
            Ok(number) if number != u32::MAX => Ok(Some(number)),
            _ => Err(InvalidArgument::new(
                "user",
                number.to_string(),
                "a number of a user or a group is 0 to 4294967294",
            )),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Name(name) => format!("{name:?}"),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The numbers of a user: with all its groups, or with `group` alone.
///
/// # Errors
/// There is no such user or group; a number without a user needs a group.
pub fn find_user(user: &Named, group: Option<&Named>) -> Result<User, InvalidArgument> {
    let account = match (user, user.number()?) {
        (_, Some(uid)) => sys::user_numbered(uid),
        (Named::Name(name), _) => sys::user_named(name),
        (Named::Number(_), None) => Ok(None),
    };
    let account = account.map_err(|error| unreadable(user, &error))?;
    let gid = group.map(find_group).transpose()?;
    match (account, gid, user.number()?) {
        (Some(Account { uid, .. }), Some(gid), _) | (None, Some(gid), Some(uid)) => {
            Ok(User { uid, gid, groups: vec![gid] })
        }
        (Some(Account { uid, gid, groups }), None, _) => Ok(User { uid, gid, groups }),
        (None, _, None) => Err(unknown("user", user, "getent passwd lists them")),
        (None, None, Some(_)) => Err(unknown("user", user, "give a group with it: (user, group)")),
    }
}

fn find_group(group: &Named) -> Result<u32, InvalidArgument> {
    if let Some(number) = group.number()? {
        return Ok(number);
    }
    let Named::Name(name) = group else { return Err(unknown("group", group, "give another")) };
    let found = sys::group_named(name).map_err(|error| unreadable(group, &error))?;
    found.ok_or_else(|| unknown("group", group, "getent group lists them"))
}

fn unknown(what: &str, given: &Named, next: &str) -> InvalidArgument {
    InvalidArgument::new("user", given.shown(), format!("this machine knows no such {what}; {next}"))
}

fn unreadable(given: &Named, error: &std::io::Error) -> InvalidArgument {
    InvalidArgument::new(
        "user",
        given.shown(),
        format!("users cannot be looked up here: {error}; give numbers"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(user: &Named, group: Option<&Named>) -> String {
        find_user(user, group).expect_err("it must be refused").to_string()
    }

    #[test]
    fn a_user_comes_with_its_groups_and_with_one_that_is_given_alone() {
        let root = Named::Name("root".to_owned());
        let found = find_user(&root, None).expect("root is everywhere");
        assert_eq!((found.uid, found.gid), (0, 0));
        assert_eq!(find_user(&Named::Number(0), None), Ok(found));
        let with = find_user(&root, Some(&Named::Number(7)));
        assert_eq!(with, Ok(User { uid: 0, gid: 7, groups: vec![7] }));
        let number = find_user(&Named::Number(4_000_000_000), Some(&root));
        assert_eq!(number, Ok(User { uid: 4_000_000_000, gid: 0, groups: vec![0] }));
    }

    #[test]
    fn who_is_nobody_is_refused_with_what_to_do() {
        for (text, part) in [
            (refused(&Named::Number(-1), None), "user = -1: a number"),
            (refused(&Named::Number(4_294_967_295), None), "4294967294"),
            (refused(&Named::Number(0), Some(&Named::Number(4_294_967_295))), "4294967294"),
            (refused(&Named::Number(4_000_000_000), None), "(user, group)"),
            (
                refused(&Named::Name("no-such-user".to_owned()), None),
                "\"no-such-user\": this machine knows no such user",
            ),
            (refused(&Named::Number(0), Some(&Named::Name("no-such".to_owned()))), "no such group"),
            (refused(&Named::Name("a\0b".to_owned()), None), "cannot be looked up"),
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
