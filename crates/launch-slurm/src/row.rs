use std::collections::HashMap;

use crate::tools::Tools;

/// States in which a job stays.
const FINAL: [&str; 12] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
];
/// States in which it waits for its program to be started.
const WAITS: [&str; 6] =
    ["CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"];

/// What Slurm says of one job, or of one element of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) state: String,
    /// Why it waits, or has ended.
    pub(crate) reason: String,
    /// As `wait` gives it to the parent of the program.
    pub(crate) status: i32,
    /// How often it was put back into the queue.
    pub(crate) restarts: u32,
    pub(crate) nodes: String,
    pub(crate) comment: String,
}

impl Row {
    pub(crate) fn is_final(&self) -> bool {
        FINAL.contains(&self.state.as_str())
    }

    pub(crate) fn waits(&self) -> bool {
        WAITS.contains(&self.state.as_str())
    }

    /// For people: `pending: Resources`.
    pub(crate) fn shown(&self) -> String {
        let state = self.state.to_ascii_lowercase();
        match self.reason.as_str() {
            "None" | "" => state,
            reason => format!("{state}: {reason}"),
        }
    }

    fn read(line: &str) -> Option<(String, Self)> {
        let mut columns = line.split('|').map(str::trim);
        let (job, state, reason) = (columns.next()?, columns.next()?, columns.next()?);
        let (status, restarts, nodes) = (columns.next()?, columns.next()?, columns.next()?);
        // It comes last, and may hold anything.
        let comment = line.splitn(7, '|').nth(6).unwrap_or_default();
        let row = Self {
            state: state.to_owned(),
            reason: reason.to_owned(),
            status: status.parse().ok()?,
            restarts: restarts.parse().ok()?,
            nodes: nodes.to_owned(),
            comment: comment.trim_end().trim_end_matches('|').trim().to_owned(),
        };
        Some((job.to_owned(), row))
    }
}

/// All that the controller knows of the jobs of this user, by their handles, in one question.
pub(crate) async fn rows(tools: &Tools, with_comments: bool) -> Result<HashMap<String, Row>, String> {
    let mut format =
        "JobArrayID:.40|,State:.16|,Reason:.60|,exit_code:.12|,RestartCnt:.8|,NodeList:.80|".to_owned();
    if with_comments {
        format.push_str(",Comment:1024|");
    }
    let uid = {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid()
    };
    let arguments = [
        "--noheader".to_owned(),
        "--array".to_owned(),
        "--states=all".to_owned(),
        format!("--user={uid}"),
        format!("--Format={format}"),
    ];
    let said = tools.run("squeue", &arguments, None).await?;
    Ok(said.lines().filter_map(Row::read).collect())
}

/// How a job has ended that the controller has forgotten, as the accounting knows it.
pub(crate) async fn accounted(tools: &Tools, handle: &str) -> Result<Option<Row>, String> {
    let arguments = [
        "--noheader".to_owned(),
        "--parsable2".to_owned(),
        "--allocations".to_owned(),
        format!("--jobs={handle}"),
        "--format=State,ExitCode,NodeList".to_owned(),
    ];
    let said = tools.run("sacct", &arguments, None).await?;
    Ok(said.lines().last().and_then(read_accounted))
}

fn read_accounted(line: &str) -> Option<Row> {
    let mut columns = line.split('|');
    let (state, exit, nodes) = (columns.next()?, columns.next()?, columns.next()?);
    let (code, signal) = exit.split_once(':')?;
    let (code, signal): (i32, i32) = (code.parse().ok()?, signal.parse().ok()?);
    Some(Row {
        // `CANCELLED by 1000`
        state: state.split_whitespace().next()?.to_owned(),
        status: code << 8 | signal,
        nodes: if nodes == "None assigned" { String::new() } else { nodes.to_owned() },
        ..Row::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_queue_is_read() {
        let line = "    8_2|      FAILED|   NonZeroExitCode|         512|       0|        n1|a | b procession.dir=/x    |";
        let (job, row) = Row::read(line).expect("a row");
        assert_eq!((job.as_str(), row.state.as_str(), row.status), ("8_2", "FAILED", 512));
        assert_eq!((row.nodes.as_str(), row.comment.as_str()), ("n1", "a | b procession.dir=/x"));
        assert!(row.is_final() && !row.waits());
        let (_, row) = Row::read(" 9| PENDING| Resources| 0| 1| |").expect("a row");
        assert_eq!((row.restarts, row.shown().as_str()), (1, "pending: Resources"));
        assert!(row.waits() && !row.is_final());
        assert_eq!(Row::read("slurm_load_jobs: something else"), None);
    }

    #[test]
    fn a_line_of_the_accounting_is_read() {
        let row = read_accounted("CANCELLED by 1000|0:15|n1").expect("a row");
        assert_eq!((row.state.as_str(), row.status, row.nodes.as_str()), ("CANCELLED", 15, "n1"));
        let row = read_accounted("FAILED|7:0|None assigned").expect("a row");
        assert_eq!((row.status, row.nodes.as_str()), (7 << 8, ""));
        assert_eq!(read_accounted(""), None);
    }
}
