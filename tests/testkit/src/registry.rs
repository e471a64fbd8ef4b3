//! Debian's docker-registry on a free port of loopback.
//!
//! It gets its configuration through standard input and keeps images in its
//! memory unless a directory is given; its port is the kernel's choice, read
//! from its log. It dies with this process, or when the value is dropped.

use crate::host;
use crate::image::{Named, Pusher};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tempfile::TempDir;

/// What kind of registry to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// User and password that every request must bring (basic authentication).
    pub login: Option<(String, String)>,
    /// Serve HTTPS with a certificate of a CA made for this registry.
    pub tls: bool,
    /// Keep content in this directory instead of in memory: for large images.
    pub data: Option<PathBuf>,
}

/// A running registry.
pub struct Registry {
    child: Child,
    url: String,
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    options: Options,
    files: TempDir,
}

impl Registry {
    /// A registry over plain HTTP for everybody.
    pub fn start() -> Result<Self> {
        Self::with(Options::default())
    }

    /// A registry of the given kind.
    pub fn with(options: Options) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("ck-registry-").tempdir()?;
        if options.tls {
            certificates(files.path())?;
        }
        let mut command = host::bound(host::which("docker-registry")?);
        command.args(["serve", "/dev/stdin"]).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = host::spawn(command)?;
        let config = configuration(&options, files.path())?;
        child.stdin.take().context("no stdin")?.write_all(config.as_bytes())?;

        // The access log is on standard output, the port in the log on standard error.
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let stdout = child.stdout.take().context("no stdout")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let (sender, receiver) = mpsc::channel();
        let stderr = child.stderr.take().context("no stderr")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Read on after the port is known, or the registry would block on a full pipe.
                let _ = sender.send(line);
            }
        });
        let mut registry = Self { child, url: String::new(), port: 0, requests, options, files };
        let mut lines = Vec::new();
        while let Ok(line) = receiver.recv_timeout(host::patient(Duration::from_secs(20))) {
            if let Some(port) = listening_port(&line) {
                let scheme = if registry.options.tls { "https" } else { "http" };
                registry.port = port;
                registry.url = format!("{scheme}://127.0.0.1:{port}");
                return Ok(registry);
            }
            lines.push(line);
        }
        bail!("docker-registry did not start: {}", lines.join("\n"))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Scheme, host and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port, as the first part of an image name.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Path of the certificate of the CA, in PEM, when this registry serves TLS.
    pub fn ca(&self) -> Option<PathBuf> {
        self.options.tls.then(|| self.files.path().join("ca.pem"))
    }

    /// A client that may push here.
    pub fn pusher(&self) -> Result<Pusher> {
        let ca = self.ca().map(std::fs::read).transpose()?;
        let login = self.options.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        Pusher::new(&self.url, login, ca.as_deref())
    }

    /// Pushes images.
    pub async fn fill(&self, images: &[Named]) -> Result<()> {
        let pusher = self.pusher()?;
        for Named { repository, tag, image } in images {
            pusher.push(repository, tag, image).await.with_context(|| format!("{repository}:{tag}"))?;
        }
        Ok(())
    }

    /// The requests so far, in the combined log format, pushes included.
    pub fn requests(&self) -> Result<Vec<String>> {
        // A request is logged after its answer was sent: one more, of our own, comes after it.
        let barrier = format!("/v2/?barrier={}", host::unique());
        host::run("curl", ["-sk", "-o", "/dev/null", &format!("{}{barrier}", self.url)])?;
        let mut lines = host::wait_for("the registry's log", Duration::from_secs(10), || {
            let lines = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(lines.iter().any(|line| line.contains(&barrier)).then(|| lines.clone()))
        })?;
        lines.retain(|line| !line.contains("/v2/?barrier="));
        Ok(lines)
    }

    /// How many requests so far have `part` in their line, such as `"GET /v2/a/blobs/`.
    pub fn count(&self, part: &str) -> Result<usize> {
        Ok(self.requests()?.iter().filter(|line| line.contains(part)).count())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; waiting then collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening_port(line: &str) -> Option<u16> {
    let rest = line.split_once("listening on 127.0.0.1:")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The configuration, as JSON, which YAML includes.
fn configuration(options: &Options, files: &Path) -> Result<String> {
    let storage = match &options.data {
        Some(dir) => serde_json::json!({ "filesystem": { "rootdirectory": dir } }),
        None => serde_json::json!({ "inmemory": {} }),
    };
    let mut config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": storage,
        "http": { "addr": "127.0.0.1:0" },
    });
    config["storage"]["delete"] = serde_json::json!({ "enabled": true });
    if let Some((user, password)) = &options.login {
        let path = files.join("htpasswd");
        let line = host::run("htpasswd", ["-nbB", user, password]).context("htpasswd is in apache2-utils")?;
        std::fs::write(&path, line)?;
        config["auth"] = serde_json::json!({ "htpasswd": { "realm": "testkit", "path": path } });
    }
    if options.tls {
        let file = |name: &str| files.join(name);
        config["http"]["tls"] = serde_json::json!({ "certificate": file("server.pem"), "key": file("server.key") });
    }
    Ok(config.to_string())
}

/// Makes a CA (`ca.pem`) and a certificate for 127.0.0.1 and localhost (`server.pem`, `server.key`) that it signed.
fn certificates(dir: &Path) -> Result<()> {
    let file = |name: &str| dir.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let common = |name: &str| ["-subj".to_owned(), format!("/CN={name}"), "-days".to_owned(), "2".to_owned()];
    let openssl = |head: &[&str], tail: &[String]| -> Result<()> {
        let arguments = head.iter().map(|&word| word.to_owned()).chain(tail.iter().cloned());
        host::run("openssl", arguments).map(drop)
    };
    let mut ca = common("testkit CA").to_vec();
    ca.extend(["-keyout".to_owned(), file("ca.key"), "-out".to_owned(), file("ca.pem")]);
    openssl(&[&["req", "-x509"], &key[..]].concat(), &ca)?;
    let mut server = common("testkit registry").to_vec();
    server.extend(["-keyout".to_owned(), file("server.key"), "-out".to_owned(), file("server.pem")]);
    server.extend(["-CA".to_owned(), file("ca.pem"), "-CAkey".to_owned(), file("ca.key")]);
    let extensions =
        ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&["req", "-x509"], &key[..], &extensions[..]].concat(), &server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_log() {
        let line = r#"time="2026-01-01" level=info msg="listening on 127.0.0.1:38123, tls" go.version=go1"#;
        assert_eq!(listening_port(line), Some(38123));
        assert_eq!(listening_port("listening on [::]:1"), None);
    }
}
