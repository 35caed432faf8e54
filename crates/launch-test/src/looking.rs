use crate::deed::Deed;
use crate::fault::{Verdict, not_capable};
use crate::run::Run;
use crate::stage::Stage;

/// A proc of its own that looks at processes of others, until they are gone.
pub(crate) struct Look {
    run: Run,
    pids: Vec<u32>,
}

impl Look {
    /// Sees that all of `pids` are there. Where it sees none of what has just been heard of, nothing that it says later
    /// would mean anything.
    pub(crate) async fn at(stage: &Stage, pids: Vec<u32>) -> Verdict<Self> {
        let run = stage.start(&[Deed::Look(pids.clone())])?;
        for pid in &pids {
            let wanted = [format!("there {pid}"), format!("not there {pid}")];
            let find = || run.stdout().into_iter().find(|line| wanted.contains(line));
            let line = tokio::time::timeout(run.patience, run.heard.wait(find)).await.ok().flatten();
            match line {
                Some(line) if line == wanted[0] => {}
                Some(_) => {
                    return not_capable(
                        "one proc does not see the processes of another: what is left of a tree cannot be seen",
                    );
                }
                None => {
                    run.says("there ").await?;
                }
            }
        }
        Ok(Self { run, pids })
    }

    /// All of them end.
    pub(crate) async fn gone(&self) -> Verdict {
        for pid in &self.pids {
            let seen = self.run.says(&format!("gone {pid}")).await;
            if seen.is_err() && self.run.proc_.exit().is_some() {
                return not_capable("the proc that looks was ended too; see stop.a-neighbour-lives-on");
            }
            seen?;
        }
        Ok(())
    }

    /// Kills those that have not been seen to end, where the launcher under test should have.
    pub(crate) async fn sweep(&self, stage: &Stage) {
        let lines = self.run.stdout();
        let left = |pid: &&u32| !lines.contains(&format!("gone {pid}"));
        sweep(stage, self.pids.iter().copied().filter(|pid| left(&pid))).await;
    }
}

/// Kills what a check may have left, by procs of the launcher under test: it may be on another machine.
pub(crate) async fn sweep(stage: &Stage, pids: impl IntoIterator<Item = u32>) {
    let deeds: Vec<_> = pids.into_iter().map(|pid| Deed::Signal(pid, 9)).collect();
    if !deeds.is_empty() {
        let _best_effort = stage.runs(&deeds).await;
    }
}
