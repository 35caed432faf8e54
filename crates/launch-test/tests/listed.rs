//! The page on conformance lists the checks that there are.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use procession_launch_test::checks;

const HEAD: &str = "| check | promise | needs |\n|---|---|---|\n";

fn list() -> String {
    let mut text = HEAD.to_owned();
    for check in checks() {
        let needs: Vec<_> = check.needs.iter().map(|need| format!("{need:?}")).collect();
        writeln!(text, "| `{}` | {} | {} |", check.name, check.promise, needs.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_page_has_every_check_as_it_is() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let before = text.split(HEAD).next().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&page, format!("{before}{}", list())).unwrap();
        return;
    }
    let shown = &text[before.len()..];
    assert!(shown == list(), "docs/conformance.md lists other checks: run this test with UPDATE=1");
}

#[test]
fn names_are_sentences_of_their_own_and_each_check_says_what_to_look_at() {
    let mut names = HashSet::new();
    for check in checks() {
        let (group, sentence) = check.name.split_once('.').unwrap();
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(plain(group) && plain(sentence) && sentence.contains('-'), "{}", check.name);
        assert_eq!(check.group(), group);
        assert!(names.insert(check.name), "{} twice", check.name);
        assert!(check.promise.ends_with('.') && !check.hint.is_empty(), "{}", check.name);
    }
}
