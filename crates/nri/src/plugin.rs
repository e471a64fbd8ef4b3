//! One plugin: registration, configuration, synchronisation, requests, and what follows when it fails.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::NRI_VERSION;
use crate::api::{
    ConfigureRequest, ConfigureResponse, Container, ContainerUpdate, Empty, Event, FailurePolicy, PodSandbox,
    RegisterPluginRequest, StateChangeEvent, SynchronizeRequest, SynchronizeResponse,
};
use crate::connection::{Call, Connection, Serve};
use crate::error::{CallError, Error, Result, Status};
use crate::launch::Process;
use crate::runtime::{Runtime, Snapshot};
use crate::ttrpc::{FAILED_PRECONDITION, INVALID_ARGUMENT, MAX_MESSAGE, UNIMPLEMENTED};
use crate::unsolicited;

/// The service that plugins have.
const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// The service that they call.
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The bits of all events.
const EVERY: i32 = (1 << (Event::Last as i32 - 1)) - 1;
/// Bytes of a synchronisation message that its objects may take: the rest is for the request around them.
const SYNC_BYTES: usize = MAX_MESSAGE - 4096;

/// A plugin that is connected and configured.
pub(crate) struct Plugin {
    pub(crate) index: String,
    pub(crate) base: String,
    connection: Connection,
    events: i32,
    policy: FailurePolicy,
    /// It knows `StateChange` instead of a call for each event.
    legacy: AtomicBool,
    _process: Option<Process>,
}

/// What a plugin of the directory is known by before it registers.
pub(crate) struct Known {
    pub(crate) index: String,
    pub(crate) base: String,
    pub(crate) config: String,
    pub(crate) process: Process,
}

/// What plugins are told of the runtime.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) runtime_name: String,
    pub(crate) runtime_version: String,
    pub(crate) registration: Duration,
    pub(crate) request: Duration,
}

impl Plugin {
    /// Waits for the plugin's registration and configures it.
    pub(crate) async fn start(
        socket: UnixStream,
        known: Option<Known>,
        terms: &Terms,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self> {
        let (sender, registration) = oneshot::channel();
        let configured = watch::Sender::new(false);
        let connection = Connection::start(socket, serve(sender, configured.subscribe(), runtime));
        let from = known.as_ref().map_or_else(|| "that connected".to_owned(), |k| format!("{}-{}", k.index, k.base));
        let registered = tokio::select! {
            registered = tokio::time::timeout(terms.registration, registration) => registered,
            () = connection.closed() => return Err(Error::start(from, "its connection was closed before it registered")),
        };
        let registered = match registered {
            Ok(Ok(registered)) => registered,
            Ok(Err(_)) => return Err(Error::start(from, "its connection was closed before it registered")),
            Err(_) => return Err(Error::start(from, format_args!("not registered within {:?}", terms.registration))),
        };
        let (index, base, config, process) = match known {
            Some(known) => (known.index, known.base, known.config, Some(known.process)),
            None => {
                check_index(&registered.plugin_idx).map_err(|e| Error::start(from.clone(), e))?;
                check_name(&registered.plugin_name).map_err(|e| Error::start(from, e))?;
                (registered.plugin_idx, registered.plugin_name, String::new(), None)
            }
        };
        let request = ConfigureRequest {
            config,
            runtime_name: terms.runtime_name.clone(),
            runtime_version: terms.runtime_version.clone(),
            registration_timeout: millis(terms.registration),
            request_timeout: millis(terms.request),
            nri_version: NRI_VERSION.to_owned(),
        };
        let answer: Result<ConfigureResponse, _> = connection.call(SERVICE, "Configure", &request, terms.request).await;
        let answer = answer.map_err(|e| Error::start(format!("{index}-{base}"), format_args!("configure: {e}")))?;
        if answer.events & !EVERY != 0 {
            return Err(Error::start(
                format!("{index}-{base}"),
                format_args!("unknown events in {:#x}", answer.events),
            ));
        }
        configured.send_replace(true);
        Ok(Self {
            index,
            base,
            connection,
            events: if answer.events == 0 { EVERY } else { answer.events },
            policy: answer.failure_policy.unwrap_or_default(),
            legacy: AtomicBool::new(false),
            _process: process,
        })
    }

    /// `NN-NAME`.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.index, self.base)
    }

    /// Whether its connection is there.
    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_closed()
    }

    /// What is cancelled when its connection has ended.
    pub(crate) fn end(&self) -> CancellationToken {
        self.connection.end()
    }

    /// Whether it asked to hear of `event`.
    pub(crate) fn wants(&self, event: Event) -> bool {
        self.events & (1 << (event as i32 - 1)) != 0
    }

    /// Tells it what exists, in as many messages as that takes; returns the updates it answers with.
    pub(crate) async fn synchronize(&self, snapshot: Snapshot, timeout: Duration) -> Result<Vec<ContainerUpdate>> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut chunks = chunks(snapshot).into_iter().peekable();
        while let Some(chunk) = chunks.next() {
            let more = chunks.peek().is_some();
            let request = SynchronizeRequest { more, ..chunk };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let answer: Result<SynchronizeResponse, _> =
                self.connection.call(SERVICE, "Synchronize", &request, left).await;
            let answer = answer.map_err(|e| Error::start(self.name(), format_args!("synchronize: {e}")))?;
            if !more {
                return Ok(answer.update);
            }
            if !answer.more || !answer.update.is_empty() {
                return Err(Error::start(self.name(), "it cannot be synchronised in several messages"));
            }
        }
        Ok(Vec::new())
    }

    /// A request; no answer when it is not subscribed, or has failed and the request goes on without it.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(
        &self,
        event: Event,
        method: &'static str,
        request: &Q,
        timeout: Duration,
    ) -> Result<Option<A>> {
        if !self.wants(event) {
            return Ok(None);
        }
        match self.connection.call(SERVICE, method, request, timeout).await {
            Ok(answer) => Ok(Some(answer)),
            Err(e) => self.failed(method, e).map(|()| None),
        }
    }

    /// An event: a request whose answer says nothing.
    pub(crate) async fn tell<Q: Message>(
        &self,
        (event, method): (Event, &'static str),
        request: &Q,
        (pod, container): (&PodSandbox, Option<&Container>),
        timeout: Duration,
    ) -> Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        let mut told = Err(CallError::Status(Status { code: UNIMPLEMENTED, message: String::new() }));
        if !self.legacy.load(Relaxed) {
            told = self.connection.call::<_, Empty>(SERVICE, method, request, timeout).await;
        }
        if matches!(&told, Err(CallError::Status(status)) if status.code == UNIMPLEMENTED) {
            self.legacy.store(true, Relaxed);
            if event == Event::UpdatePodSandbox {
                // It is younger than the calls for each event: nobody learns of it by StateChange.
                return Ok(());
            }
            let change =
                StateChangeEvent { event: event.into(), pod: Some(pod.clone()), container: container.cloned() };
            told = self.connection.call(SERVICE, "StateChange", &change, timeout).await;
        }
        told.map(drop).or_else(|e| self.failed(method, e))
    }

    /// A question whose failure is a no. A plugin that does not answer is disconnected as well.
    pub(crate) async fn must<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
        timeout: Duration,
    ) -> Result<A> {
        let answer = self.connection.call(SERVICE, method, request, timeout).await;
        answer.map_err(|e| {
            self.disconnect_for(method, &e);
            Error::Refused { plugin: self.name(), method, reason: e.to_string() }
        })
    }

    /// What follows from a failure: an answer that is an error fails the request; one that does not come costs the
    /// plugin its connection, and the request goes on unless the plugin's policy says otherwise.
    fn failed(&self, method: &'static str, error: CallError) -> Result<()> {
        let fails = matches!(error, CallError::Status(_) | CallError::TooLarge(_)) || self.policy.fail_request;
        self.disconnect_for(method, &error);
        if fails {
            return Err(Error::Refused { plugin: self.name(), method, reason: error.to_string() });
        }
        tracing::warn!(plugin = self.name(), method, %error, "NRI plugin failed, going on without it");
        Ok(())
    }

    fn disconnect_for(&self, method: &'static str, error: &CallError) {
        let end = match error {
            CallError::Closed | CallError::Protocol(_) => true,
            CallError::Timeout(_) => !self.policy.keep_connected,
            CallError::Status(_) | CallError::TooLarge(_) => false,
        };
        if end && self.is_open() {
            tracing::error!(plugin = self.name(), method, %error, "NRI plugin disconnected");
            self.connection.close();
        }
    }
}

/// Answers what a plugin asks of the runtime: first its registration, and once it is configured all else.
fn serve(
    registration: oneshot::Sender<RegisterPluginRequest>,
    configured: watch::Receiver<bool>,
    runtime: Arc<dyn Runtime>,
) -> Serve {
    let registration = Arc::new(Mutex::new(Some(registration)));
    Arc::new(move |Call { method, payload, answered }| {
        let (registration, runtime) = (registration.clone(), runtime.clone());
        let mut configured = configured.clone();
        Box::pin(async move {
            match method.strip_prefix(RUNTIME).and_then(|rest| rest.strip_prefix('/')) {
                Some("RegisterPlugin") => {
                    let request = RegisterPluginRequest::decode(payload.as_slice()).map_err(|e| invalid(&e))?;
                    let sender = registration.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let sender = sender.ok_or_else(|| invalid(&"already registered"))?;
                    sender.send(request).map_err(|_| invalid(&"registered too late"))?;
                    Ok(Vec::new())
                }
                Some("UpdateContainers") => {
                    // Configure is the first call that a plugin answers. What it asks right behind that answer may come
                    // before the answer was looked at; what it asks before may be part of finding the answer.
                    if !answered || configured.wait_for(|configured| *configured).await.is_err() {
                        return Err(Status { code: FAILED_PRECONDITION, message: "not configured yet".to_owned() });
                    }
                    unsolicited::update(payload, runtime.as_ref()).await
                }
                _ => Err(Status { code: UNIMPLEMENTED, message: format!("no method {method:?}") }),
            }
        })
    })
}

pub(crate) fn invalid(reason: &dyn std::fmt::Display) -> Status {
    Status { code: INVALID_ARGUMENT, message: reason.to_string() }
}

/// An index is two digits.
pub(crate) fn check_index(index: &str) -> Result<(), String> {
    let digits = index.len() == 2 && index.bytes().all(|b| b.is_ascii_digit());
    if digits { Ok(()) } else { Err(format!("index {index:?} is not two digits")) }
}

/// A name has no characters that mean something elsewhere.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let good = !name.is_empty() && name.len() <= 255 && name.bytes().all(allowed);
    if good { Ok(()) } else { Err(format!("name {name:?} is empty or has other characters than a-z, A-Z, 0-9, _.+-")) }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Splits a snapshot so that each part fits a message; pods come before their containers.
fn chunks(snapshot: Snapshot) -> Vec<SynchronizeRequest> {
    let (mut all, mut now, mut used) = (Vec::new(), SynchronizeRequest::default(), 0);
    let mut room = |now: &mut SynchronizeRequest, size: usize| {
        // Tag and length of the field.
        let size = size + 8;
        if used > 0 && used + size > SYNC_BYTES {
            all.push(std::mem::take(now));
            used = 0;
        }
        used += size;
    };
    for pod in snapshot.pods {
        room(&mut now, pod.encoded_len());
        now.pods.push(pod);
    }
    for container in snapshot.containers {
        room(&mut now, container.encoded_len());
        now.containers.push(container);
    }
    all.push(now);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices() {
        assert!(check_index("07").is_ok() && check_name("a-b_c.d+1").is_ok());
        for wrong in ["", "7", "a7", "007", "٠1"] {
            assert!(check_index(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "a/b", "a b", "é"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_one_message_goes_into_several() {
        let pods = (0..10).map(|n| PodSandbox { id: n.to_string(), ..PodSandbox::default() }).collect::<Vec<_>>();
        let large = |n: usize| Container { id: n.to_string(), args: vec!["x".repeat(1 << 20)], ..Container::default() };
        let containers: Vec<_> = (0..7).map(large).collect();
        let chunks = chunks(Snapshot { pods: pods.clone(), containers: containers.clone() });
        assert_eq!(chunks.len(), 3);
        assert!(chunks.iter().all(|chunk| chunk.encoded_len() <= SYNC_BYTES));
        assert_eq!(chunks.iter().flat_map(|c| c.pods.clone()).collect::<Vec<_>>(), pods);
        assert_eq!(chunks.iter().flat_map(|c| c.containers.clone()).collect::<Vec<_>>(), containers);
        assert_eq!(self::chunks(Snapshot::default()).len(), 1);
    }
}
