//! Every rule by which a launcher's report becomes an exit.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use common::{Session, eval, pickled};
use procession_model::{ProcExitKind, ProcExitResult, ReportedExit};
use procession_native::exit_decode::{exit_of_exception, exit_of_object, undecodable};
use procession_native::{MethodSpecifier, Payload, PythonMessage, PythonMessageKind, convert_py_exit_result};
use pyo3::prelude::*;

fn decode(expression: &str) -> Result<ProcExitResult, String> {
    Python::attach(|py| exit_of_object(&eval(py, expression)).map_err(|error| error.to_string()))
}

fn exited(code: i32) -> ProcExitKind {
    ProcExitKind::Exited { code }
}

fn signaled(signal: i32, core_dumped: bool) -> ProcExitKind {
    ProcExitKind::Signaled { signal, core_dumped }
}

fn failed(reason: &str) -> ProcExitKind {
    ProcExitKind::Failed { reason: reason.to_owned() }
}

fn result(expression: &str) -> PythonMessage {
    PythonMessage::new(PythonMessageKind::Result { rank: None }, pickled(expression))
}

fn exception(expression: &str) -> PythonMessage {
    PythonMessage::new(PythonMessageKind::Exception { rank: None }, pickled(expression))
}

#[test]
fn the_kind_follows_the_priority_failed_reason_signal_exit_code() {
    for (given, expected) in [
        ("Exit()", exited(0)),
        ("Exit(exit_code=255)", exited(255)),
        ("Exit(exit_code=None)", exited(-1)),
        ("Exit(exit_code=None, signal=9)", signaled(9, false)),
        ("Exit(exit_code=None, signal=11, core_dumped=True)", signaled(11, true)),
        ("Exit(exit_code=None, signal=signal.SIGTERM)", signaled(15, false)),
        ("Exit(exit_code=3, signal=9)", signaled(9, false)),
        ("Exit(exit_code=3, signal=9, failed_reason='no disk')", failed("no disk")),
        ("Exit(failed_reason='')", failed("")),
        ("Exit(failed_reason='half \\ud800 a pair')", failed("half \u{fffd}\u{fffd}\u{fffd} a pair")),
        ("Plain(exit_code=7, signal=None, core_dumped=False, failed_reason=None, stderr_tail=[])", exited(7)),
    ] {
        assert_eq!(decode(given).map(|exit| exit.kind), Ok(expected), "{given}");
    }
}

#[test]
fn the_raw_facts_are_kept_beside_the_kind() {
    let exit = decode("Exit(exit_code=3, signal=9, core_dumped=True, failed_reason='f')").unwrap();
    let raw = ReportedExit {
        exit_code: Some(3),
        signal: Some(9),
        core_dumped: true,
        failed_reason: Some("f".to_owned()),
    };
    assert_eq!(exit.reported, Some(raw));
    assert_eq!(decode("Exit(exit_code=None)").unwrap().reported, Some(ReportedExit::default()));
}

#[test]
fn what_is_no_exit_is_refused_with_the_attributes_name() {
    for (given, needles) in [
        ("without('exit_code')", ["exit_code", "missing"]),
        ("without('signal')", ["signal", "missing"]),
        ("without('core_dumped')", ["core_dumped", "missing"]),
        ("without('failed_reason')", ["failed_reason", "missing"]),
        ("without('stderr_tail')", ["stderr_tail", "missing"]),
        ("None", ["exit_code", "NoneType"]),
        ("0", ["exit_code", "int"]),
        ("vars(Exit())", ["exit_code", "dict"]),
        ("(0, None, False, None, [])", ["exit_code", "tuple"]),
        ("Moody()", ["signal", "OSError: not today"]),
        ("Exit(exit_code='0')", ["exit_code", "str"]),
        ("Exit(exit_code=0.0)", ["exit_code", "float"]),
        ("Exit(exit_code=True)", ["exit_code", "bool"]),
        ("Exit(exit_code=False)", ["exit_code", "bool"]),
        ("Exit(exit_code=[0])", ["exit_code", "list"]),
        ("Exit(exit_code=b'0')", ["exit_code", "bytes"]),
        ("Exit(exit_code=-9)", ["exit_code", "use signal="]),
        ("Exit(exit_code=256)", ["exit_code", "use signal="]),
        ("Exit(exit_code=2**40)", ["exit_code", "use signal="]),
        ("Exit(exit_code=2**80)", ["exit_code", "use signal="]),
        ("Exit(exit_code=-2**80)", ["exit_code", "use signal="]),
        ("Exit(signal='SIGKILL')", ["signal", "str"]),
        ("Exit(signal=True)", ["signal", "bool"]),
        ("Exit(signal=9.0)", ["signal", "float"]),
        ("Exit(signal=0)", ["signal", "1 to 64"]),
        ("Exit(signal=-9)", ["signal", "1 to 64"]),
        ("Exit(signal=65)", ["signal", "1 to 64"]),
        ("Exit(signal=2**80)", ["signal", "1 to 64"]),
        ("Exit(core_dumped=None)", ["core_dumped", "NoneType"]),
        ("Exit(core_dumped=0)", ["core_dumped", "int"]),
        ("Exit(core_dumped='no')", ["core_dumped", "str"]),
        ("Exit(failed_reason=1)", ["failed_reason", "int"]),
        ("Exit(failed_reason=b'x')", ["failed_reason", "bytes"]),
        ("Exit(failed_reason=ValueError('x'))", ["failed_reason", "ValueError"]),
        ("Exit(stderr_tail=None)", ["stderr_tail", "NoneType"]),
        ("Exit(stderr_tail='boom')", ["stderr_tail", "str"]),
        ("Exit(stderr_tail=('boom',))", ["stderr_tail", "tuple"]),
        ("Exit(stderr_tail=['a', b'b'])", ["stderr_tail[1]", "bytes"]),
        ("Exit(stderr_tail=['a', None])", ["stderr_tail[1]", "NoneType"]),
        // A value that loses by priority is still checked.
        ("Exit(exit_code=-1, failed_reason='f')", ["exit_code", "use signal="]),
    ] {
        let why = decode(given).expect_err(given);
        assert!(needles.iter().all(|needle| why.contains(needle)), "{given}: {why}");
    }
}

#[test]
fn an_int_like_object_is_no_int() {
    let why = decode("Exit(exit_code=type('int64', (), {'__index__': lambda self: 0})())").unwrap_err();
    assert!(why.contains("exit_code must be an int or None, not int64"), "{why}");
}

#[test]
fn an_undecodable_character_in_the_tail_never_costs_the_exit_code() {
    let exit =
        decode("Exit(exit_code=3, stderr_tail=['ok', 'l\\udcff', 'n\\0l\\x1b[31m', 'a\\nb'])").unwrap();
    assert_eq!(exit.kind, exited(3));
    let tail = exit.stderr_tail.unwrap();
    assert_eq!(tail[0], "ok");
    assert!(tail[1].starts_with('l') && tail[1].contains('\u{fffd}'), "{:?}", tail[1]);
    assert_eq!(tail[2..], ["n\0l\u{1b}[31m", "a\nb"]);
}

#[test]
fn the_tail_of_a_report_is_there_even_when_it_is_empty() {
    assert_eq!(decode("Exit()").unwrap().stderr_tail, Some(Vec::new()));
}

#[test]
fn a_tail_of_any_size_is_cut_to_bounds_and_keeps_its_end() {
    let exit = decode("Exit(exit_code=4, stderr_tail=[str(n) for n in range(1_000_000)])").unwrap();
    let tail = exit.stderr_tail.unwrap();
    assert_eq!((exit.kind, tail.len()), (exited(4), 10_000));
    assert_eq!((tail[0].as_str(), tail[9_999].as_str()), ("990000", "999999"));

    let tail =
        decode("Exit(stderr_tail=['x' * (100 << 20), '\\u20ac' * 4000])").unwrap().stderr_tail.unwrap();
    assert!(tail.iter().all(|line| line.len() < 4096 + 16 && line.ends_with("…cut]")), "{}", tail.len());
    assert!(tail[1].starts_with("€€"));

    let tail = decode("Exit(stderr_tail=['y' * 4000] * 9_999 + ['last'])").unwrap().stderr_tail.unwrap();
    assert!(tail.iter().map(String::len).sum::<usize>() <= 1 << 20);
    assert_eq!(tail.last().unwrap(), "last");
}

#[test]
fn a_reason_of_any_size_is_cut() {
    let ProcExitKind::Failed { reason } = decode("Exit(failed_reason='z' * (64 << 20))").unwrap().kind else {
        panic!("a reason makes it a failure")
    };
    assert!(reason.len() < (64 << 10) + 16 && reason.ends_with("…cut]"), "{}", reason.len());
}

#[test]
fn an_exception_is_told_by_its_text_its_repr_or_a_fixed_text() {
    for (given, text) in [
        ("ValueError('no such image')", "spawner raised: no such image"),
        ("KeyError('k')", "spawner raised: 'k'"),
        ("NoStr()", "spawner raised: NoStr()"),
        ("NoText()", "spawner raised: <error formatting exception>"),
        ("KeyboardInterrupt()", "spawner raised: "),
    ] {
        let exit = Python::attach(|py| exit_of_exception(&eval(py, given)));
        assert_eq!(exit, ProcExitResult::failed(text), "{given}");
        assert_eq!(exit.stderr_tail, None);
    }
    for (given, text) in
        [("ValueError('gone')", "spawner raised: gone"), ("NoStr()", "spawner raised: NoStr()")]
    {
        assert_eq!(convert_py_exit_result(exception(given)), ProcExitResult::failed(text), "{given}");
    }
}

#[test]
fn the_text_beside_a_pickled_exception_spares_the_unpickling() {
    let mut message =
        PythonMessage::new(PythonMessageKind::Exception { rank: Some(1) }, b"no pickle at all".to_vec());
    message.text = Some("out of memory".to_owned());
    assert_eq!(convert_py_exit_result(message), ProcExitResult::failed("spawner raised: out of memory"));
}

#[test]
fn a_pickled_report_is_decoded_by_the_same_rules() {
    let exit = convert_py_exit_result(result("Exit(exit_code=None, signal=9, stderr_tail=['boom'])"));
    assert_eq!((exit.kind, exit.stderr_tail), (signaled(9, false), Some(vec!["boom".to_owned()])));

    for (given, needle) in [
        ("Exit(exit_code=True)", "failed to decode exit result: exit_code must be an int or None, not bool"),
        ("without('stderr_tail')", "failed to decode exit result: attribute stderr_tail is missing"),
    ] {
        let exit = convert_py_exit_result(result(given));
        let ProcExitKind::Failed { reason } = &exit.kind else { panic!("{given}: {exit:?}") };
        assert!(reason.starts_with(needle), "{given}: {reason}");
        assert_eq!(exit.stderr_tail, None, "{given}");
    }
}

#[test]
fn a_pickle_that_cannot_be_read_is_undecodable() {
    for bytes in [b"".to_vec(), b"rubbish".to_vec(), pickled("Exit()")[..20].to_vec()] {
        let exit =
            convert_py_exit_result(PythonMessage::new(PythonMessageKind::Result { rank: None }, bytes));
        let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?}") };
        assert!(reason.starts_with("failed to decode exit result: it cannot be unpickled: "), "{reason}");
    }
}

#[test]
fn buffers_that_came_with_the_pickle_are_used() {
    let parts: Vec<Vec<u8>> = Python::attach(|py| {
        let pair = eval(
            py,
            "(lambda buffers: [pickle.dumps(Plain(exit_code=5, signal=None, core_dumped=False, failed_reason=None, \
             stderr_tail=[], extra=pickle.PickleBuffer(b'big')), 5, buffer_callback=buffers.append)] \
             + [bytes(b) for b in buffers])([])"
                .replace("Plain", "SimpleNamespace")
                .as_str(),
        );
        pair.extract().unwrap()
    });
    assert_eq!(parts.len(), 2);
    let payload = Payload::from_fragments(parts.into_iter().map(Into::into).collect());
    let exit = convert_py_exit_result(PythonMessage::new(PythonMessageKind::Result { rank: None }, payload));
    assert_eq!(exit.kind, exited(5));
}

#[test]
fn plain_data_is_taken_as_it_is() {
    let exit = decode("Exit(exit_code=9, stderr_tail=['l'])").unwrap();
    assert_eq!(convert_py_exit_result(PythonMessage::exit(exit.clone())), exit);
}

#[tokio::test]
async fn what_is_no_answer_is_a_protocol_error() {
    let call = PythonMessageKind::CallMethod {
        name: MethodSpecifier::ReturnsResponse { name: "launch".to_owned() },
        response_port: None,
    };
    let exit = convert_py_exit_result(PythonMessage::new(call, Vec::new()));
    let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?}") };
    assert!(reason.starts_with("failed to decode exit result: protocol error: "), "{reason}");

    let node = Session::default().join("host");
    let mut message = result("Exit()");
    message.ports.push(node.mailbox().open_once_sink(|_| {}));
    let exit = convert_py_exit_result(message);
    let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?}") };
    assert!(reason.contains("protocol error: it still needs out-of-band state"), "{reason}");
}

#[test]
fn what_cannot_be_decoded_in_the_launchers_process_is_reported_as_such() {
    let why = Python::attach(|py| exit_of_object(&eval(py, "Exit(exit_code=-15)"))).unwrap_err();
    let ProcExitKind::Failed { reason } = undecodable(&why).kind else { panic!("{why}") };
    assert_eq!(
        reason,
        "failed to decode exit result: exit_code must be 0 to 255, not -15; for a proc that a signal ended use signal="
    );
}
