use procession_model::{BOOTSTRAP_ENV, LOG_CHANNEL_ENV, PROCESS_NAME_ENV};
use pyo3::prelude::*;

use crate::answer::{self, Answer};
use crate::buffers;
use crate::call::{self, ActorRef};
use crate::certificate_dict;
use crate::claims::Claims;
use crate::confinement;
#[cfg(feature = "conformance")]
use crate::conformance;
use crate::dead_hosts;
use crate::engine::{self, Engine};
use crate::fork;
use crate::inbox_py::{Busy, Caller, Inbox, Message};
use crate::method::Method;
use crate::plain;
use crate::port::{self, PortRef};
use crate::port_receiver::PortReceiver;
use crate::procs::{self, Launcher, ProcHandle, ProcSpec};
use crate::replies::Replies;
use crate::respawn;
use crate::restart::RestartPolicy;
use crate::runtime::{self, Runtime};
use crate::serving::Serving;
use crate::subscription::{self, Subscription};
use crate::supervised::{self, Supervised};
use crate::waiter::{CompletionQueue, Waiter};
use crate::worker::{self, SessionKey, Worker, WorkerServer};
use crate::zygote::{self, Zygote};

/// The Rust runtime behind the package.
#[pymodule]
pub(crate) fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("BOOTSTRAP_ENV", BOOTSTRAP_ENV)?;
    m.add("PROCESS_NAME_ENV", PROCESS_NAME_ENV)?;
    m.add("LOG_CHANNEL_ENV", LOG_CHANNEL_ENV)?;
    m.add("RETURNS", call::RETURNS)?;
    m.add("EXPLICIT", call::EXPLICIT)?;
    m.add("EXIT", call::EXIT)?;
    m.add("ONE_WAY", call::ONE_WAY)?;
    m.add("EXPLICIT_ONE_WAY", call::EXPLICIT_ONE_WAY)?;
    m.add("RESULT", answer::RESULT)?;
    m.add("EXCEPTION", answer::EXCEPTION)?;
    m.add("CLOSED", answer::CLOSED)?;
    m.add("CANCELLED", answer::CANCELLED)?;
    m.add("TIMED_OUT", answer::TIMED_OUT)?;
    m.add_class::<Runtime>()?;
    m.add_class::<ProcSpec>()?;
    m.add_class::<RestartPolicy>()?;
    m.add_class::<ProcHandle>()?;
    m.add_class::<Launcher>()?;
    m.add_class::<Engine>()?;
    m.add_function(wrap_pyfunction!(engine::connect_engine, m)?)?;
    m.add_function(wrap_pyfunction!(engine::features, m)?)?;
    #[cfg(feature = "conformance")]
    {
        m.add_function(wrap_pyfunction!(conformance::conformance_checks, m)?)?;
        m.add_function(wrap_pyfunction!(conformance::conform, m)?)?;
        m.add_function(wrap_pyfunction!(conformance::conformance_page, m)?)?;
    }
    m.add_class::<Subscription>()?;
    m.add_class::<Waiter>()?;
    m.add_class::<CompletionQueue>()?;
    m.add_class::<ActorRef>()?;
    m.add_class::<Replies>()?;
    m.add_class::<Answer>()?;
    m.add_class::<PortRef>()?;
    m.add_class::<PortReceiver>()?;
    m.add_class::<Claims>()?;
    m.add_class::<Message>()?;
    m.add_class::<Inbox>()?;
    m.add_class::<Busy>()?;
    m.add_class::<Caller>()?;
    m.add_class::<Method>()?;
    m.add_class::<Serving>()?;
    m.add_class::<Supervised>()?;
    m.add_class::<SessionKey>()?;
    m.add_class::<WorkerServer>()?;
    m.add_class::<Worker>()?;
    m.add_class::<Zygote>()?;
    m.add_function(wrap_pyfunction!(fork::fork_beside, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::start_client, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::start_client_in, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::start_proc, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::current_runtime, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::check_name, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::safe_name, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::report_launch, m)?)?;
    m.add_function(wrap_pyfunction!(certificate_dict::read_record, m)?)?;
    m.add_function(wrap_pyfunction!(certificate_dict::records_dir, m)?)?;
    m.add_function(wrap_pyfunction!(confinement::find_user, m)?)?;
    m.add_function(wrap_pyfunction!(confinement::machine_facts, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::report_unreachable, m)?)?;
    m.add_function(wrap_pyfunction!(runtime::reported_again, m)?)?;
    m.add_function(wrap_pyfunction!(dead_hosts::dead_hosts, m)?)?;
    m.add_function(wrap_pyfunction!(procs::all_ready, m)?)?;
    m.add_function(wrap_pyfunction!(subscription::subscribe, m)?)?;
    m.add_function(wrap_pyfunction!(subscription::subscribe_with_past, m)?)?;
    m.add_function(wrap_pyfunction!(buffers::join, m)?)?;
    m.add_function(wrap_pyfunction!(call::call, m)?)?;
    m.add_function(wrap_pyfunction!(plain::dumps_plain, m)?)?;
    m.add_function(wrap_pyfunction!(call::send_to_port, m)?)?;
    m.add_function(wrap_pyfunction!(respawn::spawn_actors, m)?)?;
    m.add_function(wrap_pyfunction!(port::log_port, m)?)?;
    m.add_function(wrap_pyfunction!(port::claim_port, m)?)?;
    m.add_function(wrap_pyfunction!(worker::serve_stdio, m)?)?;
    m.add_function(wrap_pyfunction!(worker::serve_worker, m)?)?;
    m.add_function(wrap_pyfunction!(worker::connect_workers, m)?)?;
    m.add_function(wrap_pyfunction!(zygote::serve_launches, m)?)?;
    m.add_function(wrap_pyfunction!(supervised::supervise, m)?)
}
