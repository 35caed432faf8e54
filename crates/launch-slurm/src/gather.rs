use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// How long the first of a batch waits for others.
const WINDOW: Duration = Duration::from_millis(20);

/// Gathers what is asked for at nearly the same moment, and what comes while the last batch is worked on, so that many
/// requests cost one command.
#[derive(Debug)]
pub(crate) struct Gather<R, A> {
    asked: mpsc::UnboundedSender<(R, oneshot::Sender<A>)>,
}

impl<R: Send + 'static, A: Send + 'static> Gather<R, A> {
    /// `work` gives an answer for each of its requests, in their order. It runs where `runtime` does.
    pub(crate) fn new<W, F>(runtime: &Handle, work: W) -> Self
    where
        W: Fn(Vec<R>) -> F + Send + 'static,
        F: Future<Output = Vec<A>> + Send,
    {
        let (asked, mut requests) = mpsc::unbounded_channel::<(R, oneshot::Sender<A>)>();
        runtime.spawn(async move {
            while let Some(first) = requests.recv().await {
                sleep(WINDOW).await;
                let mut batch = vec![first];
                while let Ok(next) = requests.try_recv() {
                    batch.push(next);
                }
                let (batch, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                for (answer, done) in answers.into_iter().zip(work(batch).await) {
                    let _nobody_waits_any_more = answer.send(done);
                }
            }
        });
        Self { asked }
    }

    /// None when the runtime that it was made in is gone.
    pub(crate) async fn ask(&self, request: R) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.asked.send((request, answer)).ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_together_is_one_batch_and_each_gets_its_own_answer() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let gather = Arc::new(Gather::new(&Handle::current(), move |batch: Vec<u32>| {
            seen.lock().expect("a list").push(batch.len());
            async move { batch.into_iter().map(|number| number * 2).collect() }
        }));
        let asked: Vec<_> = (0..50)
            .map(|number| {
                let gather = Arc::clone(&gather);
                tokio::spawn(async move { gather.ask(number).await })
            })
            .collect();
        for (number, answer) in (0..).zip(asked) {
            assert_eq!(answer.await.expect("no panic"), Some(number * 2));
        }
        assert_eq!(*sizes.lock().expect("a list"), [50]);
        assert_eq!(gather.ask(4).await, Some(8));
        assert_eq!(*sizes.lock().expect("a list"), [50, 1]);
    }
}
