//! Requests: what each asks for is checked here and done where it belongs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use cricket_wire::{
    Adopt, Code, Containers, Empty, Exec, Handles, Held, HeldFd, HelloReply, Hold, Request, RequestKind, ResponseKind,
    Run, Stream, VERSION,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::containers::{Container, Making, Start, State};
use crate::execs::ExecJob;
use crate::jobs::{HelperFds, Purpose};
use crate::log::Command;
use crate::supervisor::Supervisor;

/// Descriptors that a monitor holds at most; a pod has seven kinds of namespaces.
const MAX_HELD: usize = 32;

/// Why a request is not carried out.
pub(crate) type Refusal = (Code, String);
/// What is answered now; `None`: the answer comes later.
pub(crate) type Answer = Result<Option<(ResponseKind, Vec<Arc<OwnedFd>>)>, Refusal>;

const DONE: ResponseKind = ResponseKind::Done(Empty {});

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    (Code::Invalid, message.into())
}

pub(crate) fn host(what: &str) -> impl FnOnce(io::Error) -> Refusal {
    move |error| (Code::Host, format!("{what}: {error}"))
}

impl Supervisor {
    /// Carries out a request. Descriptors that it does not want are closed.
    pub(crate) fn request(&mut self, client: u64, request: Request, fds: Vec<OwnedFd>) {
        let id = request.id;
        let answer = match request.kind {
            None => Err((Code::Unknown, "a request that this monitor does not know".to_owned())),
            Some(RequestKind::Hello(hello)) => Ok(Some((
                ResponseKind::Hello(HelloReply {
                    version: hello.version.min(VERSION),
                    pid: std::process::id().cast_signed(),
                    sandbox_id: self.sandbox_id.clone(),
                    started_at: self.started_at,
                }),
                vec![],
            ))),
            Some(RequestKind::Hold(hold)) => self.hold(hold, fds),
            Some(RequestKind::Fetch(_)) => {
                let fds = self.held.iter().map(|(_, fd)| fd.clone()).collect();
                Ok(Some((ResponseKind::Held(self.held_names()), fds)))
            }
            Some(RequestKind::Run(run)) => self.run_container(client, id, run, fds),
            Some(RequestKind::Exec(exec)) => self.run_exec(client, id, exec, fds),
            Some(RequestKind::Cancel(cancel)) => return self.cancel(client, cancel.request),
            Some(RequestKind::ReopenLog(named)) => self.reopen_log(client, id, &named.container_id),
            Some(RequestKind::List(_)) => {
                let containers = self.containers.values().map(Container::facts).collect();
                Ok(Some((ResponseKind::Containers(Containers { containers }), vec![])))
            }
            Some(RequestKind::Forget(named)) => self.forget(&named.container_id),
            Some(RequestKind::Adopt(adopt)) => self.adopt(client, id, adopt, fds),
            Some(RequestKind::Leave(_)) => self.leave(),
            Some(RequestKind::Handles(named)) => self.handles(&named.container_id),
            Some(RequestKind::CloseStdin(named)) => self.close_stdin(&named.container_id),
            Some(RequestKind::Abandon(named)) => self.abandon(&named.container_id),
            Some(RequestKind::Attach(attach)) => self.attach(client, id, &attach, fds),
        };
        match answer {
            Ok(Some((kind, fds))) => self.answer(client, id, kind, fds),
            Ok(None) => {}
            Err((code, message)) => self.refuse(client, id, code, message),
        }
    }

    pub(crate) fn find(&self, id: &str) -> Result<u64, Refusal> {
        let found = self.containers.iter().find(|(_, container)| container.run.container_id == id);
        found.map(|(key, _)| *key).ok_or_else(|| (Code::NotFound, format!("no container {id}")))
    }

    fn check_new(&self, id: &str) -> Result<(), Refusal> {
        match self.find(id) {
            _ if id.is_empty() => Err(invalid("a container without id")),
            Ok(_) => Err((Code::Conflict, format!("container {id} exists"))),
            Err(_) => Ok(()),
        }
    }

    fn hold(&mut self, hold: Hold, fds: Vec<OwnedFd>) -> Answer {
        let new = hold.names.iter().filter(|name| !self.held.iter().any(|(held, _)| held == *name)).count();
        if hold.names.len() != fds.len() || self.held.len() + new > MAX_HELD {
            return Err(invalid(format!("{} names for {} descriptors", hold.names.len(), fds.len())));
        }
        for (name, fd) in hold.names.into_iter().zip(fds) {
            self.held.retain(|(held, _)| *held != name);
            self.held.push((name, Arc::new(fd)));
        }
        Ok(Some((ResponseKind::Held(self.held_names()), vec![])))
    }

    fn held_names(&self) -> Held {
        let name = |(name, fd): &(String, Arc<OwnedFd>)| HeldFd { name: name.clone(), number: fd.as_raw_fd() };
        Held { fds: self.held.iter().map(name).collect() }
    }

    fn run_container(&mut self, client: u64, request: u64, run: Run, fds: Vec<OwnedFd>) -> Answer {
        self.check_new(&run.container_id)?;
        let mut fds = fds.into_iter();
        let (Some(executable), Some(config)) = (fds.next(), fds.next()) else {
            return Err(invalid("a container without helper or configuration"));
        };
        let has_output = run.log.is_some() || run.tty || run.attachable;
        let (mut theirs, mut stdio) = (Vec::new(), Vec::new());
        for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
            let wanted = !run.tty && if stream == Stream::Stdin { run.stdin } else { has_output };
            let (their, our) = ends(stream, wanted).map_err(host("make the container's stdio"))?;
            theirs.push(Arc::new(their));
            stdio.extend(our.map(|fd| (stream, Arc::new(fd))));
        }
        let [stdin, stdout, stderr] = &theirs[..] else { return Err(invalid("stdio")) };
        let fds = HelperFds {
            stdio: [stdin.clone(), stdout.clone(), stderr.clone()],
            executable,
            config,
            extra: fds.collect(),
        };
        let key = self.next();
        let outputs = stdio.iter().filter(|(stream, _)| *stream != Stream::Stdin).cloned().collect();
        let open = Command::Open { key, log: run.log.clone(), inputs: outputs };
        let making = Making::Log(Box::new(Start { asked: (client, request), fds }));
        let mut container = Container::new(run, making, has_output);
        container.stdio = stdio;
        self.containers.insert(key, container);
        if !has_output {
            self.start_making(key);
        } else if let Err(error) = self.logs.send(open) {
            self.containers.remove(&key);
            return Err(host("start the log thread")(error));
        }
        Ok(None)
    }

    fn run_exec(&mut self, client: u64, request: u64, exec: Exec, fds: Vec<OwnedFd>) -> Answer {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(|| invalid("an exec with too few descriptors"));
        let (executable, config) = (next()?, next()?);
        let stdio = [Arc::new(next()?), Arc::new(next()?), Arc::new(next()?)];
        let leaves: Vec<PathBuf> = exec.leaves.iter().map(PathBuf::from).collect();
        if leaves.iter().any(|leaf| !leaf.is_absolute() || leaf.parent().is_none()) {
            return Err(invalid("a cgroup that is no absolute directory"));
        }
        let purpose = Purpose::Exec(Box::new(ExecJob::new(leaves, exec.silent_start)));
        let fds = HelperFds { stdio, executable, config, extra: fds.collect() };
        let job = self.start_helper((client, request), purpose, &exec.args, fds);
        let job = job.map_err(host("start the helper"))?;
        self.exec_clock(job, exec.timeout_ms);
        Ok(None)
    }

    /// Not answered itself: the request that it names is.
    fn cancel(&mut self, client: u64, request: u64) {
        let named = |job: &crate::jobs::Job| job.client == client && job.request == request && !job.done;
        let Some((key, job)) = self.jobs.iter().find(|(_, job)| named(job)) else {
            return self.cancel_start(client, request);
        };
        match (*key, &job.purpose) {
            (key, Purpose::Exec(_)) => self.exec_kill(key),
            (key, Purpose::Run(container)) => {
                self.run_failed(key, *container, Code::Cancelled, "cancelled".to_owned(), None);
            }
        }
    }

    fn cancel_start(&mut self, client: u64, request: u64) {
        let waits = |container: &Container| match &container.state {
            State::Making(Making::Log(start)) => start.asked == (client, request),
            _ => false,
        };
        if let Some(key) = self.containers.iter().find(|(_, container)| waits(container)).map(|(key, _)| *key) {
            self.forget_making(key);
            self.refuse(client, request, Code::Cancelled, "cancelled");
        }
    }

    /// As [`Self::cancel`], for a daemon that does not know the request any more: an earlier one made it.
    fn abandon(&mut self, id: &str) -> Answer {
        let Ok(key) = self.find(id) else { return Ok(Some((DONE, vec![]))) };
        let waits = match self.containers.get(&key).map(|container| &container.state) {
            Some(State::Making(Making::Log(start))) => Some(start.asked),
            Some(State::Making(Making::Helper)) => None,
            Some(State::Exited(_)) => return Ok(Some((DONE, vec![]))),
            _ => return Err((Code::Conflict, format!("container {id} runs"))),
        };
        let makes = |job: &crate::jobs::Job| matches!(job.purpose, Purpose::Run(made) if made == key) && !job.done;
        let job = self.jobs.iter().find(|(_, job)| makes(job)).map(|(job, _)| *job);
        match (waits, job) {
            (None, Some(job)) => self.run_failed(job, key, Code::Cancelled, "abandoned".to_owned(), None),
            (asked, _) => {
                self.forget_making(key);
                if let Some((client, request)) = asked {
                    self.refuse(client, request, Code::Cancelled, "abandoned");
                }
            }
        }
        Ok(Some((DONE, vec![])))
    }

    fn reopen_log(&mut self, client: u64, request: u64, id: &str) -> Answer {
        let key = self.find(id)?;
        let Some(container) = self.containers.get(&key).filter(|container| container.has_output) else {
            return Ok(Some((DONE, vec![])));
        };
        if matches!(container.state, State::Exited(_)) {
            return Err((Code::Conflict, format!("container {id} has exited")));
        }
        let ticket = self.next();
        self.logs.send(Command::Reopen { key, ticket }).map_err(host("wake the log thread"))?;
        self.tickets.insert(ticket, (client, request));
        Ok(None)
    }

    /// The log thread has opened a log again, or not.
    pub(crate) fn log_reopened(&mut self, ticket: u64, error: Option<io::Error>) {
        let Some((client, request)) = self.tickets.remove(&ticket) else { return };
        match error {
            None => self.answer(client, request, DONE, vec![]),
            Some(error) => self.refuse(client, request, Code::Host, format!("open the log again: {error}")),
        }
    }

    fn forget(&mut self, id: &str) -> Answer {
        if let Ok(key) = self.find(id) {
            match self.containers.get(&key).map(|container| &container.state) {
                Some(State::Exited(_)) => self.containers.remove(&key),
                _ => return Err((Code::Conflict, format!("container {id} runs"))),
            };
        }
        Ok(Some((DONE, vec![])))
    }

    fn adopt(&mut self, client: u64, request: u64, adopt: Adopt, fds: Vec<OwnedFd>) -> Answer {
        let streams: Vec<Stream> = adopt.streams().collect();
        let run = adopt.run.ok_or_else(|| invalid("an adoption without container"))?;
        self.check_new(&run.container_id)?;
        let mut fds = fds.into_iter().map(Arc::new);
        let pidfd = fds.next().ok_or_else(|| invalid("an adoption without pidfd"))?;
        let stdio: Vec<(Stream, Arc<OwnedFd>)> = streams.into_iter().zip(fds).collect();
        for (_, fd) in &stdio {
            // The reading ends do not block already; a monitor must not trust in that.
            rustix::io::ioctl_fionbio(fd, true).map_err(|error| host("adopt the stdio")(error.into()))?;
        }
        let key = self.next();
        let inputs = stdio.iter().filter(|(stream, _)| *stream != Stream::Stdin).cloned().collect();
        self.logs.send(Command::Open { key, log: run.log.clone(), inputs }).map_err(host("start the log thread"))?;
        let mut container = Container::adopted(run, (client, request), adopt.pid, pidfd, adopt.created_at);
        container.stdio = stdio;
        self.containers.insert(key, container);
        self.count_kills(key);
        Ok(None)
    }

    fn leave(&mut self) -> Answer {
        if let Some(container) = self.containers.values().find(|c| !matches!(c.state, State::Exited(_))) {
            return Err((Code::Conflict, format!("container {} has not exited", container.run.container_id)));
        }
        let execs: Vec<u64> = self.jobs.keys().copied().collect();
        for job in execs {
            self.exec_kill(job);
        }
        self.leaving = true;
        Ok(Some((DONE, vec![])))
    }

    fn handles(&self, id: &str) -> Answer {
        let Some(container) = self.containers.get(&self.find(id)?) else { return Err((Code::NotFound, id.to_owned())) };
        // Input that ends with a session must not be kept open by whoever is told of it now.
        let given = |(stream, _): &&(Stream, _)| *stream != Stream::Stdin || !container.stdin_claimed;
        let (streams, stdio): (Vec<i32>, Vec<_>) =
            container.stdio.iter().filter(given).map(|(stream, fd)| (i32::from(*stream), fd)).unzip();
        let handles = Handles {
            container: Some(container.facts()),
            pidfd: container.pidfd.is_some(),
            streams,
            created_at: container.created_at,
        };
        let fds = container.pidfd.iter().chain(stdio).cloned().collect();
        Ok(Some((ResponseKind::Handles(handles), fds)))
    }

    fn close_stdin(&mut self, id: &str) -> Answer {
        let key = self.find(id)?;
        self.input_ended(key);
        if self.containers.get(&key).is_some_and(|container| container.sessions > 0) {
            self.logs.send(Command::CloseInput { key }).map_err(host("wake the log thread"))?;
        }
        Ok(Some((DONE, vec![])))
    }
}

/// The helper's end of a standard stream and ours; `/dev/null` where nobody wants it.
fn ends(stream: Stream, wanted: bool) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    if !wanted {
        let null = File::options().read(true).write(stream != Stream::Stdin).open("/dev/null")?;
        return Ok((null.into(), None));
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (theirs, ours) = if stream == Stream::Stdin { (reader, writer) } else { (writer, reader) };
    // Only our end: the flag belongs to the open file, and applications expect theirs to block.
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((theirs, Some(ours)))
}
