//! A pickle that a Python actor sends to Rust.

use procession_native::{PythonMessage, PythonMessageKind, Value};

/// Plain data goes out and in again; all else is refused, without an interpreter.
pub(crate) fn run(data: &[u8]) {
    let message = PythonMessage::new(PythonMessageKind::Result { rank: None }, data.to_vec());
    let Ok(value) = message.into_value() else { return };
    let Some(sent) = pickled(&value) else { return };
    let again = PythonMessage::new(PythonMessageKind::Result { rank: None }, sent.clone()).into_value();
    assert_eq!(pickled(&again.expect("what was read can be sent")), Some(sent));
}

/// None where it would be more than a fuzzer has time for.
fn pickled(value: &Value) -> Option<Vec<u8>> {
    let sent = PythonMessage::result(value.clone()).message.to_bytes();
    (sent.len() < 1 << 20).then(|| sent.to_vec())
}
