//! Pickles of small plain data, written and read without the interpreter's pickler, which takes longer to set up than such
//! data take to write.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// How many values are written.
const MOST: usize = 64;
const DEEPEST: usize = 8;
/// Bytes of a pickle; beyond that the interpreter's own is as fast.
const LONGEST: usize = 16 << 10;

const PROTOCOL: [u8; 2] = [0x80, 5];

/// The pickle of `value`, where that consists of nothing but numbers, text, bytes and None, in tuples, lists and dicts, is
/// small, and has no list or dict in it twice: those have to be one at the other end too.
#[pyfunction]
pub(crate) fn dumps_plain<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    dumps(value).map(|pickle| PyBytes::new(value.py(), &pickle))
}

/// As [`dumps_plain`].
pub(crate) fn dumps(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut pickle = Pickle::begin();
    pickle.value(value).then(|| pickle.end())
}

/// The pickle of the arguments of a call, `(args, {})`, or `(args, {}, third)` where that is given, in its form by [`body`].
pub(crate) fn dumps_call(args: &Bound<'_, PyTuple>, third: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut pickle = Pickle::begin();
    if !pickle.value(args) {
        return None;
    }
    pickle.out.push(b'}');
    if let Some(third) = third {
        pickle.out.extend_from_slice(third);
    }
    pickle.out.push(if third.is_some() { 0x87 } else { 0x86 });
    Some(pickle.end())
}

/// `value` as a part of a pickle.
pub(crate) fn body(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut pickle = Pickle::begin();
    pickle.value(value).then(|| pickle.out.split_off(PROTOCOL.len()))
}

struct Pickle {
    out: Vec<u8>,
    left: usize,
    depth: usize,
    /// The lists and dicts that are in it.
    seen: Vec<usize>,
}

impl Pickle {
    fn begin() -> Self {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&PROTOCOL);
        Self { out, left: MOST, depth: DEEPEST, seen: Vec::new() }
    }

    fn end(mut self) -> Vec<u8> {
        self.out.push(b'.');
        self.out
    }

    /// Writes `value`; false where that cannot be done here.
    fn value(&mut self, value: &Bound<'_, PyAny>) -> bool {
        if self.left == 0 || self.out.len() > LONGEST {
            return false;
        }
        self.left -= 1;
        if value.is_none() {
            self.out.push(b'N');
        } else if value.is_exact_instance_of::<PyInt>() {
            match value.extract::<i64>() {
                Ok(number) => self.int(number),
                Err(_) => return false,
            }
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            // One with lone surrogates has no UTF-8.
            let Ok(text) = text.to_str() else { return false };
            return self.sized(text.as_bytes(), 0x8c, b'X');
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.out.push(b'G');
            self.out.extend_from_slice(&number.value().to_be_bytes());
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { 0x88 } else { 0x89 });
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return self.sized(bytes.as_bytes(), b'C', b'B');
        } else {
            return self.container(value);
        }
        true
    }

    fn int(&mut self, number: i64) {
        if let Ok(small) = u8::try_from(number) {
            self.out.extend_from_slice(&[b'K', small]);
        } else if let Ok(number) = i32::try_from(number) {
            self.out.push(b'J');
            self.out.extend_from_slice(&number.to_le_bytes());
        } else {
            self.out.extend_from_slice(&[0x8a, 8]);
            self.out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn sized(&mut self, bytes: &[u8], short: u8, long: u8) -> bool {
        if bytes.len() > LONGEST {
            return false;
        }
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend_from_slice(&[short, length]),
            Err(_) => {
                self.out.push(long);
                self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
        true
    }

    fn container(&mut self, value: &Bound<'_, PyAny>) -> bool {
        if self.depth == 0 {
            return false;
        }
        self.depth -= 1;
        let written = if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.tuple(tuple)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.is_first(value) && self.list(list)
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.is_first(value) && self.dict(dict)
        } else {
            false
        };
        self.depth += 1;
        written
    }

    fn is_first(&mut self, value: &Bound<'_, PyAny>) -> bool {
        let address = value.as_ptr() as usize;
        let first = !self.seen.contains(&address);
        self.seen.push(address);
        first
    }

    fn tuple(&mut self, tuple: &Bound<'_, PyTuple>) -> bool {
        let end = match tuple.len() {
            0 => b')',
            length @ 1..=3 => 0x84 + length as u8,
            _ => {
                self.out.push(b'(');
                b't'
            }
        };
        let written = tuple.iter_borrowed().all(|item| self.value(&item));
        self.out.push(end);
        written
    }

    fn list(&mut self, list: &Bound<'_, PyList>) -> bool {
        self.out.extend_from_slice(b"](");
        let written = list.iter().all(|item| self.value(&item));
        self.out.push(b'e');
        written
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> bool {
        self.out.extend_from_slice(b"}(");
        let written = dict.iter().all(|(key, item)| self.value(&key) && self.value(&item));
        self.out.push(b'u');
        written
    }
}

/// The value whose pickle this is, where it is one of plain data in which nothing refers to anything before it; whatever
/// else it is, none, for the interpreter to say.
pub(crate) fn loads<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    if pickle.len() > LONGEST {
        return None;
    }
    Reader { py, rest: pickle, stack: Vec::with_capacity(8), marks: Vec::new() }.run()
}

struct Reader<'py, 'a> {
    py: Python<'py>,
    rest: &'a [u8],
    stack: Vec<Bound<'py, PyAny>>,
    marks: Vec<usize>,
}

impl<'py, 'a> Reader<'py, 'a> {
    fn run(&mut self) -> Option<Bound<'py, PyAny>> {
        loop {
            let py = self.py;
            match self.bytes(1)?[0] {
                b'.' => return self.stack.pop().filter(|_| self.stack.is_empty()),
                0x80 => drop(self.bytes(1)?),
                0x95 => drop(self.bytes(8)?),
                // To be found again by what refers to it, which is not read here.
                0x94 => {}
                b'N' => self.stack.push(py.None().into_bound(py)),
                0x88 => self.stack.push(PyBool::new(py, true).to_owned().into_any()),
                0x89 => self.stack.push(PyBool::new(py, false).to_owned().into_any()),
                b'K' => {
                    let number = self.bytes(1)?[0];
                    self.int(number.into())?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.int(number.into())?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.int(number.into())?;
                }
                0x8a => {
                    let length = self.bytes(1)?[0];
                    if length != 8 {
                        return None;
                    }
                    let number = i64::from_le_bytes(self.array()?);
                    self.int(number)?;
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.stack.push(PyFloat::new(py, number).into_any());
                }
                op @ (0x8c | b'X') => {
                    let bytes = self.sized(op == 0x8c)?;
                    let text = std::str::from_utf8(bytes).ok()?;
                    self.stack.push(PyString::new(py, text).into_any());
                }
                op @ (b'C' | b'B') => {
                    let bytes = self.sized(op == b'C')?;
                    self.stack.push(PyBytes::new(py, bytes).into_any());
                }
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.stack.push(PyTuple::empty(py).into_any()),
                op @ 0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(op - 0x84))?;
                    self.tuple(from)?;
                }
                b't' => {
                    let from = self.marks.pop()?;
                    self.tuple(from)?;
                }
                b']' => self.stack.push(PyList::empty(py).into_any()),
                b'}' => self.stack.push(PyDict::new(py).into_any()),
                b'a' => {
                    let from = self.stack.len().checked_sub(1)?;
                    self.append(from)?;
                }
                b'e' => {
                    let from = self.marks.pop()?;
                    self.append(from)?;
                }
                b's' => {
                    let from = self.stack.len().checked_sub(2)?;
                    self.set_items(from)?;
                }
                b'u' => {
                    let from = self.marks.pop()?;
                    self.set_items(from)?;
                }
                _ => return None,
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn sized(&mut self, short: bool) -> Option<&'a [u8]> {
        let length =
            if short { usize::from(self.bytes(1)?[0]) } else { u32::from_le_bytes(self.array()?) as usize };
        self.bytes(length)
    }

    fn int(&mut self, number: i64) -> Option<()> {
        let number = number.into_pyobject(self.py).ok()?;
        self.stack.push(number.into_any());
        Some(())
    }

    /// What lies above `from`, which no mark may hide.
    fn above(&mut self, from: usize) -> Option<Vec<Bound<'py, PyAny>>> {
        let hidden = self.marks.last().is_some_and(|&mark| mark > from);
        (from <= self.stack.len() && !hidden).then(|| self.stack.split_off(from))
    }

    fn tuple(&mut self, from: usize) -> Option<()> {
        let items = self.above(from)?;
        let tuple = PyTuple::new(self.py, items).ok()?;
        self.stack.push(tuple.into_any());
        Some(())
    }

    fn append(&mut self, from: usize) -> Option<()> {
        let items = self.above(from)?;
        let list = self.stack.last()?.cast_exact::<PyList>().ok()?;
        items.into_iter().try_for_each(|item| list.append(item)).ok()
    }

    fn set_items(&mut self, from: usize) -> Option<()> {
        let items = self.above(from)?;
        let dict = self.stack.last()?.cast_exact::<PyDict>().ok()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        pairs.iter().try_for_each(|[key, item]| dict.set_item(key, item)).ok()
    }
}
