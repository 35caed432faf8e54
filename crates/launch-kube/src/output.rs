use std::time::Duration;

use futures_util::AsyncReadExt;
use procession_launch::Output;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Failure};
use crate::entries::Entries;
use crate::watch::{Seen, uneven};

/// How long after its output broke off it is asked for again, first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
const PIECE: usize = 64 << 10;

/// What of a pod's output was read, and not yet passed on.
#[derive(Default)]
struct Passing {
    entries: Entries,
    new: Vec<u8>,
}

/// Passes on what a pod writes, until it has ended and all of it was read. Both streams come as one.
pub(crate) async fn follow(
    cluster: &Cluster,
    name: &str,
    mut seen: watch::Receiver<Seen>,
    mut output: Output,
) -> Result<(), String> {
    let (mut passing, mut pause) = (Passing::default(), AGAIN.0);
    loop {
        let (has_ended, began) = (seen.borrow_and_update().has_ended(), Instant::now());
        let passed = tokio::select! {
            passed = passing.pass_on(cluster, name, !has_ended, &mut output) => passed,
            // The kubelet looks for the end every few seconds only.
            () = until_ended(&mut seen), if !has_ended => continue,
        };
        match passed {
            Ok(Passed::NobodyReads) => return Ok(()),
            Ok(Passed::All) if has_ended => {
                passing.entries.finish(&mut passing.new);
                let _nobody_reads = passing.flush(&mut output).await;
                return Ok(());
            }
            // It was never made, or is gone.
            Err(Failure::Refused { why, .. }) if has_ended => return Err(why),
            Err(why) => tracing::debug!(name, why = why.words(), "the output of a pod has broken off"),
            Ok(Passed::All) => {}
        }
        // What went well for long begins anew; there is no time to lose once it has ended.
        if has_ended || began.elapsed() > AGAIN.1 {
            pause = AGAIN.0;
        }
        tokio::select! {
            () = sleep(uneven(pause)) => {}
            () = until_ended(&mut seen), if !has_ended => {}
        }
        pause = (pause * 2).min(AGAIN.1);
    }
}

enum Passed {
    All,
    NobodyReads,
}

impl Passing {
    /// Passes on what one answer has. It may be given up at any moment, and called again.
    async fn pass_on(
        &mut self,
        cluster: &Cluster,
        name: &str,
        follow: bool,
        output: &mut Output,
    ) -> Result<Passed, Failure> {
        if self.flush(output).await.is_err() {
            return Ok(Passed::NobodyReads);
        }
        let since = self.entries.again();
        let mut log = cluster.log(name, follow, since).await?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = log.read(&mut piece).await.map_err(|error| Failure::Away(error.to_string()))?;
            if read == 0 {
                return Ok(Passed::All);
            }
            self.entries.feed(&piece[..read], &mut self.new);
            if self.flush(output).await.is_err() {
                return Ok(Passed::NobodyReads);
            }
        }
    }

    async fn flush(&mut self, output: &mut Output) -> std::io::Result<()> {
        while !self.new.is_empty() {
            let written = output.stdout.write(&self.new).await?;
            self.new.drain(..written);
        }
        Ok(())
    }
}

async fn until_ended(seen: &mut watch::Receiver<Seen>) {
    if seen.wait_for(Seen::has_ended).await.is_err() {
        std::future::pending::<()>().await;
    }
}
