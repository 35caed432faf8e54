use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs `f`; a panic in it becomes its text.
pub(crate) fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    // What `f` had in its hands is dropped or discarded with the value that it works for.
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| text(&*payload))
}

/// Runs `future`; a panic in it becomes its text. As cancel safe as `future`.
pub(crate) async fn caught_async<R>(future: impl Future<Output = R>) -> Result<R, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match caught(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with a payload that is no text"))
}
