//! kubectl exec, attach, port-forward, cp and debug.

use crate::space::{LONG, Space, has};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Lines};
use tokio::time::timeout;

const MANIFEST: &str = include_str!("../../manifests/streams.yaml");

/// The size of the terminal arrives a moment after the command has been started.
const TERMINAL: &str = "tty; echo $TERM; n=0; \
    until [ \"$(stty size)\" = '33 77' ] || [ $n -ge 300 ]; do n=$((n+1)); sleep 0.1; done; stty size; exit 3";

/// The next line that has a part in it.
async fn line(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>, part: &str) -> Result<String> {
    let mut seen = Vec::new();
    let find = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains(part) {
                return Ok(Some(line));
            }
            seen.push(line);
        }
        Ok::<_, anyhow::Error>(None)
    };
    let found = timeout(LONG, find).await;
    found.unwrap_or(Ok(None))?.with_context(|| format!("no line with {part:?} in {seen:#?}"))
}

pub(crate) async fn exec(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    space.ready("streams").await?;
    let ran = space.exec("streams", "main", &["sh", "-c", "echo out; echo err >&2; exit 42"]).await?;
    ensure!(ran.code == 42 && ran.stdout == "out\n" && ran.stderr.starts_with("err\n"), "{ran}");
    has(&ran.stderr, &["command terminated with exit code 42"])?;
    let ran = space.exec("streams", "main", &["no-such-program"]).await?;
    ensure!(ran.code != 0 && ran.stderr.contains("no-such-program"), "{ran}");
    // A megabyte each way.
    let data = vec![b'x'; 1 << 20];
    let ran = space.kubectl.feed(&["exec", "-i", "streams", "-c", "main", "--", "cat"], &data).await?;
    ensure!(ran.code == 0 && ran.stdout.as_bytes() == data, "{} bytes came back", ran.stdout.len());
    // kubectl asks for a terminal only if it has one itself, so it is given one.
    let kubectl = space.kubectl.command(&["exec", "-it", "streams", "-c", "main", "--", "sh", "-c", TERMINAL]);
    let words: Vec<_> = std::iter::once(kubectl.as_std().get_program()).chain(kubectl.as_std().get_args()).collect();
    let words: Vec<_> =
        words.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let mut script = tokio::process::Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 77; {}", words.join(" ")), "/dev/null"]).kill_on_drop(true);
    let output = timeout(LONG, script.stdin(std::process::Stdio::null()).output())
        .await
        .context("exec with a terminal does not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(3), "{}: {text}", output.status);
    has(&text, &["/dev/pts/", "xterm", "33 77"])?;
    space.delete("streams").await
}

pub(crate) async fn attach(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    space.ready("streams").await?;
    for round in ["first", "second"] {
        let mut child = space.kubectl.spawn(&["attach", "-i", "streams", "-c", "echo"])?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        stdin.write_all(format!("{round} time\n").as_bytes()).await?;
        line(&mut lines, &format!("{} TIME", round.to_uppercase())).await?;
        // Going away leaves the container's standard input open.
        child.kill().await?;
    }
    let pod = space.ready("streams").await?;
    ensure!(pod.container("echo")?.restarts == 0, "{pod:#?}");
    has(&space.kubectl.run(&["logs", "streams", "-c", "echo"]).await?, &["FIRST TIME\n", "SECOND TIME\n"])?;
    space.delete("streams").await
}

pub(crate) async fn port_forward(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    space.ready("streams").await?;
    let mut child = space.kubectl.spawn(&["port-forward", "--address=127.0.0.1", "pod/streams", ":8080"])?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let said = line(&mut lines, "Forwarding from 127.0.0.1:").await?;
    let port = said.split(['>', ' ', ':']).find_map(|word| word.parse::<u16>().ok()).with_context(|| said.clone())?;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    for _ in 0..3 {
        let body =
            client.get(format!("http://127.0.0.1:{port}/index.html")).send().await?.error_for_status()?.text().await?;
        ensure!(body == "over the network\n", "{body}");
    }
    child.kill().await?;
    space.delete("streams").await
}

pub(crate) async fn cp(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    space.ready("streams").await?;
    let dir = tempfile::tempdir()?;
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    std::fs::create_dir_all(there.join("deep"))?;
    let data: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(there.join("deep/data"), &data)?;
    std::fs::write(there.join("note"), "a note")?;
    let (from, to) = (there.display().to_string(), back.display().to_string());
    space.kubectl.run(&["cp", "-c", "main", &from, "streams:/tmp/copied"]).await?;
    let sums = space.sh("streams", "main", "cat /tmp/copied/note; wc -c </tmp/copied/deep/data").await?;
    ensure!(sums == "a note300000\n", "{sums}");
    space.kubectl.run(&["cp", "-c", "main", "streams:/tmp/copied", &to]).await?;
    ensure!(std::fs::read(back.join("deep/data"))? == data, "other bytes came back");
    space.delete("streams").await
}

/// An ephemeral container that sees the processes of the one it is to look at.
pub(crate) async fn debug(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    let before = space.ready("streams").await?;
    let words = ["debug", "streams", "--image=busybox", "--target=main", "--container=doctor", "--profile=general"];
    let words = [&words[..], &["--", "sh", "-c", "ps -o args; cat /proc/1/root/www/index.html; echo done"]].concat();
    space.kubectl.run(&words).await?;
    let exit = space.object("streams", "the end of the ephemeral container", |pod| {
        let exit = &pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"];
        exit.is_object().then(|| exit.clone())
    });
    let exit = exit.await?;
    let log = space.kubectl.run(&["logs", "streams", "-c", "doctor"]).await?;
    ensure!(exit["exitCode"] == 0, "{exit}: {log}");
    has(&log, &["httpd -f -p 8080", "over the network", "done"])?;
    let after = space.ready("streams").await?;
    for name in ["main", "echo", "terminal"] {
        ensure!(before.container(name)?.id == after.container(name)?.id, "{after:#?}");
    }
    space.delete("streams").await
}
