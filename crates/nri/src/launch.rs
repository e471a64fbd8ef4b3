//! Plugins of the directory: found, started with a connected socket as descriptor 3, ended with their connection.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cricket_process::{Child, Spawn};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::plugin::{check_index, check_name};

/// The descriptor of a plugin's socket.
const SOCKET: i32 = 3;
/// Most bytes of a plugin's configuration: it is part of a message.
const CONFIG_LIMIT: u64 = 1 << 20;
/// Most plugins that are started.
const PLUGINS: usize = 64;

/// A plugin that is there to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) index: String,
    pub(crate) base: String,
    pub(crate) config: String,
}

/// A plugin's process: killed when this is dropped, and reaped.
#[derive(Debug)]
pub(crate) struct Process(Option<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // A thread of its own: this must not wait, and there may be no runtime any more.
        let reaper = move || {
            let _ = child.pidfd.send_signal(rustix::process::Signal::KILL.as_raw());
            let _ = child.wait();
        };
        let _ = std::thread::Builder::new().name("nri-reap".into()).spawn(reaper);
    }
}

/// Looks the directory through, in order. What cannot be a plugin is said and left out.
pub(crate) fn discover(config: &Config) -> Result<Vec<Found>> {
    let directory = &config.plugin_path;
    let failed = |e: io::Error| Error::Directory { path: directory.clone(), reason: e.to_string() };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let executable = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if !executable {
            continue;
        }
        match describe(&path, config) {
            Ok(plugin) if found.len() < PLUGINS => found.push(plugin),
            Ok(_) => tracing::error!(path = %path.display(), "more than {PLUGINS} NRI plugins: not started"),
            Err(reason) => tracing::error!(path = %path.display(), reason, "not started as an NRI plugin"),
        }
    }
    Ok(found)
}

fn describe(path: &Path, config: &Config) -> Result<Found, String> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("its name is not text")?;
    let (index, base) = name.split_once('-').ok_or("its name is not NN-NAME")?;
    check_index(index)?;
    check_name(base)?;
    let mut text = String::new();
    for file in [format!("{name}.conf"), format!("{base}.conf")] {
        let file = config.plugin_config_path.join(file);
        match read(&file) {
            Ok(config) => {
                text = config;
                break;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("read {}: {e}", file.display())),
        }
    }
    Ok(Found { path: path.to_owned(), index: index.to_owned(), base: base.to_owned(), config: text })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let size = File::open(path)?.take(CONFIG_LIMIT + 1).read_to_string(&mut text)?;
    if size as u64 > CONFIG_LIMIT { Err(io::Error::other("is larger than 1 MiB")) } else { Ok(text) }
}

/// Starts a plugin; the socket is our end of its connection. Blocks until it executes.
pub(crate) fn start(plugin: &Found) -> io::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let path = plugin.path.to_string_lossy().into_owned();
    let (program, argv) = program(&plugin.path, path)?;
    let null = File::open("/dev/null")?;
    let stderr = io::stderr();
    let log = stderr.as_fd();
    let child = Spawn::new(&program, argv)
        .fd(0, &null)
        // What it prints goes where the daemon's log goes.
        .fd(1, &log)
        .fd(2, &log)
        .fd(SOCKET, &theirs)
        .env("NRI_PLUGIN_NAME", &plugin.base)
        .env("NRI_PLUGIN_IDX", &plugin.index)
        .env("NRI_PLUGIN_SOCKET", &SOCKET.to_string())
        .session()
        .spawn()
        .map_err(io::Error::other)?;
    ours.set_nonblocking(true)?;
    Ok((Process(Some(child)), ours))
}

/// The file to execute: a script's interpreter with the script as its argument, since a descriptor of the script itself
/// is closed when the interpreter would read it.
fn program(path: &Path, name: String) -> io::Result<(File, Vec<String>)> {
    let file = File::open(path)?;
    let mut line = String::new();
    let mut head = BufReader::new(file.try_clone()?).take(256);
    // Not text: a program.
    let _ = head.read_line(&mut line);
    let Some(rest) = line.strip_prefix("#!") else { return Ok((file, vec![name])) };
    let mut words = rest.trim().splitn(2, char::is_whitespace);
    let interpreter = words.next().unwrap_or_default().to_owned();
    let argument = words.next().map(|argument| argument.trim().to_owned());
    let argv = [interpreter.clone()].into_iter().chain(argument).chain([name]);
    Ok((File::open(&interpreter)?, argv.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_with_an_index_are_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            plugin_path: dir.path().join("plugins"),
            plugin_config_path: dir.path().join("conf"),
            ..Config::default()
        };
        assert_eq!(discover(&config).unwrap(), []);
        for folder in [&config.plugin_path, &config.plugin_config_path, &config.plugin_path.join("30-folder")] {
            std::fs::create_dir(folder).unwrap();
        }
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("15-data", 0o644), ("nope", 0o755), ("1-c", 0o755)] {
            let path = config.plugin_path.join(name);
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(config.plugin_config_path.join("a.conf"), "general").unwrap();
        std::fs::write(config.plugin_config_path.join("10-a.conf"), "own").unwrap();
        std::fs::write(config.plugin_config_path.join("b.conf"), "general").unwrap();
        let found = discover(&config).unwrap();
        let seen: Vec<_> = found.iter().map(|f| (f.index.as_str(), f.base.as_str(), f.config.as_str())).collect();
        assert_eq!(seen, [("10", "a", "own"), ("20", "b", "general")]);
        std::fs::write(config.plugin_config_path.join("b.conf"), "x".repeat((1 << 20) + 1)).unwrap();
        assert_eq!(discover(&config).unwrap().len(), 1);
    }

    #[test]
    fn a_script_has_its_socket_and_its_name_and_ends_with_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-a");
        std::fs::write(
            &path,
            "#!/bin/bash\necho \"$NRI_PLUGIN_NAME $NRI_PLUGIN_IDX $0\" >&$NRI_PLUGIN_SOCKET\nexec sleep 60\n",
        )
        .unwrap();
        let found = Found { path: path.clone(), index: "10".into(), base: "a".into(), config: String::new() };
        let (process, socket) = start(&found).unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut line = String::new();
        BufReader::new(&socket).read_line(&mut line).unwrap();
        assert_eq!(line, format!("a 10 {}\n", path.display()));
        drop(process);
        // The end of the script closes its socket.
        assert_eq!(io::copy(&mut &socket, &mut io::sink()).unwrap(), 0);
    }
}
