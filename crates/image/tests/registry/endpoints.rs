//! Which servers are asked, in which order, with what; redirects; statuses.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cricket_image::reference::Reference;
use cricket_image::registry::{AuthConfig, Registry, RegistryError};
use cricket_model::{ErrorKind, Kinded};

use crate::content::*;
use crate::server::{Reply, Server};

/// Writes a `hosts.toml` for a registry.
fn hosts(root: &Path, registry: &str, text: &str) {
    let dir = root.join(registry);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("hosts.toml"), text).unwrap();
}

fn with_path(root: &Path) -> Registry {
    let mut config = config();
    config.config_path = vec![root.to_owned()];
    Registry::new(config)
}

async fn error_of(server: &Server) -> RegistryError {
    registry().resolve(&reference(&server.host()), None, &amd64(), None).await.unwrap_err()
}

#[tokio::test]
async fn statuses_have_kinds_and_causes() {
    for (status, kind) in [
        (404, ErrorKind::NotFound),
        (403, ErrorKind::PermissionDenied),
        (401, ErrorKind::Unauthenticated),
        (429, ErrorKind::ResourceExhausted),
        (500, ErrorKind::RegistryUnavailable),
        (503, ErrorKind::RegistryUnavailable),
        (418, ErrorKind::InvalidArgument),
    ] {
        let server = Server::start(move |_| {
            Reply::new(status).send(r#"{"errors":[{"code":"X","message":"the cause\nfollows"}]}"#)
        })
        .await;
        let error = error_of(&server).await;
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        for part in [&format!("{}/x:tag", server.host()), &format!("http://{}", server.host()), &status.to_string()] {
            assert!(text.contains(part), "{part}: {text}");
        }
        if status != 401 {
            assert!(text.contains("the cause follows"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable() {
    let gone = Server::start(|_| Reply::new(200)).await.host();
    let error = registry().resolve(&reference(&gone), None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let start = Instant::now();
    let error = registry().resolve(&reference(&host), None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(start.elapsed() < config().response_timeout * 2);
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_once() {
    let content = Content::image("tag", b"layer");
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |request| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(429).header("retry-after", 1),
        _ => content.answer(request),
    })
    .await;
    let start = Instant::now();
    registry().resolve(&reference(&server.host()), None, &amd64(), None).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    for (after, requests) in [("1", 2), ("3600", 1), ("Fri, 31 Dec 1999 23:59:59 GMT", 1)] {
        let server = Server::start(move |_| Reply::new(429).header("retry-after", after)).await;
        let error = error_of(&server).await;
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.to_string().contains(&format!("retry after {after}")), "{error}");
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn redirect_loops_end() {
    let server = Server::start(|request| Reply::redirect(&request.target)).await;
    let error = error_of(&server).await;
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
    assert_eq!(server.requests().len(), 11);
    for location in ["", "file:///etc/passwd", "http://[::", "gopher://x"] {
        let server = Server::start(move |_| match location {
            "" => Reply::new(302),
            _ => Reply::redirect(location),
        })
        .await;
        assert_eq!(error_of(&server).await.kind(), ErrorKind::RegistryUnavailable);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_to_another_origin() {
    let bytes = noise(1000);
    let content = Content::image("tag", &bytes);
    // The storage wants credentials as well, and sends the client back: it gets none, and home does not see them again.
    let storage = {
        let content = content.clone();
        Server::start(move |request| match request.target.contains("/wants/") {
            true => Reply::new(401).header("www-authenticate", "Basic realm=x"),
            false => content.answer(request),
        })
        .await
    };
    let away = format!("http://user:secret@{}", storage.alias());
    let home = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
        Some(_) if request.path().contains("/blobs/") => Reply::redirect(format!("{away}{}?sig=1", request.path())),
        Some(_) if request.path().ends_with(":wants") => Reply::redirect(format!("{away}/wants/")),
        Some(_) => content.answer(request),
    })
    .await;
    let auth = AuthConfig { username: "u".into(), password: "p".into(), ..Default::default() };
    let mut settings = config();
    settings.headers.insert("x-secret".into(), vec!["s".into()]);
    let registry = Registry::new(settings);
    let image = registry.resolve(&reference(&home.host()), Some(&auth), &amd64(), None).await.unwrap();
    let mut stream = registry.fetch_blob(&image.source, &image.layers[0], 0).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let asked = storage.requests();
    assert_eq!(asked.len(), 2, "config and layer");
    for request in asked {
        assert_eq!((request.header("authorization"), request.header("x-secret")), (None, None));
    }
    assert!(home.requests().iter().all(|r| r.header("x-secret") == Some("s")));

    let away = format!("http://{}/wants/", storage.alias());
    let home = Server::start(move |_| Reply::redirect(&away)).await;
    let error = registry.resolve(&reference(&home.host()), Some(&auth), &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("after a redirect"), "{error}");
    assert_eq!((home.requests().len(), storage.requests().len()), (1, 3));
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_fall_through() {
    let content = Content::image("tag", b"layer");
    let (broken, empty) = (Server::start(|_| Reply::new(500)).await, Content::default().serve().await);
    let (good, never) = (content.clone().serve().await, content.serve().await);
    let gone = Server::start(|_| Reply::new(200)).await.host();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{gone}\"]\n[host.\"http://{}\"]\n",
        never.host(),
        broken.host(),
        empty.host(),
        good.host(),
    );
    hosts(dir.path(), "registry.test", &text);
    let registry = with_path(dir.path());
    let reference = reference("registry.test");
    let image = registry.resolve(&reference, None, &amd64(), None).await.unwrap();
    let mut stream = registry.fetch_blob(&image.source, &image.layers[0], 0).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().as_deref(), Some(&b"layer"[..]));
    assert_eq!(never.requests().len(), 0);
    assert_eq!(broken.count("manifests/tag"), 1);
    assert_eq!(empty.count("manifests/tag"), 1);
    // Mirrors are told whom they stand for.
    assert!(good.requests().iter().all(|r| r.target.ends_with("?ns=registry.test")));
    // What could not be reached is not tried first again.
    assert_eq!(broken.requests().len(), 1);

    // An edit counts at the next pull.
    hosts(dir.path(), "registry.test", &format!("server = \"http://{}\"\n", empty.host()));
    let error = registry.resolve(&reference, None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("manifest unknown"), "{error}");
}

#[tokio::test]
async fn every_endpoint_is_named_in_the_error() {
    let (broken, denied) = (Server::start(|_| Reply::new(502)).await, Server::start(|_| Reply::new(403)).await);
    let mut config = config();
    config.mirrors.insert("*".into(), vec![format!("http://{}", broken.host())]);
    let registry = Registry::new(config);
    let error = registry.resolve(&reference(&denied.host()), None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let text = error.to_string();
    assert!(text.contains(&broken.host()) && text.contains("502") && text.contains(&denied.host()), "{text}");
}

#[tokio::test]
async fn paths_headers_and_capabilities_are_used() {
    let content = Content::image("tag", b"layer");
    let (tags, blobs) = (content.clone().serve().await, content.serve().await);
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{0}/gone\"\n\
         [host.\"http://{0}/a/b\"]\ncapabilities = [\"resolve\"]\noverride_path = true\n\
         [host.\"http://{1}/proxy\"]\ncapabilities = [\"pull\"]\nheader = {{ x-one = \"1\", x-two = [\"2\", \"3\"] }}\n",
        tags.host(),
        blobs.host(),
    );
    hosts(dir.path(), "_default", &text);
    let image = with_path(dir.path()).resolve(&reference("any.test"), None, &amd64(), None).await.unwrap();
    assert_eq!(image.layers.len(), 1);
    let (asked, fetched) = (tags.requests(), blobs.requests());
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].path()), ("HEAD", "/a/b/x/manifests/tag"));
    assert_eq!(fetched.len(), 2);
    for request in fetched {
        assert!(request.path().starts_with("/proxy/v2/x/"), "{}", request.path());
        assert_eq!(request.header("x-one"), Some("1"));
        assert_eq!(request.headers.iter().filter(|(n, _)| n == "x-two").count(), 2);
    }
}

#[tokio::test]
async fn a_broken_hosts_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    hosts(dir.path(), "registry.test", "[host.\"http://x\"]\ncapabilities = [\"fly\"]\n");
    let error = with_path(dir.path()).resolve(&reference("registry.test"), None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let text = error.to_string();
    assert!(text.contains("registry.test/hosts.toml") && text.contains("fly"), "{text}");
}

#[tokio::test]
async fn no_endpoint_at_all_is_said() {
    let dir = tempfile::tempdir().unwrap();
    hosts(dir.path(), "registry.test", "server = \"http://x\"\ncapabilities = [\"push\"]\n");
    let error = with_path(dir.path()).resolve(&reference("registry.test"), None, &amd64(), None).await.unwrap_err();
    assert!(error.to_string().contains("no configured endpoint"), "{error}");
}

/// Runs in a child process, because a proxy is a matter of the environment.
#[tokio::test]
async fn proxies_of_the_environment_are_used() {
    const CHILD: &str = "CRICKET_TEST_PROXY_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["registry.test", "direct.invalid"] {
            hosts(dir.path(), name, &format!("server = \"http://{name}\"\n"));
        }
        let registry = with_path(dir.path());
        registry.resolve(&reference("registry.test"), None, &amd64(), None).await.unwrap();
        assert!(registry.resolve(&reference("direct.invalid"), None, &amd64(), None).await.is_err());
        // Loopback needs no exception in the environment.
        let here = Content::image("tag", b"layer").serve().await;
        registry.resolve(&reference(&here.host()), None, &amd64(), None).await.unwrap();
        return;
    }
    let content = Content::image("tag", b"layer");
    let proxy = Server::start(move |request| content.answer(request)).await;
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "endpoints::proxies_of_the_environment_are_used"])
        .envs([(CHILD, "1"), ("HTTP_PROXY", &format!("http://{}", proxy.host())), ("NO_PROXY", "direct.invalid")])
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let asked = proxy.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|r| r.target.starts_with("http://registry.test/v2/x/")), "{asked:?}");
}

#[tokio::test]
async fn a_digest_is_asked_for_as_such() {
    let content = Content::image("tag", b"layer");
    let manifest = digest(content.get("manifests/tag"));
    let server = content.serve().await;
    let reference = Reference::parse(&format!("{}/x:tag@{manifest}", server.host())).unwrap();
    let image = registry().resolve(&reference, None, &amd64(), None).await.unwrap();
    assert_eq!(image.digest, manifest);
    assert_eq!(server.count(manifest.as_str()), 1);
    assert_eq!(server.count("manifests/tag"), 0);
}
