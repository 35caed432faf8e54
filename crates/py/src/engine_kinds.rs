//! The engines that this build has: each is one function, from its configuration in JSON to what launches there.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use procession_host::Engines;
use procession_launch::Engine;

/// Why there is none.
#[cfg_attr(
    not(feature = "engines"),
    expect(dead_code, reason = "this build has no engine that could say so")
)]
pub(crate) enum Refusal {
    Invalid(procession_model::InvalidArgument),
    Unavailable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// Reaches the engine of that kind, as `config` says.
#[cfg_attr(
    not(feature = "engines"),
    expect(clippy::unused_async, unused_variables, reason = "this build has no engine to wait for")
)]
pub(crate) async fn connect(kind: &str, config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    match kind {
        #[cfg(feature = "command")]
        "command" => command(config).await,
        #[cfg(feature = "docker")]
        "docker" => docker(config).await,
        #[cfg(feature = "kubernetes")]
        "kubernetes" => kubernetes(config).await,
        #[cfg(feature = "ssh")]
        "ssh" => ssh(config).await,
        #[cfg(feature = "systemd")]
        "systemd" => systemd(config).await,
        #[cfg(feature = "slurm")]
        "slurm" => slurm(config).await,
        #[cfg(feature = "vm")]
        "vm" => vm(config).await,
        _ => Err(Refusal::Unavailable(format!(
            "this build has no launcher of kind {kind:?}: build it with that feature, --features engines"
        ))),
    }
}

/// Those that an agent of this build can have.
pub(crate) struct Kinds;

#[async_trait]
impl Engines for Kinds {
    async fn connect(&self, kind: &str, config: &str) -> Result<Arc<dyn Engine>, String> {
        connect(kind, config).await.map_err(|refusal| match refusal {
            Refusal::Invalid(error) => error.to_string(),
            Refusal::Unavailable(why) => why,
        })
    }
}

#[cfg(feature = "engines")]
fn read<C: serde::de::DeserializeOwned>(config: &str) -> Result<C, Refusal> {
    serde_json::from_str(config).map_err(|error| Refusal::Unavailable(error.to_string()))
}

#[cfg(feature = "docker")]
async fn docker(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_docker::{Docker, DockerError};
    match Docker::connect(read(config)?).await {
        Ok(docker) => Ok(Arc::new(docker)),
        Err(DockerError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "kubernetes")]
async fn kubernetes(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_kube::{Kubernetes, KubernetesError};
    match Kubernetes::connect(read(config)?).await {
        Ok(kubernetes) => Ok(Arc::new(kubernetes)),
        Err(KubernetesError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "command")]
async fn command(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_command::{CommandError, connect};
    match connect(read(config)?).await {
        Ok(launcher) => Ok(launcher),
        Err(CommandError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "ssh")]
async fn ssh(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_ssh::{SshError, connect};
    match connect(read(config)?).await {
        Ok(launcher) => Ok(launcher),
        Err(SshError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "systemd")]
async fn systemd(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_systemd::{Systemd, SystemdError};
    match Systemd::connect(read(config)?).await {
        Ok(systemd) => Ok(Arc::new(systemd)),
        Err(SystemdError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "slurm")]
async fn slurm(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_slurm::{Slurm, SlurmError};
    match Slurm::connect(read(config)?).await {
        Ok(slurm) => Ok(Arc::new(slurm)),
        Err(SlurmError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}

#[cfg(feature = "vm")]
async fn vm(config: &str) -> Result<Arc<dyn Engine>, Refusal> {
    use procession_launch_vm::{Vm, VmError};
    match Vm::connect(read(config)?).await {
        Ok(vm) => Ok(Arc::new(vm)),
        Err(VmError::Invalid(error)) => Err(Refusal::Invalid(error)),
        Err(error) => Err(Refusal::Unavailable(error.to_string())),
    }
}
