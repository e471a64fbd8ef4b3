//! systemd as the maker of control groups: containers are scopes (systemd.scope(5)) below the kubelet's slices.
//!
//! ```text
//! a process is started that waits ─▶ StartTransientUnit(scope, PIDs=[it]) ─▶ JobRemoved ─▶ the cgroup is there
//! ─▶ the container's init joins it ─▶ the waiting process ends ─▶ the scope lives as long as its last process
//! ```
//!
//! Every limit that systemd has a property for is given to it as well as written: a `daemon-reload` writes the unit's
//! properties again. What has no property is written again after it ([`written_over`]). systemd removes a scope's cgroup
//! with its last process.

mod devices;
mod properties;
mod reload;
mod slice;

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use zbus::OwnedObjectPath;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, Variant};

pub use devices::DeviceRule;
pub use reload::{Reloads, written_over};
pub use slice::{scope_path, slice_path};

use crate::Resources;

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// How long systemd may take for a job.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why systemd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The bus cannot be reached, or refused the call.
    #[error("systemd, {action} {unit}: {source}")]
    Bus {
        /// What was asked.
        action: &'static str,
        /// Of which unit.
        unit: String,
        /// The bus's or systemd's answer.
        source: zbus::Error,
    },
    /// The job ended otherwise than `done`.
    #[error("systemd, {action} {unit}: the job ended as {result:?}")]
    Job {
        /// What was asked.
        action: &'static str,
        /// Of which unit.
        unit: String,
        /// systemd's word.
        result: String,
    },
    /// It said nothing in time.
    #[error("systemd, {action} {unit}: no answer within {} s", PATIENCE.as_secs())]
    TimedOut {
        /// What was asked.
        action: &'static str,
        /// Of which unit.
        unit: String,
    },
    /// A limit that no unit can have.
    #[error(transparent)]
    Invalid(#[from] crate::Error),
}

/// A connection to systemd's manager over the system bus; made when it is first needed, and again when it was lost.
#[derive(Debug, Default)]
pub struct Systemd {
    connection: Mutex<Option<Connection>>,
}

/// A container's scope.
#[derive(Debug)]
pub struct Scope<'a> {
    /// `cricket-ID.scope`.
    pub name: &'a str,
    /// The slice it is in, `a-b.slice`.
    pub slice: &'a str,
    /// For `systemctl status`.
    pub description: &'a str,
    /// Its first process, which has to live until another one has joined.
    pub pid: u32,
    /// Its limits.
    pub resources: &'a Resources,
    /// What devices may be used; `None`: no rule.
    pub devices: Option<&'a [DeviceRule]>,
}

type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

impl Systemd {
    /// Makes a scope and waits until it is there. One that is left of an earlier failure is forgotten first.
    ///
    /// # Errors
    /// See [`SystemdError`].
    pub async fn start_scope(&self, scope: &Scope<'_>) -> Result<(), SystemdError> {
        let mut all: Properties<'_> = vec![
            ("Description", scope.description.into()),
            ("Slice", scope.slice.into()),
            ("PIDs", vec![scope.pid].into()),
            // The daemon and the container's own init (where it may) make cgroups below.
            ("Delegate", true.into()),
            ("DefaultDependencies", false.into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("CPUAccounting", true.into()),
            ("IOAccounting", true.into()),
            ("MemoryAccounting", true.into()),
            ("TasksAccounting", true.into()),
        ];
        all.extend(properties::of(scope.resources)?);
        all.extend(scope.devices.map(devices::properties).unwrap_or_default());
        let none: Vec<(&str, Properties<'_>)> = Vec::new();
        let action = "make the scope";
        self.job(action, scope.name, "StartTransientUnit", &(scope.name, "fail", all, none)).await
    }

    /// Changes limits of a unit, until it is gone.
    ///
    /// # Errors
    /// See [`SystemdError`].
    pub async fn set(&self, unit: &str, resources: &Resources) -> Result<(), SystemdError> {
        let properties = properties::of(resources)?;
        if properties.is_empty() {
            return Ok(());
        }
        let action = "set properties of";
        let connection = self.connection(action, unit).await?;
        // Not kept for the next boot.
        self.call(&connection, action, unit, "SetUnitProperties", &(unit, true, properties)).await.map(drop)
    }

    /// Calls a method that starts a job and waits for the job's end.
    async fn job<B>(&self, action: &'static str, unit: &str, method: &str, body: &B) -> Result<(), SystemdError>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let bus = |source| SystemdError::Bus { action, unit: unit.to_owned(), source };
        let connection = self.connection(action, unit).await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SERVICE)
            .interface(INTERFACE)
            .member("JobRemoved")
            .build()
            .map_err(bus)?;
        // Before the call: the job may end before its answer is read.
        let mut removed = MessageStream::for_match_rule(rule, &connection, None).await.map_err(bus)?;
        let answer = self.call(&connection, action, unit, method, body).await?;
        let job: OwnedObjectPath = answer.body().deserialize().map_err(bus)?;
        let ended = async {
            while let Some(message) = removed.next().await {
                let message = message.map_err(bus)?;
                let body = message.body();
                let (_, path, _, result): (u32, OwnedObjectPath, &str, &str) = body.deserialize().map_err(bus)?;
                if path == job {
                    return Ok(result.to_owned());
                }
            }
            Err(bus(zbus::Error::Failure("the bus closed the connection".into())))
        };
        let timed_out = |_| SystemdError::TimedOut { action, unit: unit.to_owned() };
        match tokio::time::timeout(PATIENCE, ended).await.map_err(timed_out)?? {
            result if result == "done" => Ok(()),
            result => Err(SystemdError::Job { action, unit: unit.to_owned(), result }),
        }
    }

    async fn call<B>(
        &self,
        connection: &Connection,
        action: &'static str,
        unit: &str,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, SystemdError>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let call = connection.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), method, body);
        let answer = tokio::time::timeout(PATIENCE, call).await;
        let answer = answer.map_err(|_| SystemdError::TimedOut { action, unit: unit.to_owned() })?;
        if matches!(answer, Err(zbus::Error::InputOutput(_))) {
            // The bus went; the next call finds it again.
            self.connection.lock().await.take();
        }
        answer.map_err(|source| SystemdError::Bus { action, unit: unit.to_owned(), source })
    }

    async fn connection(&self, action: &'static str, unit: &str) -> Result<Connection, SystemdError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref() {
            return Ok(connection.clone());
        }
        let bus = |source| SystemdError::Bus { action, unit: unit.to_owned(), source };
        let new = async {
            let connection = Connection::system().await?;
            // Else it sends no signals.
            connection.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "Subscribe", &()).await?;
            Ok(connection)
        };
        let timed_out = |_| SystemdError::TimedOut { action, unit: unit.to_owned() };
        let connection = tokio::time::timeout(PATIENCE, new).await.map_err(timed_out)?.map_err(bus)?;
        Ok(held.insert(connection).clone())
    }
}
