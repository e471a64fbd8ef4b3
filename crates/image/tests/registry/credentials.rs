//! The node's own credentials: docker's files and helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_image::registry::{AuthConfig, Registry, RegistryError, Resolved};
use cricket_model::{ErrorKind, Kinded};
use serde_json::{Value, json};

use crate::content::*;
use crate::server::{Reply, Server};

/// `user:pass`, and one that is refused.
const RIGHT: &str = "dXNlcjpwYXNz";
const WRONG: &str = "dXNlcjp3cm9uZw==";

/// A registry that wants `user:pass`, and says `refusal` to anything else.
async fn basic(refusal: u16) -> Server {
    let content = Content::image("tag", b"layer");
    Server::start(move |request| match request.header("authorization") {
        Some(given) if given == format!("Basic {RIGHT}") => content.answer(request),
        Some(_) => Reply::new(refusal).header("www-authenticate", "Basic realm=\"r\""),
        None => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
    })
    .await
}

fn write(dir: &Path, config: &Value) -> PathBuf {
    let path = dir.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn pull(server: &Server, files: Vec<PathBuf>, auth: Option<&AuthConfig>) -> Result<Resolved, RegistryError> {
    let mut config = config();
    config.credential_files = files;
    Registry::new(config).resolve(&reference(&server.host()), auth, &amd64(), None).await
}

fn sent(server: &Server) -> Vec<Option<String>> {
    server.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect()
}

#[tokio::test]
async fn every_matching_entry_is_tried_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for refusal in [401, 403] {
        let server = basic(refusal).await;
        let (host, path) = (server.host(), format!("{}/x", server.host()));
        // The longer key goes first, and is wrong.
        let config =
            json!({ "auths": { &host: { "auth": RIGHT }, path: { "auth": WRONG }, "other.test": { "auth": WRONG } } });
        pull(&server, vec![write(dir.path(), &config)], None).await.unwrap();
        let (wrong, right) = (Some(format!("Basic {WRONG}")), Some(format!("Basic {RIGHT}")));
        // The rest of the pull begins with what was right.
        assert_eq!(sent(&server), [None, wrong, right.clone(), right], "{refusal}");
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_the_first_entry_is_asked_with_the_next() {
    let auth = Server::start(|request| match request.header("authorization") {
        Some(given) if given == format!("Basic {RIGHT}") => Reply::ok(r#"{"token":"good"}"#),
        _ => Reply::new(401),
    })
    .await;
    let (realm, content) = (format!("http://{}/token", auth.host()), Content::image("tag", b"layer"));
    let server = Server::start(move |request| match request.header("authorization") {
        Some("Bearer good") => content.answer(request),
        _ => Reply::new(401).header("www-authenticate", format!(r#"Bearer realm="{realm}",service="s""#)),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (host, path) = (server.host(), format!("{}/x", server.host()));
    let config = json!({ "auths": { &host: { "username": "user", "password": "pass" }, path: { "auth": WRONG } } });
    pull(&server, vec![write(dir.path(), &config)], None).await.unwrap();
    assert_eq!(sent(&auth), [Some(format!("Basic {WRONG}")), Some(format!("Basic {RIGHT}"))]);
}

#[tokio::test]
async fn entries_are_for_calls_without_credentials_and_for_their_own_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let server = basic(401).await;
    let file = write(dir.path(), &json!({ "auths": { server.host(): { "auth": RIGHT } } }));
    let wrong = AuthConfig { username: "user".into(), password: "hunter2".into(), ..Default::default() };
    let error = pull(&server, vec![file], Some(&wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!sent(&server).contains(&Some(format!("Basic {RIGHT}"))));

    let server = basic(401).await;
    let file = write(dir.path(), &json!({ "auths": { "*.test": { "auth": RIGHT }, "127.0.0.1": { "auth": RIGHT } } }));
    let error = pull(&server, vec![file], None).await.unwrap_err();
    assert_eq!(sent(&server), [None], "{error}");

    // When all are refused, the error says so and repeats nothing.
    let file = write(dir.path(), &json!({ "auths": { server.host(): { "username": "user", "password": "hunter2" } } }));
    let error = pull(&server, vec![file], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_old_format_and_headers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = basic(401).await;
    let old = dir.path().join(".dockercfg");
    fs::write(&old, json!({ format!("http://{}/v1/", server.host()): { "auth": RIGHT } }).to_string()).unwrap();
    pull(&server, vec![dir.path().join("missing"), old], None).await.unwrap();

    let config = |key: &str| json!({ "auths": { key: { "auth": RIGHT } }, "HttpHeaders": { "X-Meta": "m" } });
    let server = basic(401).await;
    pull(&server, vec![write(dir.path(), &config(&server.host()))], None).await.unwrap();
    assert!(server.requests().iter().all(|r| r.header("x-meta") == Some("m")));
    let server = Content::image("tag", b"layer").serve().await;
    pull(&server, vec![write(dir.path(), &config("other.test"))], None).await.unwrap();
    assert!(server.requests().iter().all(|r| r.header("x-meta").is_none()));
}

/// Helpers are found by `PATH`, which a process cannot change under its threads: another one runs the test.
#[test]
fn helpers_are_asked_where_the_file_names_them() {
    const INSIDE: &str = "CRICKET_TEST_HELPERS";
    if let Some(dir) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(ask_helpers(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let scripts = [
        (
            "good",
            "read -r at || :; echo \"$1 $at ${CRICKET_TEST_HELPERS-clean}\" >> DIR/asked\necho '{\"ServerURL\":\"h\",\"Username\":\"user\",\"Secret\":\"pass\"}'",
        ),
        ("none", "echo 'credentials not found in native keychain'; exit 1"),
        ("huge", "head -c 1000000 /dev/zero"),
        ("nonsense", "echo hunter2"),
    ];
    for (name, script) in scripts {
        let path = dir.path().join(format!("docker-credential-{name}"));
        let script = script.replace("DIR", dir.path().to_str().unwrap());
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let test = "credentials::helpers_are_asked_where_the_file_names_them";
    let mut inside = std::process::Command::new(std::env::current_exe().unwrap());
    let output = inside.args(["--exact", test]).env("PATH", path).env(INSIDE, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

async fn ask_helpers(dir: &Path) {
    let asked = || fs::read_to_string(dir.join("asked")).unwrap_or_default();
    let server = basic(401).await;
    let host = server.host();
    for config in [
        json!({ "credHelpers": { &host: "good" } }),
        json!({ "credsStore": "good" }),
        json!({ "credsStore": "good", "auths": { &host: {} } }),
        // What fails, and what is wrong, gives way to the next.
        json!({ "credHelpers": { format!("{host}/x"): "none" }, "auths": { &host: { "auth": WRONG } }, "credsStore": "good" }),
        json!({ "credHelpers": { format!("{host}/x"): "huge" }, "credsStore": "good" }),
        json!({ "credHelpers": { format!("{host}/x"): "nonsense" }, "credsStore": "good" }),
        json!({ "credHelpers": { format!("{host}/x"): "missing" }, "credsStore": "good" }),
    ] {
        let _ = fs::remove_file(dir.join("asked"));
        pull(&server, vec![write(dir, &config)], None).await.unwrap_or_else(|e| panic!("{config}: {e}"));
        assert_eq!(asked(), format!("get {host} clean\n"), "{config}");
    }
    // Nobody is asked for a registry that wants nothing; without an answer it is tried without credentials.
    let _ = fs::remove_file(dir.join("asked"));
    let open = Content::image("tag", b"layer").serve().await;
    pull(&open, vec![write(dir, &json!({ "credsStore": "good" }))], None).await.unwrap();
    assert_eq!(asked(), "");

    let token = Server::start(|_| Reply::ok(r#"{"token":"public"}"#)).await;
    let (realm, content) = (format!("http://{}/token", token.host()), Content::image("tag", b"layer"));
    let public = Server::start(move |request| match request.header("authorization") {
        Some("Bearer public") => content.answer(request),
        _ => Reply::new(401).header("www-authenticate", format!(r#"Bearer realm="{realm}""#)),
    })
    .await;
    pull(&public, vec![write(dir, &json!({ "credsStore": "none" }))], None).await.unwrap();
    assert_eq!(sent(&token), [None]);
}
