//! Pickles of plain data, read without an interpreter.

use std::collections::HashMap;

use bytes::Bytes;
use procession_model::PortId;

use crate::message::{EitherPortRef, Payload};
use crate::value::{PORT_CLAIM, PORT_MODULE, Value};

/// How deep lists, tuples and dicts may be nested.
const DEPTH: usize = 200;
/// How many values one message may be; a pickle of few bytes can name one value very often.
const VALUES: usize = 1 << 22;

const TAKES: &str = "send None, bool, int of 64 bits, float, str, bytes, list, tuple, dict and ports";

/// A value while its pickle is read; parts are places in the arena, so that several can share one.
enum Node {
    Leaf(Value),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    /// The function that makes ports.
    Claim,
    Port(PortId, bool),
}

/// The value in `payload`; `claim` gives the port of that id.
pub(crate) fn read(
    payload: &Payload,
    claim: impl FnMut(PortId, bool) -> Result<EitherPortRef, String>,
) -> Result<Value, String> {
    let (pickle, buffers) = payload.fragments().split_first().ok_or("there is no pickle in it")?;
    let mut reader = Reader {
        bytes: pickle.clone(),
        buffers: buffers.iter(),
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = reader.run()?;
    Builder { nodes: &reader.nodes, left: VALUES, claim }.build(root, 0)
}

struct Reader<'a> {
    bytes: Bytes,
    buffers: std::slice::Iter<'a, Bytes>,
    nodes: Vec<Node>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u32, usize>,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let op = self.number::<1>()?[0];
            match op {
                b'.' => return self.pop(),
                0x80 => drop(self.number::<1>()?),
                0x95 => drop(self.number::<8>()?),
                b'N' => self.leaf(Value::None),
                0x88 => self.leaf(Value::Bool(true)),
                0x89 => self.leaf(Value::Bool(false)),
                b'K' => {
                    let [value] = self.number()?;
                    self.leaf(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.number()?);
                    self.leaf(Value::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.number()?);
                    self.leaf(Value::Int(value.into()));
                }
                0x8a | 0x8b => self.long(op)?,
                b'G' => {
                    let value = f64::from_be_bytes(self.number()?);
                    self.leaf(Value::Float(value));
                }
                0x8c | b'X' | 0x8d => {
                    let text = self.counted(op)?;
                    let text = String::from_utf8(text.to_vec())
                        .map_err(|_| format!("a str in it is not valid Unicode; {TAKES}"))?;
                    self.leaf(Value::Str(text));
                }
                b'C' | b'B' | 0x8e | 0x96 => {
                    let bytes = self.counted(op)?;
                    self.leaf(Value::Bytes(bytes));
                }
                0x97 => {
                    let buffer =
                        self.buffers.next().ok_or("a buffer is missing that its pickle refers to")?;
                    self.leaf(Value::Bytes(buffer.clone()));
                }
                0x98 => {} // the buffer before it is read-only, as every one is here
                b'(' => self.marks.push(self.stack.len()),
                b']' => self.push(Node::List(Vec::new())),
                b'}' => self.push(Node::Dict(Vec::new())),
                b')' => self.push(Node::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let parts = self.top(usize::from(op - 0x84))?;
                    self.push(Node::Tuple(parts));
                }
                b't' => {
                    let parts = self.marked()?;
                    self.push(Node::Tuple(parts));
                }
                b'a' | b'e' => {
                    let parts = if op == b'a' { self.top(1)? } else { self.marked()? };
                    let Node::List(list) = self.last()? else { return Err(broken()) };
                    list.extend(parts);
                }
                b's' | b'u' => {
                    let parts = if op == b's' { self.top(2)? } else { self.marked()? };
                    let Node::Dict(dict) = self.last()? else { return Err(broken()) };
                    let (pairs, rest) = parts.as_chunks::<2>();
                    if !rest.is_empty() {
                        return Err(broken());
                    }
                    dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                }
                0x94 => {
                    let next = u32::try_from(self.memo.len()).map_err(|_| broken())?;
                    self.memoize(next)?;
                }
                b'q' => {
                    let [place] = self.number()?;
                    self.memoize(place.into())?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.number()?);
                    self.memoize(place)?;
                }
                b'h' => {
                    let [place] = self.number()?;
                    self.recall(place.into())?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.number()?);
                    self.recall(place)?;
                }
                0x93 => self.global()?,
                b'R' => self.reduce()?,
                0x8f => return Err(format!("a set is in it; {TAKES}")),
                0x91 => return Err(format!("a frozenset is in it; {TAKES}")),
                other => {
                    return Err(format!(
                        "the opcode {other:#04x} is in it, which no plain data has; {TAKES}"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<Bytes, String> {
        if count > self.bytes.len() {
            return Err("it ends too early".to_owned());
        }
        Ok(self.bytes.split_to(count))
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut number = [0; N];
        number.copy_from_slice(&self.take(N)?);
        Ok(number)
    }

    /// Text or bytes, with their length before them: of one byte, of four, or of eight.
    fn counted(&mut self, op: u8) -> Result<Bytes, String> {
        let count = match op {
            0x8c | b'C' => u64::from(self.number::<1>()?[0]),
            b'X' | b'B' => u32::from_le_bytes(self.number()?).into(),
            _ => u64::from_le_bytes(self.number()?),
        };
        self.take(usize::try_from(count).map_err(|_| broken())?)
    }

    fn long(&mut self, op: u8) -> Result<(), String> {
        let count = match op {
            0x8a => self.number::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.number()?) as usize,
        };
        let digits = self.take(count)?;
        if count > 8 {
            return Err(format!("an int of {count} bytes is in it; {TAKES}"));
        }
        let is_negative = digits.last().is_some_and(|last| last & 0x80 != 0);
        let mut value = [if is_negative { 0xff } else { 0 }; 8];
        value[..count].copy_from_slice(&digits);
        self.leaf(Value::Int(i64::from_le_bytes(value)));
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn leaf(&mut self, value: Value) {
        self.push(Node::Leaf(value));
    }

    /// Where the part of the stack begins that may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.top(1).map(|top| top[0])
    }

    fn top(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        Ok(self.stack.split_off(start.ok_or_else(broken)?))
    }

    fn marked(&mut self) -> Result<Vec<usize>, String> {
        let mark = self.marks.pop().ok_or_else(broken)?;
        Ok(self.stack.split_off(mark))
    }

    fn last(&mut self) -> Result<&mut Node, String> {
        let place = *self.stack.last().ok_or_else(broken)?;
        self.nodes.get_mut(place).ok_or_else(broken)
    }

    fn memoize(&mut self, place: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or_else(broken)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        self.stack.push(*self.memo.get(&place).ok_or_else(broken)?);
        Ok(())
    }

    fn text(&self, place: usize) -> Result<&str, String> {
        match &self.nodes[place] {
            Node::Leaf(Value::Str(text)) => Ok(text),
            _ => Err(broken()),
        }
    }

    fn global(&mut self) -> Result<(), String> {
        let names = self.top(2)?;
        let (module, name) = (self.text(names[0])?, self.text(names[1])?);
        if (module, name) != (PORT_MODULE, PORT_CLAIM) {
            return Err(format!("{module}.{name} is in it; {TAKES}"));
        }
        self.push(Node::Claim);
        Ok(())
    }

    /// The one call that plain data has: a port made of its id, whether it is a once port, and a rank that counts for nothing.
    fn reduce(&mut self) -> Result<(), String> {
        let call = self.top(2)?;
        let (Node::Claim, Node::Tuple(args)) = (&self.nodes[call[0]], &self.nodes[call[1]]) else {
            return Err(broken());
        };
        let &[id, once, _rank] = args.as_slice() else { return Err(broken()) };
        let Node::Leaf(Value::Bool(once)) = self.nodes[once] else { return Err(broken()) };
        let port = self.text(id)?.parse().map_err(|error| format!("a port in it has no id: {error}"))?;
        self.push(Node::Port(port, once));
        Ok(())
    }
}

fn broken() -> String {
    "it is no pickle".to_owned()
}

struct Builder<'a, F> {
    nodes: &'a [Node],
    left: usize,
    claim: F,
}

impl<F: FnMut(PortId, bool) -> Result<EitherPortRef, String>> Builder<'_, F> {
    fn build(&mut self, place: usize, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err(format!("it is nested deeper than {DEPTH}, or refers to itself"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("more than {VALUES} values are in it"))?;
        let nodes = self.nodes;
        Ok(match &nodes[place] {
            Node::Leaf(value) => value.clone(),
            Node::List(parts) => Value::List(self.build_all(parts, depth)?),
            Node::Tuple(parts) => Value::Tuple(self.build_all(parts, depth)?),
            Node::Dict(pairs) => {
                let pair = |&(key, value)| {
                    Ok::<_, String>((self.build(key, depth + 1)?, self.build(value, depth + 1)?))
                };
                Value::Dict(pairs.iter().map(pair).collect::<Result<_, _>>()?)
            }
            Node::Claim => return Err(broken()),
            Node::Port(port, once) => Value::Port((self.claim)(port.clone(), *once)?),
        })
    }

    fn build_all(&mut self, parts: &[usize], depth: usize) -> Result<Vec<Value>, String> {
        parts.iter().map(|&part| self.build(part, depth + 1)).collect()
    }
}
