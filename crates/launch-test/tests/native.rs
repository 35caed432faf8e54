//! The launcher of this machine keeps every promise, whatever the procs are written in.

use procession_launch_test::{Kit, Programs};

mod caller;

/// An interpreter that every user may run, where there is one.
fn python() -> String {
    let usual = "/usr/bin/python3";
    if std::path::Path::new(usual).exists() { usual.to_owned() } else { "python3".to_owned() }
}

procession_launch_test::suite!(
    shell,
    Kit::new(|host| host.native_launcher()).ready_command(caller::command())
);

procession_launch_test::suite!(
    python_programs,
    Kit::new(|host| host.native_launcher())
        .programs(Programs::Python { python: python() })
        .ready_command(caller::command())
);
