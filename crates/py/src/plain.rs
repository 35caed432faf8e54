use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// How many values are looked at.
const MOST: usize = 64;
const DEEPEST: usize = 8;

/// Whether `value` consists of nothing but numbers, text, bytes and None, in tuples, lists and dicts, and is small: then
/// the plain pickler does, which needs nobody to be asked about classes and functions.
#[pyfunction]
pub(crate) fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    let mut left = MOST;
    look(value, &mut left, DEEPEST)
}

fn look(value: &Bound<'_, PyAny>, left: &mut usize, depth: usize) -> bool {
    if *left == 0 || depth == 0 {
        return false;
    }
    *left -= 1;
    if value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyBytes>()
    {
        return true;
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        return tuple.iter_borrowed().all(|item| look(&item, left, depth - 1));
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        return list.iter().all(|item| look(&item, left, depth - 1));
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return dict.iter().all(|(key, item)| look(&key, left, depth - 1) && look(&item, left, depth - 1));
    }
    false
}
