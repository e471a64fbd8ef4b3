//! The daemon's own metrics.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result};
use cricket_integration::Node;
use cricket_testkit::daemon::Options;
use cricket_testkit::host::free_port;

use crate::support::{Scene, until};

/// The answer to a request, whole.
fn ask(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn what_the_daemon_did_is_counted() -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)?));
    let tables = format!("[metrics]\naddress = '{address}'\n");
    let node = Node::with(Options { tables, ..Options::default() }).await?;
    let pod = node.daemon.pod("prometheus");
    let scene = Scene::with(node.into(), pod).await?;
    let main = scene.idle("main").await?;
    scene.cri.pull("registry.k8s.io/lifecycle/none:1").await.expect_err("there is none");
    let monitor = format!("cricket-monitor\0{}\0", scene.id);
    let pid = std::fs::read_dir("/proc")?
        .flatten()
        .find(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == monitor.as_bytes()));
    let pid = pid.context("a monitor")?.file_name().to_string_lossy().into_owned();
    cricket_testkit::host::run("kill", ["-9", &pid])?;
    until("the lost monitor to be counted", || async {
        Ok(value(&ask(address, "GET /metrics")?, "cricket_monitors_lost_total") == Some(1.0))
    })
    .await?;
    let answer = ask(address, "GET /v1/metrics")?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"), "{answer}");
    let service = "grpc_service=\"runtime.v1.RuntimeService\",grpc_method=\"RunPodSandbox\"";
    let handled = format!("grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_code=\"OK\"}}");
    let service = "grpc_service=\"runtime.v1.ImageService\",grpc_method=\"PullImage\"";
    let failed = format!("grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_code=\"NotFound\"}}");
    let added = "cricket_cni_plugin_seconds_count{verb=\"ADD\",outcome=\"ok\"}";
    for (series, want) in [
        (handled.as_str(), 1.0),
        (&failed, 1.0),
        ("cricket_image_pulls_total{outcome=\"ok\"}", 1.0),
        ("cricket_image_pulls_total{outcome=\"not_found\"}", 1.0),
        ("cricket_pods{state=\"ready\"}", 1.0),
        ("cricket_containers{state=\"running\"}", 1.0),
        ("cricket_containers{state=\"exited\"}", 0.0),
    ] {
        assert_eq!(value(&answer, series), Some(want), "{series}: {answer}");
    }
    assert!(value(&answer, added).is_some_and(|n| n >= 1.0), "{answer}");
    assert!(value(&answer, "cricket_image_pulled_bytes_total").is_some_and(|n| n > 1000.0), "{answer}");
    assert!(ask(address, "GET /")?.starts_with("HTTP/1.1 404"));
    assert!(ask(address, "DELETE /metrics")?.starts_with("HTTP/1.1 405"));
    scene.cri.stop(&main, 0).await?;
    let answer = ask(address, "GET /v1/metrics")?;
    assert_eq!(value(&answer, "cricket_containers{state=\"exited\"}"), Some(1.0), "{answer}");
    scene.end().await
}
