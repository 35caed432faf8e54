use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use procession_launch::{Labels, ProcLauncherError};
use procession_model::{BootstrapCommand, Confinement, DropCapabilities, LaunchOptions, ProcId, Rlimits};
use serde_json::Value;
use zbus::Variant;

use crate::SystemdConfig;
use crate::environment::OF_SYSTEMD;
use crate::output::Files;
use crate::patch::{Types, typed};

/// What the names of all units of ours begin and end with.
pub(crate) const NAME: (&str, &str) = ("procession-", ".service");
/// Where the labels of a unit are: systemd has no labels, but fields that its log adds to all that comes from a unit.
pub(crate) const LABELS: &str = "LogExtraFields";

/// In systemd's order: what a process may have, that is not in this mask, it never gets.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(crate) fn name(proc_id: &ProcId) -> String {
    format!("{}{}{}", NAME.0, proc_id.safe_name(), NAME.1)
}

/// The name of a field of the log for that of a label.
pub(crate) fn field(label: &str) -> String {
    label.replace('.', "_").to_ascii_uppercase()
}

/// A service that is started once, with all that its manager is told of it.
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) properties: Vec<(String, Variant<'static>)>,
    /// What stands in no property, since others can read those.
    pub(crate) variables: Vec<(String, String)>,
}

/// What is only known when it is started.
pub(crate) struct Given<'a> {
    /// The file with the variables.
    pub(crate) environment: &'a Path,
    /// Where its output goes: standard output and standard error.
    pub(crate) output: Option<[OwnedFd; 2]>,
    /// The files that these are, where it outlives its host.
    pub(crate) files: Option<Files>,
    /// The names of all that is in the environment of its manager.
    pub(crate) base: Vec<String>,
}

fn refused(text: String) -> ProcLauncherError {
    ProcLauncherError::Other(text)
}

fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Variant<'static> {
    Variant::from(texts.into_iter().map(Into::into).collect::<Vec<String>>())
}

impl Unit {
    /// # Errors
    /// It cannot be said to systemd.
    pub(crate) fn new(
        config: &SystemdConfig,
        types: &Types,
        proc_id: &ProcId,
        options: &LaunchOptions,
        given: Given<'_>,
    ) -> Result<Self, ProcLauncherError> {
        let command = &options.command;
        let variables = options.variables();
        let mut all: Vec<(&str, Variant<'static>)> = vec![
            ("Description", options.process_name.clone().into()),
            (LABELS, labels(proc_id, options, given.files.as_ref())),
            // What is not executed has failed.
            ("Type", "exec".into()),
            // What is known of its end stays until it was read, also when it has ended well.
            ("RemainAfterExit", true.into()),
            // When the program ends, all that is left of it is killed.
            ("KillMode", "control-group".into()),
            ("KillSignal", 9_i32.into()),
            // All clocks are the host's.
            ("TimeoutStartUSec", u64::MAX.into()),
            ("TimeoutStopUSec", u64::MAX.into()),
            ("OOMPolicy", "stop".into()),
            ("IgnoreSIGPIPE", false.into()),
            ("ExecStartEx", program(command)?),
            ("WorkingDirectory", directory(command)?),
            ("UnsetEnvironment", texts(unset(command, &variables, given.base))),
            ("EnvironmentFiles", Variant::from(vec![(text("path", given.environment)?, false)])),
        ];
        if let Some(slice) = &config.slice {
            all.push(("Slice", slice.clone().into()));
        }
        if let Some([stdout, stderr]) = given.output {
            let fd = |fd: OwnedFd| Variant::Fd(fd.into());
            all.extend([
                ("StandardOutputFileDescriptor", fd(stdout)),
                ("StandardErrorFileDescriptor", fd(stderr)),
            ]);
        }
        let mut properties: Vec<_> = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        properties.extend(confined(&command.confinement)?);
        for (name, value) in &config.patch {
            let value = patched(types, name, value)?;
            properties.retain(|(known, _)| known != name);
            properties.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(Self { name: name(proc_id), properties, variables })
    }

    /// As a command in the manner of systemd-run; properties have the names that they have on D-Bus.
    pub(crate) fn shown(&self, bus: &str) -> String {
        let bus = match bus {
            "user" | "system" => format!("--{bus}"),
            address => format!("DBUS_SESSION_BUS_ADDRESS={address} --user"),
        };
        let mut text = format!("systemd-run {bus} --unit={}", self.name);
        for (name, value) in &self.properties {
            let value = match value {
                Variant::Str(text) => text.to_string(),
                Variant::U64(u64::MAX) => "infinity".to_owned(),
                Variant::U64(number) => number.to_string(),
                Variant::Fd(_) => "what the host reads".to_owned(),
                other => other.to_string(),
            };
            text.push_str(&format!("\n  --property={name}={value}"));
        }
        let mut names: Vec<_> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        text.push_str(&format!("\nvariables: {}\n", names.join(" ")));
        text
    }
}

fn labels(proc_id: &ProcId, options: &LaunchOptions, files: Option<&Files>) -> Variant<'static> {
    let own = Labels::of(proc_id, options);
    let fields = own.pairs().map(|(name, value)| format!("{}={value}", field(name)).into_bytes());
    Variant::from(fields.into_iter().chain(files.map(Files::field)).collect::<Vec<_>>())
}

/// Those of a unit, from its fields.
pub(crate) fn labels_in(fields: &[Vec<u8>]) -> Option<Labels> {
    let fields: Vec<_> = fields.iter().filter_map(|field| std::str::from_utf8(field).ok()).collect();
    Labels::among(|label| {
        let field = field(label);
        fields.iter().find_map(|text| text.strip_prefix(field.as_str())?.strip_prefix('='))
    })
}

fn text(field: &str, path: &Path) -> Result<String, ProcLauncherError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        refused(format!("{field} {path:?} is not valid UTF-8, which all that systemd is told is; rename it"))
    })
}

/// As it is written for people.
pub(crate) fn program_of(command: &BootstrapCommand) -> String {
    command.program.to_string_lossy().into_owned()
}

fn program(command: &BootstrapCommand) -> Result<Variant<'static>, ProcLauncherError> {
    let given = command.program.as_path();
    // A name alone is looked up by the manager.
    let path = if given.components().count() > 1 { here(command).join(given) } else { given.to_owned() };
    let last = given.file_name().unwrap_or(given.as_os_str());
    let arg0 = command.arg0.clone().map_or_else(|| text("program", Path::new(last)), Ok)?;
    let argv: Vec<String> = [arg0].into_iter().chain(command.args.iter().cloned()).collect();
    // Otherwise it puts variables in the place of words with a dollar.
    let flags = vec!["no-env-expand".to_owned()];
    Ok(Variant::from(vec![(text("program", &path)?, argv, flags)]))
}

fn here(command: &BootstrapCommand) -> std::path::PathBuf {
    let own = std::env::current_dir().unwrap_or_else(|_| "/".into());
    command.cwd.as_ref().map_or(own.clone(), |cwd| own.join(cwd))
}

fn directory(command: &BootstrapCommand) -> Result<Variant<'static>, ProcLauncherError> {
    let text = text("cwd", &here(command))?;
    // Nobody asked for that of this process, and another user may not get into it.
    Ok(Variant::from(if command.cwd.is_some() { text } else { format!("-{text}") }))
}

/// The names of what is taken away from what the manager gives.
fn unset(command: &BootstrapCommand, own: &[(String, String)], base: Vec<String>) -> Vec<String> {
    let mut names = command.env_remove.clone();
    if command.clear_env {
        names.extend(base);
        names.extend(OF_SYSTEMD.map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| own.iter().all(|(own, _)| own != name));
    names
}

fn confined(confinement: &Confinement) -> Result<Vec<(String, Variant<'static>)>, ProcLauncherError> {
    let Confinement { resources, user, rlimits, security, binding: _ } = confinement;
    let mut all: Vec<(String, Variant<'static>)> = Vec::new();
    let mut add = |name: &str, value: Variant<'static>| all.push((name.to_owned(), value));
    if let Some(bytes) = resources.memory {
        add("MemoryMax", bytes.into());
        add("MemorySwapMax", 0_u64.into());
    }
    if let Some(pids) = resources.pids {
        add("TasksMax", pids.into());
    }
    if let Some(millis) = resources.cpu_millis {
        add("CPUQuotaPerSecUSec", millis.saturating_mul(1000).into());
    }
    if let Some(user) = user {
        add("User", user.uid.to_string().into());
        add("Group", user.gid.to_string().into());
        add("SupplementaryGroups", texts(user.groups.iter().map(u32::to_string)));
    }
    for (name, Rlimits { soft, hard }) in rlimits {
        if !RLIMITS.contains(&name.as_str()) {
            let known = RLIMITS.join(", ");
            return Err(refused(format!(
                "rlimits[{name:?}]: systemd knows no limit of that name; known are {known}"
            )));
        }
        let property = format!("Limit{}", name.to_ascii_uppercase());
        add(&format!("{property}Soft"), soft.unwrap_or(u64::MAX).into());
        add(&property, hard.unwrap_or(u64::MAX).into());
    }
    if !security.seccomp.is_empty() {
        let text = "security[\"seccomp\"]: systemd takes names of system calls, and no program; give patch={\"SystemCallFilter\": ...}";
        return Err(refused(text.to_owned()));
    }
    if security.no_new_privs {
        add("NoNewPrivileges", true.into());
    }
    if let Some(mask) = kept(&security.drop_capabilities)? {
        add("CapabilityBoundingSet", mask.into());
        add("AmbientCapabilities", 0_u64.into());
    }
    Ok(all)
}

/// The capabilities that are not given up, as bits; none where all stay.
fn kept(drop: &DropCapabilities) -> Result<Option<u64>, ProcLauncherError> {
    let names = match drop {
        DropCapabilities::None => return Ok(None),
        DropCapabilities::All => return Ok(Some(0)),
        DropCapabilities::Named(names) => names,
    };
    let mut mask = u64::MAX;
    for given in names {
        let name = given.to_ascii_lowercase();
        let name = name.strip_prefix("cap_").unwrap_or(&name);
        let Some(bit) = CAPABILITIES.iter().position(|known| *known == name) else {
            return Err(refused(format!(
                "security[\"drop_capabilities\"]: {given:?} is no capability of Linux; give its name as in capabilities(7)"
            )));
        };
        mask &= !(1 << bit);
    }
    Ok(Some(mask))
}

fn patched(types: &Types, name: &str, value: &Value) -> Result<Option<Variant<'static>>, ProcLauncherError> {
    if value.is_null() {
        return Ok(None);
    }
    let Some(type_) = types.get(name) else {
        return Err(refused(format!(
            "patch[{name:?}]: this systemd has no property of that name; give one as `systemctl show` of a service lists it"
        )));
    };
    let value = typed(type_, value).ok_or_else(|| {
        refused(format!("patch[{name:?}] = {value}: its type on D-Bus is {type_}; give a value of that type"))
    })?;
    Ok(Some(value))
}

/// A pipe whose end to read is here.
pub(crate) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// What stands for a pipe where nothing is started.
pub(crate) fn nothing() -> std::io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}
