//! What a launcher's process sends as the exit of a proc.

use bytes::Bytes;
use procession_actor::{Claims, Message, Moves};
use procession_native::{PythonMessage, PythonMessageKind, convert_py_exit_result};

/// Data is taken as it is, and goes in and out again; nothing here wakes an interpreter.
pub(crate) fn run(data: &[u8]) {
    let head = Bytes::copy_from_slice(data);
    let Ok(message) = PythonMessage::decode(vec![head], &mut Claims::default()) else { return };
    let again = message.encode(&mut Moves::new()).expect("it has no ports");
    PythonMessage::decode(again, &mut Claims::default()).expect("what was decoded can be encoded");
    if let PythonMessageKind::Exit(result) = &message.kind {
        let result = result.clone();
        assert_eq!(*result, convert_py_exit_result(message));
    }
}
