//! kubectl, as a person runs it.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// kubectl with one cluster's configuration and one namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// The namespace of its commands.
    pub namespace: String,
}

/// What a run of it came to.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    /// A command to be run or spawned; it ends when it is dropped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(arguments);
        // What it learns of the server is kept by the server's address, which other clusters may have had.
        command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end, however that is.
    pub async fn output(&self, arguments: &[&str]) -> Result<Ran> {
        Ok(self.command(arguments).output().await.with_context(|| self.program.display().to_string())?.into())
    }

    /// Runs it; its standard output, or an error with what it said.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.output(arguments).await?.success(arguments)
    }

    /// Runs it with this standard input.
    pub async fn feed(&self, arguments: &[&str], input: &[u8]) -> Result<Ran> {
        let mut child = self.spawn(arguments)?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let write = async {
            // It may end before it has read everything; its exit code tells.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        Ok(output?.into())
    }

    /// `kubectl apply` of objects in YAML.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let arguments = ["apply", "-f", "-"];
        self.feed(&arguments, yaml.as_bytes()).await?.success(&arguments).with_context(|| yaml.to_owned())
    }

    /// Starts it with all three streams piped.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| self.program.display().to_string())
    }
}

impl Ran {
    /// Standard output of a run that succeeded.
    pub fn success(self, arguments: &[&str]) -> Result<String> {
        if self.code != 0 {
            bail!("kubectl {}: {self}", arguments.join(" "));
        }
        Ok(self.stdout)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}, standard output {:?}, standard error {:?}", self.code, self.stdout, self.stderr)
    }
}
