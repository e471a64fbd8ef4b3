//! What a pod's shim tells by itself, which is heard by what waits for the pod's first container, in its bundle: the log,
//! of which the end is kept, and events, of which a container's want of memory leaves a mark.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use cricket_shim::{Event, Events};
use cricket_wire::launch_config::SHIM_OOM_MARKS;
use rustix::fs::{CWD, FileType, Mode, OFlags};

/// The FIFO that shims write to (containerd, `core/runtime/v2/README.md`, "Logging").
const LOG: &str = "log";
/// What came out of it.
const KEPT: &str = "shim.log";
/// What came out of it before that.
const KEPT_BEFORE: &str = "shim.log.old";
/// Most bytes of each of the two: they are in memory.
const MAX_KEPT: usize = 256 << 10;
/// Bytes that a shim can write before somebody reads: it is heard only when it has made the first container.
const PIPE_SIZE: usize = 1 << 20;
/// Where events are taken: short, the bundle's path is long.
const EVENTS: &str = "told";
/// Longest path of a socket (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// Connections that events are taken from; a shim has one.
const MAX_CONNECTIONS: usize = 4;
/// Marks that are left at the same time: each goes with its container.
const MAX_MARKS: usize = 1024;

/// Where the pod's shim finds the events service; `None` where no socket can be.
pub(super) fn events_path(bundle: &Path) -> Option<PathBuf> {
    Some(bundle.join(EVENTS)).filter(|path| path.as_os_str().len() <= MAX_SOCKET_PATH)
}

/// Holds the shim's log open: one that has no reader any more would make writers fail, or end.
pub(super) fn hold_log(bundle: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(bundle.join(LOG), flags, Mode::empty()).ok()
}

/// Takes a container's mark away.
pub(super) fn forget(bundle: &Path, id: &str) {
    let _ = fs::remove_file(bundle.join(SHIM_OOM_MARKS).join(id));
}

/// The ends that are to be heard at.
pub(super) struct Told {
    bundle: PathBuf,
    /// Both ends of the FIFO: a shim may open it at any time, and none that has it open makes it end.
    log: OwnedFd,
    events: Option<UnixListener>,
}

impl Told {
    /// Makes them, in place of what an earlier attempt left.
    pub(super) fn prepare(bundle: &Path) -> io::Result<Self> {
        let path = bundle.join(LOG);
        remove(&path)?;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let log = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // What cannot be had is only comfort.
        let _ = rustix::pipe::fcntl_setpipe_size(&log, PIPE_SIZE);
        let events =
            events_path(bundle).map(|path| remove(&path).and_then(|()| UnixListener::bind(path))).transpose()?;
        Ok(Self { bundle: bundle.to_owned(), log, events })
    }

    /// Gives them to what will [`hear`].
    pub(super) fn give_to(&self, keeper: &mut Command) -> io::Result<()> {
        keeper.current_dir(&self.bundle).stdin(self.log.try_clone()?);
        if let Some(events) = &self.events {
            keeper.stdout(OwnedFd::from(events.try_clone()?));
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Has threads hear the log at descriptor 0 and events at descriptor 1, in the bundle of the pod's first container, as
/// long as this process runs. What is given back says, at most once, that the shim has told of the end of the container
/// with this ID, or can tell of nothing.
pub(super) fn hear(id: &str) -> Receiver<()> {
    let (tell, told) = mpsc::channel();
    let id: Arc<str> = id.into();
    std::thread::spawn(keep_log);
    std::thread::spawn(move || take_events(&id, tell));
    told
}

/// What cannot be kept is lost: the shim must not wait.
fn keep_log() -> io::Result<()> {
    let mut log = File::from(crate::sys::stdio(0).try_clone_to_owned()?);
    let (mut kept, mut size) = (File::create(KEPT)?, 0);
    let mut buffer = [0; 4096];
    loop {
        let read = match log.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if size + read > MAX_KEPT {
            let _ = fs::rename(KEPT, KEPT_BEFORE);
            (kept, size) = (File::create(KEPT)?, 0);
        }
        size += read;
        let _ = kept.write_all(&buffer[..read]);
    }
}

fn take_events(id: &Arc<str>, tell: Sender<()>) -> io::Result<()> {
    let listener = UnixListener::from(crate::sys::stdio(1).try_clone_to_owned()?);
    let open = Arc::new(());
    loop {
        let (connection, _) = listener.accept()?;
        if Arc::strong_count(&open) <= MAX_CONNECTIONS {
            let (open, id, tell) = (open.clone(), id.clone(), tell.clone());
            std::thread::spawn(move || take_from(connection, open, &id, &tell));
        }
    }
}

fn take_from(connection: UnixStream, _open: Arc<()>, first: &str, tell: &Sender<()>) {
    let mut events = Events::new(connection);
    while let Ok(Some(event)) = events.next_event() {
        match event {
            Event::OutOfMemory(id) => {
                let _ = mark(Path::new(SHIM_OOM_MARKS), &id);
            }
            Event::Ended(id) if id == first => {
                let _ = tell.send(());
            }
            Event::Ended(_) | Event::Other => {}
        }
    }
}

fn mark(marks: &Path, id: &str) -> io::Result<()> {
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    match fs::create_dir(marks) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if fs::read_dir(marks)?.count() < MAX_MARKS {
        File::create(marks.join(id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_those_of_containers() {
        let dir = tempfile::tempdir().expect("directory");
        let marks = dir.path().join("marks");
        let fine = "a1b2".repeat(16);
        for id in [&fine, "../escape", "", &"../a".repeat(16), &"f".repeat(65), "."] {
            mark(&marks, id).expect("mark");
        }
        let left: Vec<_> = fs::read_dir(&marks).expect("marks").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [fine.as_str()]);
        assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 1);
    }

    #[test]
    fn an_earlier_attempt_is_in_nobodys_way() {
        let dir = tempfile::tempdir().expect("directory");
        drop(Told::prepare(dir.path()).expect("first"));
        let told = Told::prepare(dir.path()).expect("second");
        assert!(told.events.is_some());
        // Nobody waits for a reader.
        let mut log = File::options().write(true).open(dir.path().join(LOG)).expect("open");
        log.write_all(&[b'x'; 100 << 10]).expect("write");
        let deep = dir.path().join("d".repeat(100));
        fs::create_dir(&deep).expect("directory");
        assert!(Told::prepare(&deep).expect("without events").events.is_none());
    }
}
