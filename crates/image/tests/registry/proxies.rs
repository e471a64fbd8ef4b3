//! Proxies of the environment: what goes through them, how, and what does not. Each test runs itself in a child process,
//! whose environment it is.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cricket_image::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::content::*;
use crate::server::{Reply, Request, Server};
use crate::tls::Authority;

const CHILD: &str = "CRICKET_TEST_PROXY_CHILD";

/// Runs this test in a child process with these variables too, which must pass there.
async fn again(test: &str, variables: &[(&str, &str)]) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.args(["--exact", &format!("proxies::{test}")]).env(CHILD, "1").envs(variables.iter().copied());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Pulls the manifest, the config and the layer from a registry at this address.
async fn pull(server: &str) -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("registry.test");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("hosts.toml"), format!("server = {server:?}\n")).unwrap();
    let mut config = config();
    config.config_path = vec![dir.path().to_owned()];
    let registry = Registry::new(config);
    let image = registry.resolve(&reference("registry.test"), None, &amd64(), None).await?;
    let mut stream = registry.fetch_blob(&image.source, &image.layers[0], 0).await?;
    assert_eq!(stream.chunk().await?.as_deref(), Some(&b"layer"[..]));
    Ok(())
}

/// A registry that wants a token of a server of its own.
fn guarded(content: Content, realm: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |request| {
        let host = request.header("host").unwrap_or_default();
        if host.starts_with("tokens.test") {
            return Reply::ok(r#"{"token":"t"}"#);
        }
        match request.header("authorization") {
            Some("Bearer t") => content.answer(request),
            _ => Reply::new(401).header("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"s\"")),
        }
    }
}

/// A proxy that knows CONNECT only, and connects everybody with the one server. What it was asked for.
async fn tunnels(to: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                kept.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                if !head.starts_with("CONNECT ") {
                    return client.write_all(b"HTTP/1.1 405 X\r\ncontent-length: 0\r\n\r\n").await;
                }
                client.write_all(b"HTTP/1.1 200 X\r\n\r\n").await?;
                let mut server = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_to_the_token_server_too() {
    if std::env::var_os(CHILD).is_some() {
        pull("https://registry.test").await.unwrap();
        return;
    }
    let authority = Authority::new();
    let acceptor = authority.acceptor_for(&["registry.test", "tokens.test"]);
    let content = Content::image("tag", b"layer");
    let server = Server::start_tls(acceptor, guarded(content, "https://tokens.test/token")).await;
    let (proxy, asked) = tunnels(server.addr).await;
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, authority.pem()).unwrap();
    let variables = [("HTTPS_PROXY", proxy.as_str()), ("SSL_CERT_FILE", roots.to_str().unwrap())];
    again("tls_goes_through_a_tunnel_to_the_token_server_too", &variables).await;
    let asked = asked.lock().unwrap().clone();
    let lines = ["CONNECT registry.test:443 HTTP/1.1", "CONNECT tokens.test:443 HTTP/1.1"];
    assert!(asked.iter().all(|line| lines.contains(&line.as_str())), "{asked:?}");
    assert_eq!(asked.iter().filter(|line| line.contains("tokens.test")).count(), 1, "{asked:?}");
    assert_eq!(server.count("/token"), 1);
    assert!(server.count("/manifests/tag") >= 1 && asked.len() >= 3, "{asked:?}");
}

#[tokio::test]
async fn a_plain_token_server_is_asked_through_the_proxy() {
    if std::env::var_os(CHILD).is_some() {
        pull("http://registry.test").await.unwrap();
        return;
    }
    let proxy = Server::start(guarded(Content::image("tag", b"layer"), "http://tokens.test/token")).await;
    let address = format!("http://{}", proxy.host());
    again("a_plain_token_server_is_asked_through_the_proxy", &[("HTTP_PROXY", &address)]).await;
    let targets: Vec<String> = proxy.requests().into_iter().map(|r| r.target).collect();
    let tokens: Vec<_> = targets.iter().filter(|t| t.starts_with("http://tokens.test/token?")).collect();
    assert_eq!(tokens.len(), 1, "{targets:?}");
    assert!(targets.iter().filter(|t| t.starts_with("http://registry.test/v2/x/")).count() >= 3, "{targets:?}");
}

#[tokio::test]
async fn no_proxy_names_what_is_asked_directly() {
    if std::env::var_os(CHILD).is_some() {
        for server in ["https://direct.invalid", "https://a.below.invalid", "http://direct.invalid"] {
            pull(server).await.unwrap_err();
        }
        // Another proxy answers for what is not named: nothing that a registry would.
        pull("https://direct.invalid.test").await.unwrap_err();
        return;
    }
    let nobody = Server::start(|_| Reply::new(200)).await;
    let (proxy, asked) = tunnels(nobody.addr).await;
    let variables = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("HTTP_PROXY", proxy.as_str()),
        ("NO_PROXY", "direct.invalid, .below.invalid"),
    ];
    again("no_proxy_names_what_is_asked_directly", &variables).await;
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|l| l == "CONNECT direct.invalid.test:443 HTTP/1.1"), "{asked:?}");
}
