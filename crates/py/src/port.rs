use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use procession_actor::{Held, MailboxSenderError, Moves};
use procession_model::{Head, LOG_STDERR_TAG, LOG_STDOUT_TAG, Packet, PortId};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::answer::{Answer, Received};
use crate::blocking::block_on;
use crate::buffers::{copy_segment, copy_segments};
use crate::call::{EXIT, EXPLICIT};
use crate::claims::claim;
use crate::core::{Core, current};
use crate::errors::{send_error, value_error};
use crate::fork::{Owned, refuse_in_fork};
use crate::message::{EitherPortRef, PythonMessage, PythonMessageKind, PythonOncePortRef, PythonPortRef};
use crate::monitor::{Due, Monitor};
use crate::time::deadline;
use crate::waiter::Waiter;
