use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use zbus::connection::Builder;
use zbus::{
    Connection, DBusError, DynamicType, Error, Message, MessageStream, OwnedObjectPath, OwnedVariant, fdo,
};

/// How long a manager may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const SYSTEMD: &str = "org.freedesktop.systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const DAEMON: (&str, &str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
/// What is listened to: ends of jobs, units that go, and changes of units.
const RULES: [&str; 3] = [
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='UnitRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',\
     path_namespace='/org/freedesktop/systemd1/unit',arg0='org.freedesktop.systemd1.Service'",
];

/// Why something asked of a manager was not done.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It said no.
    Refused { name: String, text: String },
    /// It has not answered. What was asked may have been done.
    Unreachable(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { text, .. } => f.write_str(text),
            Self::Unreachable(why) => write!(f, "the bus of systemd does not answer ({why}); is it running?"),
        }
    }
}

impl Failed {
    /// There is no such unit, or nothing in it that lives.
    pub(crate) fn is_missing(&self) -> bool {
        let Self::Refused { name, .. } = self else { return false };
        name.ends_with(".NoSuchUnit") || name.ends_with(".NoSuchProcess")
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::MethodError(name, text, _) => {
                Self::Refused { text: text.unwrap_or_else(|| name.to_string()), name: name.to_string() }
            }
            // What the bus itself says of a manager that is not there.
            Error::FDO(error) => match *error {
                fdo::Error::ServiceUnknown(_)
                | fdo::Error::NameHasNoOwner(_)
                | fdo::Error::NoReply(_)
                | fdo::Error::Disconnected(_)
                | fdo::Error::ZBus(_) => Self::Unreachable(error.to_string()),
                _ => Self::Refused { name: error.name().to_string(), text: error.to_string() },
            },
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// The one connection of a launcher to its manager, made again when it was lost, and what comes over it.
pub(crate) struct Bus {
    address: String,
    /// The connection lives here, whoever asks over it.
    runtime: Handle,
    link: tokio::sync::Mutex<Option<Link>>,
    heard: Arc<Heard>,
}

/// Stops listening when it is dropped.
struct Link(Connection, AbortHandle);

impl Drop for Link {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// Who waits for what comes.
#[derive(Default)]
struct Heard {
    /// For a change of a unit, by its object.
    units: Mutex<HashMap<String, Arc<Notify>>>,
    /// For the result of the job of a unit, by its name.
    jobs: Mutex<HashMap<String, oneshot::Sender<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn take(&self, message: &Message) -> Result<(), Error> {
        let header = message.header();
        let body = message.body();
        match header.member().map(|member| member.as_str()) {
            Some("JobRemoved") => {
                let (_, _, unit, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
                if let Some(waits) = lock(&self.jobs).remove(&unit) {
                    let _no_more = waits.send(result);
                }
            }
            Some("UnitRemoved") => {
                let (_, object): (String, OwnedObjectPath) = body.deserialize()?;
                self.wake(object.as_str());
            }
            Some("PropertiesChanged") => {
                if let Some(object) = header.path() {
                    self.wake(object.as_str());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn wake(&self, object: &str) {
        if let Some(waits) = lock(&self.units).get(object) {
            waits.notify_waiters();
        }
    }

    /// Nothing comes any more.
    fn end(&self) {
        lock(&self.jobs).clear();
        lock(&self.units).values().for_each(|waits| waits.notify_waiters());
    }
}

/// Whoever waits for the result of a job.
pub(crate) struct Job<'a> {
    heard: &'a Heard,
    unit: &'a str,
    result: oneshot::Receiver<String>,
}

impl Job<'_> {
    /// None when the connection was lost before.
    pub(crate) async fn result(mut self) -> Option<String> {
        (&mut self.result).await.ok()
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        lock(&self.heard.jobs).remove(self.unit);
    }
}

/// Whoever waits for changes of a unit; forgotten with the last of them.
pub(crate) struct Watched<'a> {
    heard: &'a Heard,
    object: String,
    pub(crate) changed: Arc<Notify>,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut units = lock(&self.heard.units);
        // One is in the map, and one is this.
        if units.get(&self.object).is_some_and(|changed| Arc::strong_count(changed) == 2) {
            units.remove(&self.object);
        }
    }
}

impl Bus {
    /// # Errors
    /// Nothing answers there.
    pub(crate) async fn connect(address: &str) -> Result<Self, Failed> {
        let (address, runtime) = (address.to_owned(), Handle::current());
        let bus = Self { address, runtime, link: tokio::sync::Mutex::default(), heard: Arc::default() };
        bus.reach().await?;
        Ok(bus)
    }

    /// # Errors
    /// It is not connected, and cannot be.
    pub(crate) async fn reach(&self) -> Result<(), Failed> {
        self.connection().await.map(drop)
    }

    async fn connection(&self) -> Result<Connection, Failed> {
        let mut link = self.link.lock().await;
        if let Some(Link(connection, _)) = link.as_ref().filter(|link| !link.0.is_closed()) {
            return Ok(connection.clone());
        }
        let (address, heard) = (self.address.clone(), Arc::clone(&self.heard));
        let made = self.runtime.spawn(async move { open(&address, heard).await }).await;
        let made = made.map_err(|error| Failed::Unreachable(error.to_string()))??;
        let connection = made.0.clone();
        *link = Some(made);
        Ok(connection)
    }

    /// Asks the manager.
    pub(crate) async fn manager<B>(&self, method: &str, body: &B) -> Result<Message, Failed>
    where
        B: Serialize + DynamicType + Sync,
    {
        let (path, interface) = MANAGER;
        let connection = self.connection().await?;
        Ok(connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await?)
    }

    /// A property of the manager.
    pub(crate) async fn of_manager<T>(&self, name: &str) -> Result<T, Failed>
    where
        T: TryFrom<OwnedVariant, Error = Error>,
    {
        self.property(MANAGER.0, MANAGER.1, name).await
    }

    /// A property of the unit: of `Unit` or of `Service`.
    pub(crate) async fn of_unit<T>(&self, unit: &str, interface: &str, name: &str) -> Result<T, Failed>
    where
        T: TryFrom<OwnedVariant, Error = Error>,
    {
        self.property(&object(unit), &format!("{SYSTEMD}.{interface}"), name).await
    }

    async fn property<T>(&self, path: &str, interface: &str, name: &str) -> Result<T, Failed>
    where
        T: TryFrom<OwnedVariant, Error = Error>,
    {
        let connection = self.connection().await?;
        let asked = (interface, name);
        let answer = connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &asked).await?;
        let value: OwnedVariant = answer.body().deserialize()?;
        Ok(T::try_from(value)?)
    }

    /// The types of all properties of services, by what the manager says of the object of one.
    pub(crate) async fn described(&self) -> Result<String, Failed> {
        let (path, interface) = (object("dbus.service"), "org.freedesktop.DBus.Introspectable");
        let connection = self.connection().await?;
        let answer = connection.call_method(Some(SYSTEMD), path, Some(interface), "Introspect", &()).await?;
        Ok(answer.body().deserialize()?)
    }

    /// The user and the process of the manager.
    pub(crate) async fn owner(&self) -> Result<(u32, u32), Failed> {
        let connection = self.connection().await?;
        let mut numbers = [0; 2];
        for (number, method) in
            numbers.iter_mut().zip(["GetConnectionUnixUser", "GetConnectionUnixProcessID"])
        {
            let (destination, path, interface) = DAEMON;
            let answer =
                connection.call_method(Some(destination), path, Some(interface), method, &SYSTEMD).await?;
            *number = answer.body().deserialize()?;
        }
        Ok((numbers[0], numbers[1]))
    }

    /// The next job of that unit which ends.
    pub(crate) fn job<'a>(&'a self, unit: &'a str) -> Job<'a> {
        let (waits, result) = oneshot::channel();
        lock(&self.heard.jobs).insert(unit.to_owned(), waits);
        Job { heard: &self.heard, unit, result }
    }

    /// Tells of changes of the unit, and of the end of the connection.
    pub(crate) fn watch(&self, unit: &str) -> Watched<'_> {
        let object = object(unit);
        let changed = Arc::clone(lock(&self.heard.units).entry(object.clone()).or_default());
        Watched { heard: &self.heard, object, changed }
    }
}

async fn open(address: &str, heard: Arc<Heard>) -> Result<Link, Failed> {
    let builder = match address {
        "user" => Builder::session(),
        "system" => Builder::system(),
        address => Builder::address(address),
    };
    let connection = builder.method_timeout(TIMEOUT).build().await?;
    let mut stream = MessageStream::from(&connection);
    for rule in RULES {
        let (destination, path, interface) = DAEMON;
        connection.call_method(Some(destination), path, Some(interface), "AddMatch", &rule).await?;
    }
    // Until somebody says that he listens a manager tells nothing.
    let (path, interface) = MANAGER;
    connection.call_method(Some(SYSTEMD), path, Some(interface), "Subscribe", &()).await?;
    let listening = tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if let Err(error) = heard.take(&message) {
                tracing::warn!(%error, "systemd said something that is not understood");
            }
        }
        heard.end();
    });
    Ok(Link(connection, listening.abort_handle()))
}

/// The object of a unit: what is no letter or digit of its name is written in hexadecimal.
fn object(unit: &str) -> String {
    let mut path = format!("{}/unit/", MANAGER.0);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_of_a_unit_is_named_as_systemd_does() {
        assert_eq!(object("a-1.service"), "/org/freedesktop/systemd1/unit/a_2d1_2eservice");
        assert_eq!(object("1"), "/org/freedesktop/systemd1/unit/_31");
    }
}
