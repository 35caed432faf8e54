use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, DeviceRequest, HostConfig, ResourcesUlimits};
use procession_launch::{Labels, ProcLauncherError};
use procession_model::{LaunchOptions, ProcId};

use crate::DockerConfig;

/// A signal that reaches the init of a container goes to all that its program has started.
const INIT_FORWARDS: (&str, &str) = ("TINI_KILL_PROCESS_GROUP", "1");
/// The engine's unit for shares of processors, for a thousandth of one.
const NANOS_PER_MILLI: u64 = 1_000_000;

/// The request that makes the container of a proc, as the engine gets it.
pub(crate) fn request(
    config: &DockerConfig,
    proc_id: &ProcId,
    options: &LaunchOptions,
) -> Result<ContainerCreateBody, ProcLauncherError> {
    let command = &options.command;
    let program = match &command.preload {
        // A proc of our Python runtime: the image has an interpreter of its own.
        Some(_) => config.python.clone(),
        None => text("program", command.program.to_str(), &command.program)?,
    };
    let mut env: Vec<String> =
        options.variables().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if command.clear_env {
        let text = "clear_env: containers have the environment of their image; remove its variables with env={NAME: None}";
        return Err(ProcLauncherError::Other(text.to_owned()));
    }
    // To the engine one without a value is removed.
    env.extend(command.env_remove.iter().cloned());
    if config.init {
        env.push(format!("{}={}", INIT_FORWARDS.0, INIT_FORWARDS.1));
    }
    env.sort();
    let working_dir = command.cwd.as_ref().map(|cwd| text("cwd", cwd.to_str(), cwd)).transpose()?;
    let mut labels: HashMap<String, String> = config.labels.clone().into_iter().collect();
    let own = Labels::of(proc_id, options);
    labels.extend(own.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let body = ContainerCreateBody {
        image: Some(config.image.clone()),
        // The image's own entry point would be another program.
        entrypoint: Some(vec![program]),
        cmd: Some(command.args.clone()),
        env: Some(env),
        working_dir,
        user: command.confinement.user.as_ref().map(|user| format!("{}:{}", user.uid, user.gid)),
        labels: Some(labels),
        host_config: Some(host_config(config, options)?),
        ..ContainerCreateBody::default()
    };
    patched(body, &config.patch)
}

fn host_config(config: &DockerConfig, options: &LaunchOptions) -> Result<HostConfig, ProcLauncherError> {
    let confinement = &options.command.confinement;
    let resources = &confinement.resources;
    let memory = resources.memory.map(|bytes| number("resources[\"memory\"]", bytes)).transpose()?;
    let ulimits = confinement.rlimits.iter().map(|(name, limits)| {
        let limit = |value: Option<u64>| value.map_or(Ok(-1), |value| number("rlimits", value));
        Ok(ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(limit(limits.soft)?),
            hard: Some(limit(limits.hard)?),
        })
    });
    let gpus = &config.gpus;
    let all_gpus = gpus.iter().any(|gpu| gpu == "all");
    let devices = (!gpus.is_empty()).then(|| DeviceRequest {
        count: all_gpus.then_some(-1),
        device_ids: (!all_gpus).then(|| gpus.clone()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    });
    Ok(HostConfig {
        memory,
        // What is over the limit is killed, and not swapped out.
        memory_swap: memory,
        nano_cpus: resources
            .cpu_millis
            .map(|millis| number("resources[\"cpu\"]", millis.saturating_mul(NANOS_PER_MILLI)))
            .transpose()?,
        pids_limit: resources.pids.map(|pids| number("resources[\"pids\"]", pids)).transpose()?,
        ulimits: Some(ulimits.collect::<Result<_, ProcLauncherError>>()?),
        network_mode: Some(config.network.clone()),
        binds: Some(config.volumes.clone()),
        tmpfs: Some(config.tmpfs.clone().into_iter().collect()),
        shm_size: config.shm_size.map(|bytes| number("shm_size", bytes)).transpose()?,
        device_requests: devices.map(|devices| vec![devices]),
        extra_hosts: Some(config.extra_hosts.clone()),
        runtime: config.runtime.clone(),
        init: Some(config.init),
        // How it ended is asked after its end.
        auto_remove: Some(false),
        ..HostConfig::default()
    })
}

fn number(field: &str, value: u64) -> Result<i64, ProcLauncherError> {
    let too_much = |_| ProcLauncherError::Other(format!("{field} = {value}: more than the engine takes"));
    value.try_into().map_err(too_much)
}

fn text(field: &str, text: Option<&str>, given: &std::path::Path) -> Result<String, ProcLauncherError> {
    text.map(str::to_owned).ok_or_else(|| {
        ProcLauncherError::Other(format!(
            "{field} {given:?} is not valid UTF-8, which the engine's API is; rename it"
        ))
    })
}

fn patched(
    body: ContainerCreateBody,
    patch: &serde_json::Value,
) -> Result<ContainerCreateBody, ProcLauncherError> {
    if patch.is_null() {
        return Ok(body);
    }
    let refused = |error: serde_json::Error| {
        ProcLauncherError::Other(format!(
            "patch = {patch}: no request to make a container comes out of it: {error}"
        ))
    };
    let mut request = serde_json::to_value(body).map_err(refused)?;
    json_patch::merge(&mut request, patch);
    serde_json::from_value(request).map_err(refused)
}
