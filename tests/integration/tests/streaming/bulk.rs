//! A lot of bytes through Go's clients, over both of their transports: crictl has kubectl's code.
//!
//! `CRICKET_STREAM_MIB` says how many; `hack/streaming` asks for more than the tests do by themselves.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cricket_testkit::host;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::scene::Scene;

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];
const MIB: u64 = 1 << 20;

/// Bytes of one transfer.
fn size() -> Result<u64> {
    match std::env::var("CRICKET_STREAM_MIB") {
        Ok(mib) => Ok(mib.parse::<u64>().context("CRICKET_STREAM_MIB")? * MIB),
        Err(_) => Ok(16 * MIB),
    }
}

fn crictl(scene: &Scene) -> Result<String> {
    let program = host::tool_dir("cri")?.join("crictl");
    let socket = scene.node.daemon.socket();
    Ok(format!("{} --timeout 1h --runtime-endpoint unix://{}", program.display(), socket.display()))
}

/// The output of a script for bash, in which `crictl` is crictl on this daemon.
async fn script(scene: &Scene, text: &str) -> Result<String> {
    let text = format!("set -euo pipefail; crictl() {{ {} \"$@\"; }}; {text}", crictl(scene)?);
    let dir = tempfile::tempdir()?;
    let output = Command::new("bash")
        .arg("-c")
        .arg(&text)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}: {}: {out}{err}", output.status);
    Ok(out.trim().to_owned())
}

fn report(what: &str, transport: &str, bytes: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what} over {transport}: {} MiB in {seconds:.1} s, {:.0} MiB/s",
        bytes / MIB,
        bytes as f64 / MIB as f64 / seconds
    );
}

#[tokio::test]
async fn input_and_output_arrive_whole() -> Result<()> {
    let scene = Scene::host("bulk-exec").await?;
    let (main, bytes) = (scene.idle().await?, size()?);
    for transport in TRANSPORTS {
        let began = Instant::now();
        let sums = script(
            &scene,
            &format!(
                "head -c {bytes} /dev/urandom | tee >(sha256sum >sent.$$) \
                 | crictl exec -i -r {transport} {main} sh -c 'cat >/bulk; sha256sum </bulk'; cat sent.$$"
            ),
        )
        .await?;
        report("input", transport, bytes, began);
        let sums: Vec<_> = sums.lines().collect();
        ensure!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
        let began = Instant::now();
        let back = script(&scene, &format!("crictl exec -r {transport} {main} cat /bulk | sha256sum")).await?;
        report("output", transport, bytes, began);
        ensure!(back == sums[0], "{back} is not {}", sums[0]);
    }
    scene.end().await
}

#[tokio::test]
async fn a_persons_terminal_has_its_size() -> Result<()> {
    let scene = Scene::host("bulk-terminal").await?;
    let main = scene.idle().await?;
    let crictl = crictl(&scene)?;
    for transport in TRANSPORTS {
        // The size comes a moment after the session.
        let inside = "until [ \"$(stty size)\" = \"33 77\" ]; do sleep 0.1; done; echo it is so";
        let inner = format!("stty rows 33 cols 77; {crictl} exec -it -r {transport} {main} sh -c '{inside}'");
        let command =
            Command::new("timeout").args(["20", "script", "-qec", &inner, "/dev/null"]).stdin(Stdio::null()).output();
        let output = command.await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains("it is so"), "{transport}: {text}");
    }
    scene.end().await
}

/// crictl as it forwards a port of its choice.
struct Forward {
    process: Child,
    port: u16,
}

impl Forward {
    async fn start(scene: &Scene, transport: &str, target: u16) -> Result<Self> {
        let command = format!("exec {} port-forward -r {transport} {} :{target}", crictl(scene)?, scene.id);
        let mut process = Command::new("bash")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let line = lines.next_line().await?.context("crictl forwards nothing")?;
        let port =
            line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context(line.clone())?.parse()?;
        // It writes a line for each connection, which somebody has to read.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { process, port })
    }
}

/// Bytes that do not repeat, the same for the same seed.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, to: &mut [u8]) {
        for word in to.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

/// Sends and receives so many bytes at once, multiples of 64 KiB; then both sides close.
async fn echo(port: u16, seed: u64, bytes: u64) -> Result<()> {
    const PIECE: usize = 64 << 10;
    let (mut from, mut to) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    let pieces = bytes / PIECE as u64;
    let send = async {
        let (mut noise, mut piece) = (Noise(seed), vec![0; PIECE]);
        for _ in 0..pieces {
            noise.fill(&mut piece);
            to.write_all(&piece).await?;
        }
        anyhow::Ok(to.shutdown().await?)
    };
    let receive = async {
        let (mut noise, mut want, mut got) = (Noise(seed), vec![0; PIECE], vec![0; PIECE]);
        for n in 0..pieces {
            noise.fill(&mut want);
            from.read_exact(&mut got).await.with_context(|| format!("connection {seed}: piece {n} of {pieces}"))?;
            ensure!(want == got, "connection {seed}: piece {n} differs");
        }
        ensure!(from.read(&mut got).await? == 0, "connection {seed}: more than was sent");
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_ports_carry_a_lot_in_one_connection_and_in_a_hundred() -> Result<()> {
    let scene = Scene::host("bulk-forward").await?;
    let bytes = size()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?.port();
    let echoes = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    for transport in TRANSPORTS {
        let mut forward = Forward::start(&scene, transport, target).await?;
        let began = Instant::now();
        echo(forward.port, 1, bytes).await?;
        report("both ways", transport, 2 * bytes, began);
        let began = Instant::now();
        let share = (bytes / 100).next_multiple_of(64 << 10);
        let all: Vec<_> = (1..=100).map(|seed| tokio::spawn(echo(forward.port, seed, share))).collect();
        for one in all {
            one.await??;
        }
        report("100 connections both ways", transport, 200 * share, began);
        forward.process.kill().await?;
    }
    echoes.abort();
    scene.end().await
}
