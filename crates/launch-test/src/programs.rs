mod python;
mod shell;

use procession_model::BootstrapCommand;

use crate::deed::Deed;

/// What the procs of the checks are written in: it has to be there where they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programs {
    /// `/bin/sh -c`, with the tools of coreutils; `setsid`, where a check wants to see a session left.
    Shell,
    /// `<python> -c`, with the standard library of Python 3 alone.
    Python {
        /// The interpreter: its path, or a name that the launcher looks up.
        python: String,
    },
}

impl Programs {
    /// What runs `deeds`, one after the other.
    pub fn command(&self, deeds: &[Deed]) -> BootstrapCommand {
        let (program, first, script) = match self {
            Self::Shell => ("/bin/sh", &["-c"][..], shell::script(deeds)),
            Self::Python { python } => (python.as_str(), &["-c"][..], python::script(deeds)),
        };
        let mut command = BootstrapCommand::new(program);
        command.args = first.iter().map(|&option| option.to_owned()).collect();
        command.args.push(script);
        if *self == Self::Shell {
            // What `$0` is; arguments come after it.
            command.args.push("sh".to_owned());
        }
        for deed in deeds {
            if let Deed::PrintArguments(arguments) = deed {
                command.args.extend(arguments.iter().cloned());
            }
        }
        command
    }
}
