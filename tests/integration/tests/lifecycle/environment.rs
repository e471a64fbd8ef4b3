//! What a process finds: environment, working directory, arguments, files of names.

use anyhow::{Context as _, Result};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use cricket_testkit::image::{Layer, Tree};

use crate::support::{SOON, Scene, idle, security, shell, until};

fn env(pairs: &[(&str, &str)]) -> Vec<v1::KeyValue> {
    pairs.iter().map(|(key, value)| v1::KeyValue { key: (*key).into(), value: (*value).into() }).collect()
}

#[tokio::test]
async fn what_is_there_without_being_asked_for() -> Result<()> {
    let scene = Scene::networked("env-default").await?;
    let image = scene.image("env-none", |image| image).await?;
    let config =
        cri::container("main", &image, &["sh", "-c", "env; echo umask=$(umask); pwd; cat /proc/self/oom_score_adj"]);
    let lines = scene.output(&config).await?;
    let has = |line: &str| lines.iter().any(|l| l == line);
    assert!(has("HOME=/root") && has("umask=0022") && has("/"), "{lines:?}");
    assert!(has("HOSTNAME=env-default"), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("PATH=") && l.contains("/bin")), "{lines:?}");
    assert!(!lines.iter().any(|l| l.starts_with("TERM=")), "no terminal, no TERM: {lines:?}");
    scene.end().await
}

#[tokio::test]
async fn the_pods_environment_goes_over_the_images() -> Result<()> {
    let scene = Scene::host("env-over").await?;
    let image = scene.image("env-some", |image| image.env(&["A=image", "B=image", "PATH=/bin:/images"])).await?;
    let mut config = cri::container("main", &image, &["env"]);
    config.envs = env(&[("B", "pod"), ("C", "one\ntwo"), ("D", "a=b"), ("E", "")]);
    let text = scene.output(&config).await?.join("\n");
    for line in ["A=image", "B=pod", "C=one\ntwo", "D=a=b", "E=", "PATH=/bin:/images"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("B=image"), "{text}");
    // And an exec finds the same.
    let mut config = config.clone();
    config.metadata = Some(v1::ContainerMetadata { name: "second".into(), attempt: 0 });
    config.log_path = "second.log".into();
    config.command = idle("x").command;
    let second = scene.run(&config).await?;
    assert!(scene.sh(&second, "env").await?.contains("C=one\ntwo\n"));
    scene.end().await
}

#[tokio::test]
async fn home_is_the_users() -> Result<()> {
    let scene = Scene::host("env-home").await?;
    for (name, uid, home) in [("root", 0, "/root"), ("www", 33, "/var/www"), ("unknown", 4242, "/")] {
        let mut config = shell(name, "echo $HOME");
        security(&mut config).run_as_user = Some(v1::Int64Value { value: uid });
        assert_eq!(scene.output(&config).await?, [home], "{name}");
    }
    let mut config = shell("own", "echo $HOME");
    config.envs = env(&[("HOME", "/elsewhere")]);
    assert_eq!(scene.output(&config).await?, ["/elsewhere"]);
    scene.end().await
}

#[tokio::test]
async fn command_and_arguments_over_entrypoint_and_cmd() -> Result<()> {
    let scene = Scene::host("env-args").await?;
    let image = scene.image("env-args", |image| image.entrypoint(&["echo", "entry"]).cmd(&["cmd"])).await?;
    let cases: [(&str, &[&str], &[&str], &str); 4] = [
        ("neither", &[], &[], "entry cmd"),
        ("args", &[], &["args"], "entry args"),
        ("command", &["echo", "command"], &[], "command"),
        ("both", &["echo", "command"], &["args"], "command args"),
    ];
    for (name, command, args, expected) in cases {
        let mut config = cri::container(name, &image, command);
        config.args = args.iter().map(|&a| a.to_owned()).collect();
        assert_eq!(scene.output(&config).await?, [expected], "{name}");
    }
    scene.end().await
}

#[tokio::test]
async fn a_missing_working_directory_is_made() -> Result<()> {
    let scene = Scene::host("env-cwd").await?;
    let mut config = shell("main", "pwd; stat -c %a:%u /not/there; stat -c %a /not");
    config.working_dir = "/not/there".into();
    assert_eq!(scene.output(&config).await?, ["/not/there", "755:0", "755"]);
    let image = scene.image("env-cwd", |image| image.set("WorkingDir", "/of/image")).await?;
    let config = cri::container("image", &image, &["pwd"]);
    assert_eq!(scene.output(&config).await?, ["/of/image"]);
    let mut config = cri::container("over", &image, &["pwd"]);
    config.working_dir = "/tmp".into();
    assert_eq!(scene.output(&config).await?, ["/tmp"]);
    scene.end().await
}

#[tokio::test]
async fn the_runtimes_hosts_file_leaves_the_images_alone() -> Result<()> {
    let scene = Scene::networked("env-hosts").await?;
    let layer = Layer::gzip(Tree::new().dirs(["etc"]).file("etc/hosts", 0o644, "9.9.9.9 of-the-image\n"))?;
    let image = scene.image("env-hosts", |image| image.layer(layer)).await?;
    let config = cri::container("main", &image, &["cat", "/etc/hosts"]);
    let lines = scene.output(&config).await?;
    assert!(!lines.iter().any(|l| l.contains("of-the-image")), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains("localhost")), "{lines:?}");
    scene.end().await
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_fails_the_start() -> Result<()> {
    let scene = Scene::host("env-missing").await?;
    let config = cri::container("main", BUSYBOX, &["/no/such/command"]);
    let id = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    let error = scene.cri.start(&id).await.expect_err("there is no such command");
    assert!(error.message().contains("/no/such/command"), "{error}");
    let status = scene.cri.container(&id).await?;
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.message.contains("/no/such/command"), "{}", status.message);
    scene.end().await
}

#[tokio::test]
async fn a_terminal_brings_its_type_and_one_stream() -> Result<()> {
    let scene = Scene::host("env-tty").await?;
    let mut config =
        shell("main", "echo term=$TERM; test -t 0 && test -t 1 && test -t 2 && echo terminal; echo err >&2");
    config.tty = true;
    let main = scene.run(&config).await?;
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 0);
    let records = scene.node.daemon.logs(&scene.pod, &config)?;
    let lines = cricket_testkit::logs::lines(&records, "stdout");
    let lines: Vec<&str> = lines.iter().map(|l| l.trim_end_matches('\r')).collect();
    assert_eq!(lines, ["term=xterm", "terminal", "err"]);
    scene.end().await
}

#[tokio::test]
async fn standard_input_is_empty_unless_asked_for() -> Result<()> {
    let scene = Scene::host("env-stdin").await?;
    let config = shell("without", "cat; echo end");
    assert_eq!(scene.output(&config).await?, ["end"]);
    // With it, a reader waits for somebody to attach.
    let mut config = shell("with", "echo up; cat; echo end");
    config.stdin = true;
    let main = scene.run(&config).await?;
    let said = || anyhow::Ok(cricket_testkit::logs::lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout"));
    until("the container to be up", || async { Ok(!said()?.is_empty()) }).await?;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(scene.cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    scene.cri.stop(&main, 0).await?;
    assert_eq!(said()?, ["up"]);
    scene.end().await
}

#[tokio::test]
async fn limits_on_files_are_the_usual_ones() -> Result<()> {
    let scene = Scene::host("env-rlimits").await?;
    let config = shell("main", "ulimit -Sn; ulimit -Hn");
    let hard = scene.highest_file_limit()?;
    let lines = scene.output(&config).await?;
    assert_eq!(lines, [1024.min(hard).to_string(), 524_288.min(hard).to_string()]);
    scene.end().await
}

impl Scene {
    /// What the daemon can give: its own hard limit of open files, but with CAP_SYS_RESOURCE any.
    fn highest_file_limit(&self) -> Result<u64> {
        const CAP_SYS_RESOURCE: u64 = 1 << 24;
        let pid = self.node.daemon.pid().context("the daemon runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:")).context("CapEff")?;
        if u64::from_str_radix(caps.trim(), 16)? & CAP_SYS_RESOURCE != 0 {
            return Ok(u64::MAX);
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find(|l| l.starts_with("Max open files")).context("Max open files")?;
        Ok(line.split_whitespace().nth(4).context("a hard limit")?.parse().unwrap_or(u64::MAX))
    }
}
