use std::collections::HashMap;

use crate::tools::Tools;

/// What of a cluster decides what jobs can be held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// For people.
    pub(crate) version: String,
    /// Whether what a job has started cannot leave it: a kill reaches all of it.
    pub(crate) holds_trees: bool,
    /// Whether jobs get no more memory than they ask for, and their ends say so.
    pub(crate) holds_memory: bool,
    /// Whether the ends of jobs are kept when the controller has forgotten them.
    pub(crate) has_accounting: bool,
    /// How many jobs go into one array.
    pub(crate) most_in_an_array: usize,
}

impl Cluster {
    pub(crate) async fn ask(tools: &Tools) -> Result<Self, String> {
        let said = tools.run("scontrol", &["show".to_owned(), "config".to_owned()], None).await?;
        Ok(Self::read(&said))
    }

    fn read(said: &str) -> Self {
        let pairs: HashMap<&str, &str> = said
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let has = |name: &str, value: &str| pairs.get(name).is_some_and(|found| found.contains(value));
        let holds_trees = has("ProctrackType", "proctrack/cgroup");
        let constrained = has("ConstrainRAMSpace", "yes") && has("ConstrainSwapSpace", "yes");
        // Where memory is no resource that is given out, a job has all that its node has, whatever it asks for.
        let given_out = has("SelectTypeParameters", "MEMORY");
        Self {
            version: format!(
                "Slurm {}, cluster {}",
                pairs.get("SLURM_VERSION").unwrap_or(&"of unknown version"),
                pairs.get("ClusterName").unwrap_or(&"without a name"),
            ),
            holds_trees,
            holds_memory: has("TaskPlugin", "task/cgroup") && constrained && given_out,
            has_accounting: has("AccountingStorageType", "slurmdbd"),
            // The highest number of an element is one less.
            most_in_an_array: pairs.get("MaxArraySize").and_then(|size| size.parse().ok()).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_holds_jobs_to_is_read_from_its_configuration() {
        let plain = "ProctrackType = proctrack/linuxproc\nTaskPlugin = task/none\nMaxArraySize = 1001\n\
                     AccountingStorageType = accounting_storage/none\nSLURM_VERSION = 22.05.8\nClusterName = c";
        let found = Cluster::read(plain);
        assert_eq!((found.holds_trees, found.holds_memory, found.has_accounting), (false, false, false));
        assert_eq!((found.version.as_str(), found.most_in_an_array), ("Slurm 22.05.8, cluster c", 1001));
        let full = "ProctrackType = proctrack/cgroup\nTaskPlugin = task/affinity,task/cgroup\n\
                    SelectTypeParameters = CR_CORE_MEMORY\nConstrainRAMSpace = yes\nConstrainSwapSpace = yes\n\
                    AccountingStorageType = accounting_storage/slurmdbd";
        let found = Cluster::read(full);
        assert_eq!((found.holds_trees, found.holds_memory, found.has_accounting), (true, true, true));
        let found = Cluster::read(&full.replace("CR_CORE_MEMORY", "CR_CORE"));
        assert_eq!((found.holds_trees, found.holds_memory), (true, false));
    }
}
