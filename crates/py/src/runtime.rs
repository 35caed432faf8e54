use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_launch::ProcLauncher;
use procession_model::{DialBack, ProcId, check_name as check};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::actor_launcher::ActorProcLauncher;
use crate::blocking::block_on;
use crate::core::{self, Core, Side};
use crate::errors::value_error;
use crate::inbox_py::Inbox;
use crate::port::{PortReceiver, PortRef};
use crate::procs::{Launcher, ProcHandle, ProcSpec};
use crate::time::{deadline, duration};
use crate::waiter::{IS_SETTLED, Outcome};
