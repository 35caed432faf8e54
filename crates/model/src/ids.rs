use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::InvalidArgument;

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has no random bytes to give");
    bytes
}

/// Checks a name that a user gives to a mesh, a proc or an actor.
///
/// # Errors
/// Names the first offending character and its index.
pub fn check_name(field: &str, name: &str) -> Result<(), InvalidArgument> {
    const RULE: &str = "use 1 to 128 of A-Z a-z 0-9 _ . -, the first a letter or a digit";
    let shown = || {
        let mut short: String = name.chars().take(40).collect();
        if short.len() < name.len() {
            short.push('…');
        }
        format!("{short:?}")
    };
    let length = name.chars().count();
    if length == 0 || length > 128 {
        return Err(InvalidArgument::new(field, shown(), format!("it has {length} characters; {RULE}")));
    }
    for (index, c) in name.chars().enumerate() {
        let allowed = c.is_ascii_alphanumeric() || (index > 0 && matches!(c, '_' | '.' | '-'));
        if !allowed {
            return Err(InvalidArgument::new(
                field,
                shown(),
                format!("character {c:?} at index {index}; {RULE}"),
            ));
        }
    }
    Ok(())
}

/// A string that is not the display form of an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: it should look like {example}")]
pub struct ParseIdError {
    /// The text that was given.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// An example of the right form.
    pub example: &'static str,
}

/// One host of one session: `<machine>-<16 hex digits>`, unique without coordination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(Arc<str>);

impl HostId {
    /// A fresh id for a host on the machine called `machine`.
    pub fn fresh(machine: &str) -> Self {
        let name: String = machine
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(32)
            .collect();
        let name = name.trim_matches('-');
        let name = if name.is_empty() { "host" } else { name };
        Self(format!("{name}-{:016x}", u64::from_be_bytes(random_bytes())).into())
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 128 random bits of one launch: names may be reused, these never.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaunchId(u128);

impl LaunchId {
    /// A fresh id.
    pub fn fresh() -> Self {
        Self(u128::from_be_bytes(random_bytes()))
    }

    /// Its 16 bytes, as they stand on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaunchId({self})")
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ProcInner {
    text: Box<str>,
    name_len: usize,
    launch: LaunchId,
}

impl Hash for ProcInner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As good as the whole, which has to be read for it.
        self.launch.hash(state);
    }
}

/// One launch of one named proc on one host; displayed as `<name>.<32 hex digits>@<host>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcId(Arc<ProcInner>);

impl ProcId {
    const EXAMPLE: &'static str = "workers-0.<32 hex digits>@<host>";

    /// A fresh launch of the proc called `name` on `host`.
    ///
    /// # Errors
    /// The name is not one that [`check_name`] accepts.
    pub fn fresh(name: &str, host: &HostId) -> Result<Self, InvalidArgument> {
        check_name("name", name)?;
        Ok(Self::build(name, LaunchId::fresh(), host.as_str()))
    }

    fn build(name: &str, launch: LaunchId, host: &str) -> Self {
        let text = format!("{name}.{launch}@{host}").into();
        Self(Arc::new(ProcInner { text, name_len: name.len(), launch }))
    }

    /// The slot's name, which its incarnations share.
    pub fn name(&self) -> &str {
        &self.0.text[..self.0.name_len]
    }

    /// The bits that make this launch unlike every other.
    pub fn launch_id(&self) -> LaunchId {
        self.0.launch
    }

    /// The host that launched it, as text.
    pub fn host(&self) -> &str {
        &self.0.text[self.0.name_len + 34..]
    }

    /// The display form, without allocating.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// A form that is safe as a container, unit, job or file name: `[a-z0-9-]`, at most 63
    /// characters, unique by the launch id at its end.
    pub fn safe_name(&self) -> String {
        let name: String = self
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(30)
            .collect();
        format!("{}-{}", name.trim_end_matches('-'), self.0.launch)
    }
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcId({})", self.0.text)
    }
}

impl FromStr for ProcId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parsed = || {
            let (front, host) = text.rsplit_once('@')?;
            let (name, hex) = front.rsplit_once('.')?;
            let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            if hex.len() != 32 || !hex.bytes().all(lower) || host.is_empty() {
                return None;
            }
            check_name("name", name).ok()?;
            check_name("host", host).ok()?;
            Some(Self::build(name, LaunchId(u128::from_str_radix(hex, 16).ok()?), host))
        };
        parsed().ok_or_else(|| ParseIdError {
            text: text.to_owned(),
            what: "a proc id",
            example: Self::EXAMPLE,
        })
    }
}

/// One actor: `<proc id>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId {
    /// Where it lives.
    pub proc_id: ProcId,
    /// Its name, unique in that proc.
    pub name: Arc<str>,
}

impl ActorId {
    /// The actor called `name` in `proc_id`.
    pub fn new(proc_id: ProcId, name: impl Into<Arc<str>>) -> Self {
        Self { proc_id, name: name.into() }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proc_id, self.name)
    }
}

impl FromStr for ActorId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong =
            || ParseIdError { text: text.to_owned(), what: "an actor id", example: "<proc id>/<actor name>" };
        let (proc_id, name) = text.split_once('/').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Self::new(proc_id.parse().map_err(|_| wrong())?, name))
    }
}

/// One port: `<proc id>#<index>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    /// The process that opened it and receives what is sent to it.
    pub proc_id: ProcId,
    /// Its number there, never used twice.
    pub index: u64,
}

impl PortId {
    /// The port numbered `index` in `proc_id`.
    pub fn new(proc_id: ProcId, index: u64) -> Self {
        Self { proc_id, index }
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.proc_id, self.index)
    }
}

impl FromStr for PortId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong =
            || ParseIdError { text: text.to_owned(), what: "a port id", example: "<proc id>#<number>" };
        let (proc_id, index) = text.rsplit_once('#').ok_or_else(wrong)?;
        Ok(Self::new(proc_id.parse().map_err(|_| wrong())?, index.parse().map_err(|_| wrong())?))
    }
}

/// How many ids of a kind a thread remembers.
const REMEMBERED: usize = 256;

/// Ids travel as their display forms, so that a log line can be pasted into a query. The same ones come again and again, so
/// a thread that reads them remembers what it has parsed.
macro_rules! serde_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                thread_local! {
                    static KNOWN: RefCell<HashMap<Box<str>, $id>> = RefCell::default();
                }
                let text = <Cow<'de, str>>::deserialize(deserializer)?;
                KNOWN.with_borrow_mut(|known| {
                    if let Some(id) = known.get(&*text) {
                        return Ok(id.clone());
                    }
                    let id: $id = text.parse().map_err(de::Error::custom)?;
                    if known.len() >= REMEMBERED {
                        known.clear();
                    }
                    known.insert(text.into(), id.clone());
                    Ok(id)
                })
            }
        }
    )*};
}

serde_as_text!(ProcId, ActorId);

impl Serialize for PortId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        // A number comes once, and its process again and again.
        let known = text.rsplit_once('#').and_then(|(proc_id, index)| {
            let proc_id: StrDeserializer<'_, de::value::Error> = proc_id.into_deserializer();
            Some(Self { proc_id: ProcId::deserialize(proc_id).ok()?, index: index.parse().ok()? })
        });
        known.map_or_else(|| text.parse().map_err(de::Error::custom), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc_id() -> ProcId {
        ProcId::fresh("Workers_x.y-0", &HostId::fresh("My.Machine")).expect("a good name")
    }

    #[test]
    fn ids_round_trip_through_their_display_forms() {
        let proc_id = proc_id();
        let actor = ActorId::new(proc_id.clone(), "trainer");
        let port = PortId::new(proc_id.clone(), 7);
        assert_eq!(proc_id.to_string().parse(), Ok(proc_id.clone()));
        assert_eq!(actor.to_string().parse(), Ok(actor));
        assert_eq!(port.to_string().parse(), Ok(port));
        assert_eq!(proc_id.name(), "Workers_x.y-0");
        assert!(proc_id.host().starts_with("my-machine-"), "{}", proc_id.host());
    }

    #[test]
    fn the_safe_name_fits_every_substrate_and_stays_unique() {
        let host = HostId::fresh("m");
        let long = "A".repeat(128);
        let (a, b) = (ProcId::fresh(&long, &host).unwrap(), ProcId::fresh(&long, &host).unwrap());
        for name in [a.safe_name(), b.safe_name(), proc_id().safe_name()] {
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'),
                "{name}"
            );
        }
        assert_ne!(a.safe_name(), b.safe_name());
    }

    #[test]
    fn a_bad_name_is_refused_with_its_character_and_index() {
        for (name, needle) in [
            ("", "0 characters"),
            ("a/b", "'/' at index 1"),
            ("-a", "'-' at index 0"),
            ("a\n", "'\\n' at index 1"),
        ] {
            let error = check_name("name", name).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
        assert!(check_name("name", &"a".repeat(129)).is_err());
        assert!(check_name("name", &"a".repeat(128)).is_ok());
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "a@b", "a.12@b", "a.00000000000000000000000000000001@", "..@"] {
            assert!(text.parse::<ProcId>().is_err(), "{text}");
        }
    }
}
