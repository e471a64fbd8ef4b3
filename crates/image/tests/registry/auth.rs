//! Basic credentials and token servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cricket_image::registry::{AuthConfig, Registry, RegistryError, Resolved};
use cricket_model::{ErrorKind, Kinded};

use crate::content::*;
use crate::server::{Reply, Request, Server};

fn user() -> AuthConfig {
    AuthConfig { username: "user".into(), password: "pass".into(), ..Default::default() }
}

/// A registry that wants one of these tokens, and the token server that it names.
async fn guarded(realm: String, accepted: Arc<Mutex<String>>) -> Server {
    let content = Content::image("tag", b"layer");
    Server::start(move |request| {
        let given = request.header("authorization").and_then(|a| a.strip_prefix("Bearer "));
        if given.is_some_and(|t| t == *accepted.lock().unwrap()) {
            return content.answer(request);
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="the service",scope="repository:x:pull""#);
        Reply::new(401).header("www-authenticate", challenge)
    })
    .await
}

/// A token server that gives `token-1`, `token-2`, …
async fn tokens(extra: &'static str) -> (Server, Arc<Mutex<String>>) {
    let accepted = Arc::new(Mutex::new(String::new()));
    let (count, shared) = (AtomicUsize::new(0), accepted.clone());
    let server = Server::start(move |_| {
        let token = format!("token-{}", count.fetch_add(1, Ordering::Relaxed) + 1);
        *shared.lock().unwrap() = token.clone();
        Reply::ok(format!(r#"{{"token":"{token}"{extra}}}"#))
    })
    .await;
    (server, accepted)
}

async fn resolve(registry: &Registry, server: &Server, auth: Option<&AuthConfig>) -> Result<Resolved, RegistryError> {
    registry.resolve(&reference(&server.host()), auth, &amd64(), None).await
}

#[tokio::test]
async fn basic_credentials_are_sent_when_asked_for() {
    let content = Content::image("tag", b"layer");
    let server = Server::start(move |request| match request.header("authorization") {
        Some("Basic dXNlcjpwYXNz") => content.answer(request),
        _ => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
    })
    .await;
    resolve(&registry(), &server, Some(&user())).await.unwrap();
    let sent: Vec<bool> = server.requests().iter().map(|r| r.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);

    let wrong = AuthConfig { password: "wrong".into(), ..user() };
    let other = AuthConfig { server_address: "other.test".into(), ..user() };
    for (auth, requests) in [(Some(wrong), 2), (Some(other), 1), (None, 1)] {
        let before = server.requests().len();
        let error = resolve(&registry(), &server, auth.as_ref()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert_eq!(server.requests().len() - before, requests, "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }

    // The node's own credentials are for calls without any.
    let mut config = config();
    config.auths.insert(server.host(), AuthConfig { auth: "dXNlcjpwYXNz".into(), ..Default::default() });
    resolve(&Registry::new(config), &server, None).await.unwrap();
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept_until_it_expires() {
    let (auth, accepted) = tokens(r#","expires_in":3"#).await;
    let server = guarded(format!("http://{}/token?account=a", auth.host()), accepted).await;
    let registry = registry();
    resolve(&registry, &server, Some(&user())).await.unwrap();
    resolve(&registry, &server, Some(&user())).await.unwrap();
    let asked = auth.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/token?account=a&service=the+service&scope=repository%3Ax%3Apull");
    assert_eq!(asked[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
    // Nobody else gets a token that these credentials bought.
    resolve(&registry, &server, None).await.unwrap();
    assert_eq!(auth.requests().len(), 2);
    assert_eq!(auth.requests()[1].header("authorization"), None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    resolve(&registry, &server, Some(&user())).await.unwrap();
    assert_eq!(auth.requests().len(), 3);
}

#[tokio::test]
async fn a_token_that_is_revoked_is_fetched_again() {
    let (auth, accepted) = tokens("").await;
    let server = guarded(format!("http://{}/token", auth.host()), accepted.clone()).await;
    let registry = registry();
    let image = resolve(&registry, &server, None).await.unwrap();
    *accepted.lock().unwrap() = "revoked".into();
    registry.fetch_blob(&image.source, &image.layers[0], 0).await.unwrap();
    assert_eq!(auth.requests().len(), 2);
    *accepted.lock().unwrap() = "revoked".into();
    resolve(&registry, &server, None).await.unwrap();
    assert_eq!(auth.requests().len(), 3);
}

#[tokio::test]
async fn a_401_loop_ends() {
    let (auth, _) = tokens("").await;
    let server = guarded(format!("http://{}/token", auth.host()), Arc::new(Mutex::new("never".into()))).await;
    let registry = registry();
    for (requests, fetched) in [(2, 1), (5, 2)] {
        let error = resolve(&registry, &server, Some(&user())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_eq!((server.requests().len(), auth.requests().len()), (requests, fetched));
    }
}

#[tokio::test]
async fn identity_tokens_go_to_the_token_server_only() {
    let accepted = Arc::new(Mutex::new("access".to_owned()));
    let auth = Server::start(|request: &Request| match request.method.as_str() {
        "POST" => Reply::ok(r#"{"access_token":"access","expires_in":60}"#),
        _ => Reply::new(405),
    })
    .await;
    let server = guarded(format!("http://{}/oauth", auth.host()), accepted).await;
    let identity = AuthConfig { identity_token: "refresh me".into(), ..Default::default() };
    resolve(&registry(), &server, Some(&identity)).await.unwrap();
    let body = &auth.requests()[0].body;
    for part in ["grant_type=refresh_token", "refresh_token=refresh+me", "scope=repository%3Ax%3Apull", "client_id="] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(server.requests().iter().all(|r| r.headers.iter().all(|(_, v)| !v.contains("refresh me"))));

    // With a user name, the OAuth2 form is what is left when GET is not there.
    resolve(&registry(), &server, Some(&user())).await.unwrap();
    let asked = auth.requests();
    assert_eq!(asked.iter().map(|r| r.method.as_str()).collect::<Vec<_>>(), ["POST", "GET", "POST"]);
    assert!(asked[2].body.contains("grant_type=password") && asked[2].body.contains("username=user"));
}

#[tokio::test]
async fn registry_tokens_are_used_as_they_are() {
    let server = guarded("http://nowhere.invalid/".into(), Arc::new(Mutex::new("mine".into()))).await;
    let auth = AuthConfig { registry_token: "mine".into(), ..Default::default() };
    resolve(&registry(), &server, Some(&auth)).await.unwrap();
    let auth = AuthConfig { registry_token: "not mine".into(), ..Default::default() };
    assert_eq!(resolve(&registry(), &server, Some(&auth)).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn token_servers_that_fail_are_named() {
    for (reply, kind, want) in [
        ((401, "{}"), ErrorKind::Unauthenticated, "credentials were refused"),
        ((500, ""), ErrorKind::RegistryUnavailable, "status 500"),
        ((429, ""), ErrorKind::ResourceExhausted, "429"),
        ((200, "{}"), ErrorKind::Unauthenticated, "no token"),
        ((200, "nonsense"), ErrorKind::Unauthenticated, "not a token"),
        ((200, r#"{"token":"a\nb"}"#), ErrorKind::InvalidArgument, "control characters"),
    ] {
        let auth = Server::start(move |_| Reply::new(reply.0).send(reply.1)).await;
        let server = guarded(format!("http://{}/token", auth.host()), Arc::default()).await;
        let error = resolve(&registry(), &server, Some(&user())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
    for realm in ["ftp://x/", "not an address", "file:///etc/passwd"] {
        let server = guarded(realm.into(), Arc::default()).await;
        let error = resolve(&registry(), &server, Some(&user())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    }
}

#[tokio::test]
async fn a_token_server_redirect_does_not_take_the_password_along() {
    let (thief, accepted) = tokens("").await;
    let to = format!("http://{}/steal", thief.alias());
    let auth = Server::start(move |_| Reply::redirect(&to)).await;
    let server = guarded(format!("http://{}/token", auth.host()), accepted).await;
    resolve(&registry(), &server, Some(&user())).await.unwrap();
    assert_eq!(thief.requests()[0].header("authorization"), None);

    let identity = AuthConfig { identity_token: "secret".into(), ..Default::default() };
    let error = resolve(&registry(), &server, Some(&identity)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(thief.requests().len(), 1);
}
