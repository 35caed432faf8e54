use tokio::sync::watch;

/// How far the request for a launch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked the launcher yet.
    Held,
    /// A stop came first: the launcher will never be asked.
    Cancelled,
    /// The launcher is being asked.
    Going,
    /// The launcher knows of the launch.
    Out,
}

/// Orders the request for a launch and the requests to end it: a stop that is first cancels the
/// launch, one that is second reaches the launcher after the launch.
pub(crate) struct Request(watch::Sender<Stage>);

impl Request {
    pub(crate) fn new() -> Self {
        Self(watch::channel(Stage::Held).0)
    }

    /// Whether the launcher may be asked: false once the launch was cancelled.
    pub(crate) fn may_go_out(&self) -> bool {
        self.0.send_if_modified(|stage| replace(stage, Stage::Held, Stage::Going))
    }

    pub(crate) fn is_out(&self) {
        self.0.send_if_modified(|stage| replace(stage, Stage::Going, Stage::Out));
    }

    /// The launch has had its answer, whatever became of the request.
    pub(crate) fn is_over(&self) {
        self.cancel();
        self.is_out();
    }

    /// A stop was asked for.
    pub(crate) fn cancel(&self) {
        self.0.send_if_modified(|stage| replace(stage, Stage::Held, Stage::Cancelled));
    }

    /// Waits until a stop was asked for before the launcher was. Cancel safe.
    pub(crate) async fn cancelled(&self) {
        let mut stage = self.0.subscribe();
        if stage.wait_for(|stage| *stage == Stage::Cancelled).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the launcher knows of the launch, or never will, which is false. Cancel safe.
    pub(crate) async fn settled(&self) -> bool {
        let mut stage = self.0.subscribe();
        let settled = stage.wait_for(|stage| matches!(stage, Stage::Cancelled | Stage::Out)).await;
        settled.is_ok_and(|stage| *stage == Stage::Out)
    }
}

fn replace(stage: &mut Stage, from: Stage, to: Stage) -> bool {
    let applies = *stage == from;
    if applies {
        *stage = to;
    }
    applies
}
