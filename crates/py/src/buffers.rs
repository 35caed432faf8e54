use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use procession_wire::Limits;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::{OnceLockExt, PyOnceLock};
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use crate::message::Payload;

/// To copy a pickle up to this size costs less than an object that shows it in place.
const SMALL: usize = 16 << 10;

/// Copies what Python gives: the caller may change its arrays, and no Python object may travel into the runtime.
///
/// # Errors
/// `TypeError`, `BufferError`: a segment is no contiguous buffer. `ValueError`: no message may be so long; nothing was copied.
pub(crate) fn copy_payload(segments: Vec<Bound<'_, PyAny>>) -> PyResult<Payload> {
    let lengths = segments.iter().map(length).sum::<PyResult<usize>>()?;
    let limit = Limits::default().frame;
    if lengths as u64 > limit {
        return Err(PyValueError::new_err(format!(
            "LimitExceeded: a message of {lengths} bytes is over the limit of {limit}; send it in parts, or through a file"
        )));
    }
    Ok(Payload::from_fragments(segments.iter().map(copy_segment).collect::<PyResult<_>>()?))
}

fn length(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    match object.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().len()),
        Err(_) => PyUntypedBuffer::get(object).map(|buffer| buffer.len_bytes()),
    }
}

/// Copies one buffer.
///
/// # Errors
/// As [`copy_payload`].
#[expect(unsafe_code, reason = "buffer protocol: the bytes behind a buffer are reached by pointer")]
pub(crate) fn copy_segment(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err(
            "a payload segment is not C-contiguous; pass PickleBuffer.raw() or a contiguous copy",
        ));
    }
    let length = buffer.len_bytes();
    if length == 0 {
        return Ok(Bytes::new());
    }
    let mut copy = BytesMut::with_capacity(length);
    // SAFETY: the buffer is contiguous and `length` bytes long, stays exported until `buffer` is dropped, and nobody
    // runs Python meanwhile, as this thread is attached; the copy has room for it all. Bytes are valid whatever they are.
    unsafe {
        std::ptr::copy_nonoverlapping(buffer.buf_ptr().cast::<u8>(), copy.as_mut_ptr(), length);
        copy.set_len(length);
    }
    Ok(copy.freeze())
}

/// Received bytes, which Python sees in place.
#[pyclass(frozen, module = "procession._native")]
struct Segment(Memory);

enum Memory {
    /// Somebody else looks at the same bytes.
    Shared(Bytes),
    /// Nobody else does: Python may write. The lock is for the type system; Rust never looks at the bytes again.
    Unique(Mutex<BytesMut>),
}

impl Segment {
    fn address(&self) -> (*mut u8, usize, bool) {
        match &self.0 {
            Memory::Shared(bytes) => (bytes.as_ptr().cast_mut(), bytes.len(), true),
            Memory::Unique(bytes) => {
                let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                (bytes.as_mut_ptr(), bytes.len(), false)
            }
        }
    }
}

#[pymethods]
impl Segment {
    #[expect(unsafe_code, reason = "buffer protocol: Python fills a structure that it gives by pointer")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let (address, length, read_only) = slf.get().address();
        // SAFETY: `view` is Python's to fill. The memory neither moves nor goes while the view keeps `slf` alive, and
        // it is writable only where no other reference to it exists.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                address.cast::<c_void>(),
                length.cast_signed(),
                c_int::from(read_only),
                flags,
            )
        };
        if filled == -1 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }
}

/// A received payload on its way to Python.
pub(crate) struct ReceivedPayload {
    segments: Mutex<Vec<Bytes>>,
    views: OnceLock<PyResult<Py<PyList>>>,
}

impl ReceivedPayload {
    pub(crate) fn new(segments: Vec<Bytes>) -> Self {
        Self { segments: Mutex::new(segments), views: OnceLock::new() }
    }

    /// One memoryview for each segment, the same ones for every call. The first is read-only, as pickles are; the
    /// others, which become arrays, are writable where nobody else refers to their memory.
    ///
    /// # Errors
    /// No memory for the views.
    pub(crate) fn views<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match self.views.get_or_init_py_attached(py, || self.make_views(py)) {
            Ok(views) => Ok(views.bind(py).clone()),
            Err(error) => Err(error.clone_ref(py)),
        }
    }

    /// What is pickled in it: a small pickle that is all of it is read where it was received.
    ///
    /// # Errors
    /// Whatever unpickling raises.
    pub(crate) fn load(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let whole = {
            let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
            match segments.as_slice() {
                [pickle] if pickle.len() <= SMALL => Some(PyBytes::new(py, pickle)),
                _ => None,
            }
        };
        match whole {
            Some(pickle) => {
                static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                LOADS.import(py, "pickle", "loads")?.call1((pickle,)).map(Bound::unbind)
            }
            None => {
                static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                LOADS.import(py, "procession._pickle", "loads")?.call1((self.views(py)?,)).map(Bound::unbind)
            }
        }
    }

    fn make_views(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let segments = std::mem::take(&mut *self.segments.lock().unwrap_or_else(PoisonError::into_inner));
        let views = segments.into_iter().enumerate().map(|(index, bytes)| {
            let memory = if index == 0 {
                Memory::Shared(bytes)
            } else {
                bytes.try_into_mut().map_or_else(Memory::Shared, |bytes| Memory::Unique(Mutex::new(bytes)))
            };
            PyMemoryView::from(Bound::new(py, Segment(memory))?.as_any())
        });
        let views = views.collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, views)?.unbind())
    }
}
