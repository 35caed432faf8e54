use std::fmt;

/// A value that can be pickled without an interpreter.
#[derive(Clone, PartialEq)]
pub enum Pickle {
    /// `None`
    None,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `float`
    Float(f64),
    /// `str`
    Str(String),
    /// `bytes`
    Bytes(Vec<u8>),
    /// `list`
    List(Vec<Pickle>),
    /// `tuple`
    Tuple(Vec<Pickle>),
    /// `dict`
    Dict(Vec<(Pickle, Pickle)>),
    /// What `module.name(*args)` returns where it is unpickled.
    Call {
        /// The module.
        module: &'static str,
        /// The callable's qualified name in it.
        name: &'static str,
        /// The arguments.
        args: Vec<Pickle>,
    },
}

impl Pickle {
    /// `list[str]`
    pub fn strings<'a>(items: impl IntoIterator<Item = &'a String>) -> Self {
        Self::List(items.into_iter().map(|item| Self::Str(item.clone())).collect())
    }

    /// `str`, or `None`
    pub fn optional(text: Option<&str>) -> Self {
        text.map_or(Self::None, |text| Self::Str(text.to_owned()))
    }

    /// The pickle, in protocol 4, which every supported interpreter reads.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0x80, 4];
        self.write(&mut out);
        out.push(b'.');
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(b'N'),
            Self::Bool(value) => out.push(if *value { 0x88 } else { 0x89 }),
            Self::Int(value) => match i32::try_from(*value) {
                Ok(small) => {
                    out.push(b'J');
                    out.extend(small.to_le_bytes());
                }
                Err(_) => {
                    out.extend([0x8a, 8]);
                    out.extend(value.to_le_bytes());
                }
            },
            Self::Float(value) => {
                out.push(b'G');
                out.extend(value.to_be_bytes());
            }
            Self::Str(text) => write_str(text, out),
            Self::Bytes(bytes) => {
                out.push(0x8e);
                out.extend((bytes.len() as u64).to_le_bytes());
                out.extend(bytes);
            }
            Self::List(items) => {
                out.extend(b"](");
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Self::Tuple(items) => write_tuple(items, out),
            Self::Dict(items) => {
                out.extend(b"}(");
                for (key, value) in items {
                    key.write(out);
                    value.write(out);
                }
                out.push(b'u');
            }
            Self::Call { module, name, args } => {
                write_str(module, out);
                write_str(name, out);
                out.push(0x93);
                write_tuple(args, out);
                out.push(b'R');
            }
        }
    }
}

fn write_str(text: &str, out: &mut Vec<u8>) {
    out.push(0x8d);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_tuple(items: &[Pickle], out: &mut Vec<u8>) {
    out.push(b'(');
    items.iter().for_each(|item| item.write(out));
    out.push(b't');
}

impl fmt::Debug for Pickle {
    // Environments are pickled, and their values are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pickle(…)")
    }
}
