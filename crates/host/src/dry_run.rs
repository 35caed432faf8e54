//! What a launcher would ask for, without a launch.

use procession_launch::{ProcLauncher, ProcLauncherError};
use procession_model::{ChannelAddr, DialBack, InvalidArgument, LaunchOptions, ProcId};
use procession_supervise::Readiness;
use procession_sys::MARKER;

use crate::flight::FLIGHT_ENV;
use crate::host::Host;
use crate::spec::{OwnerLoss, SpawnSpec};

/// The value of what each launch has another of.
const OF_A_LAUNCH: &str = "...";

impl Host {
    /// What `launcher` would ask of its substrate for that spec, in the form that this has there. Nothing is started or asked for.
    ///
    /// The random part of ids is another in each launch. Values of the environment are hidden, and so is how the proc reaches
    /// back, which is a secret.
    ///
    /// # Errors
    /// The spec would be refused.
    pub async fn dry_run(
        &self,
        spec: &SpawnSpec,
        launcher: &dyn ProcLauncher,
    ) -> Result<Result<String, ProcLauncherError>, InvalidArgument> {
        spec.check()?;
        launcher.check(&spec.command.confinement)?;
        let proc_id = ProcId::fresh(&spec.name, self.id())?;
        Ok(launcher.dry_run(&proc_id, &self.as_launched(spec, launcher)).await)
    }

    /// The options of a launch, with nothing made for it: no address that it dials, no socket and no port.
    fn as_launched(&self, spec: &SpawnSpec, launcher: &dyn ProcLauncher) -> LaunchOptions {
        let is_local = launcher.capabilities().dial_back == DialBack::Local;
        let is_told = !launcher.knows_status_by_parenthood();
        let mut command = spec.command.clone();
        let mut add = |name: &str| drop(command.env.insert(name.to_owned(), OF_A_LAUNCH.to_owned()));
        if is_local {
            match spec.policy.readiness {
                Readiness::CallBack => add(FLIGHT_ENV),
                Readiness::None => add("NOTIFY_SOCKET"),
            }
        }
        if is_told {
            add(MARKER);
        }
        LaunchOptions {
            bootstrap_payload: OF_A_LAUNCH.to_owned(),
            process_name: format!("{} @ {}", spec.name, self.core().machine),
            command,
            want_stdio: spec.want_stdio || spec.log.is_some(),
            tail_lines: spec.tail_lines,
            log_channel: is_told.then(|| ChannelAddr(OF_A_LAUNCH.to_owned())),
            detach: spec.on_owner_loss == OwnerLoss::Detach,
            lease: spec.lease,
            output: None,
        }
    }
}
