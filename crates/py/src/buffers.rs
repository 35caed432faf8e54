use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use procession_net::{LEAST_SHARED, PrivateBytes, take_slot};
use procession_wire::Limits;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::{OnceLockExt, PyOnceLock};
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use crate::fork::Owned;
use crate::message::Payload;
use crate::plain;
use crate::views;

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
        let bytes = bytes.as_bytes();
        return Ok(if bytes.len() < LEAST_SHARED {
            Bytes::copy_from_slice(bytes)
        } else {
            object.py().detach(|| copy_large(&[bytes]))
        });
    }
    let buffer = contiguous(object)?;
    let length = buffer.len_bytes();
    if length == 0 {
        return Ok(Bytes::new());
    }
    if length >= LEAST_SHARED {
        let address = buffer.buf_ptr() as usize;
        if let Some(bytes) = joined(object, address, length) {
            return Ok(bytes);
        }
        return Ok(object.py().detach(|| {
            // SAFETY: the buffer is contiguous, `length` bytes long and stays exported until `buffer` is dropped. Who writes to an
            // array while it is sent may see either of both arrive; bytes are valid whatever they are.
            copy_large(&[unsafe { std::slice::from_raw_parts(address as *const u8, length) }])
        }));
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

/// The bytes that [`join`] has made, where this is all or a part of what it has given.
fn joined(object: &Bound<'_, PyAny>, address: usize, length: usize) -> Option<Bytes> {
    let exporter = object.cast::<PyMemoryView>().ok()?.getattr("obj").ok()?;
    let segment = exporter.cast::<Segment>().ok()?.get();
    let Memory::Shared(bytes) = &*segment.0 else { return None };
    let start = address.checked_sub(bytes.as_ptr() as usize)?;
    (start + length <= bytes.len()).then(|| bytes.slice(start..start + length))
}

/// Copies so many bytes that it pays to do it into memory that the receiver can see. Other threads of Python run meanwhile.
fn copy_large(pieces: &[&[u8]]) -> Bytes {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let Some(mut room) = take_slot(length) else { return pieces.concat().into() };
    let mut rest = room.bytes();
    for piece in pieces {
        let (place, behind) = rest.split_at_mut(piece.len());
        place.copy_from_slice(piece);
        rest = behind;
    }
    room.filled()
}

/// Received bytes, which Python sees in place.
#[pyclass(frozen, module = "procession._native")]
struct Segment(Owned<Memory>);

enum Memory {
    /// Somebody else looks at the same bytes.
    Shared(Bytes),
    /// Nobody else does: Python may write. The lock is for the type system; Rust never looks at the bytes again.
    Unique(Mutex<BytesMut>),
    /// The bytes are in shared memory: Python writes to pages of its own.
    Private(Arc<PrivateBytes>),
}

impl Segment {
    fn address(&self) -> (*mut u8, usize, bool) {
        match &*self.0 {
            Memory::Shared(bytes) => (bytes.as_ptr().cast_mut(), bytes.len(), true),
            Memory::Unique(bytes) => {
                let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                (bytes.as_mut_ptr(), bytes.len(), false)
            }
            Memory::Private(view) => (view.pointer(), view.len(), false),
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
                [pickle] if pickle.len() <= SMALL => match plain::loads(py, pickle) {
                    Some(value) => return Ok(value.unbind()),
                    None => Some(PyBytes::new(py, pickle)),
                },
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
            let memory = if index == 0 { Memory::Shared(bytes) } else { own(py, bytes)? };
            PyMemoryView::from(Bound::new(py, Segment(Owned::new(memory)))?.as_any())
        });
        let views = views.collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, views)?.unbind())
    }
}

/// Bytes that Python may write to, where that is possible without a copy.
fn own(py: Python<'_>, bytes: Bytes) -> PyResult<Memory> {
    Ok(match PrivateBytes::of(bytes) {
        Ok(view) => Memory::Private(views::watched(py, view)?),
        Err(bytes) => {
            bytes.try_into_mut().map_or_else(Memory::Shared, |bytes| Memory::Unique(Mutex::new(bytes)))
        }
    })
}

/// Several large pieces as one segment, where its receivers can see it: it is not copied once more when it is sent.
///
/// # Errors
/// `TypeError`, `BufferError`: a piece is no contiguous buffer.
#[pyfunction]
#[expect(unsafe_code, reason = "buffer protocol: the bytes behind a buffer are reached by pointer")]
pub(crate) fn join<'py>(
    py: Python<'py>,
    pieces: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let buffers = pieces.iter().map(contiguous).collect::<PyResult<Vec<_>>>()?;
    let bytes_of = |buffer: &PyUntypedBuffer| {
        let (start, length) = (buffer.buf_ptr().cast::<u8>(), buffer.len_bytes());
        // SAFETY: the buffer is contiguous, `length` bytes long and stays exported until `buffers` is dropped; an empty one may
        // have no address. As for who writes to it meanwhile, see `copy_segment`.
        if length == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(start, length) } }
    };
    let pieces: Vec<&[u8]> = buffers.iter().map(bytes_of).collect();
    let bytes = py.detach(|| copy_large(&pieces));
    PyMemoryView::from(Bound::new(py, Segment(Owned::new(Memory::Shared(bytes))))?.as_any())
}

fn contiguous(object: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err(
            "a payload segment is not C-contiguous; pass PickleBuffer.raw() or a contiguous copy",
        ));
    }
    Ok(buffer)
}
