//! The fake registry: honest without rules, and each fault does what its name says.

use anyhow::Result;
use cricket_testkit::fake::{Access, FakeRegistry, Fault, Rule};
use cricket_testkit::image::{Image, Layer, Tree, digest};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use std::time::{Duration, Instant};

struct Scene {
    registry: FakeRegistry,
    client: Client,
    image: Image,
}

impl Scene {
    fn new() -> Result<Self> {
        let registry = FakeRegistry::start()?;
        let layer = Layer::gzip(Tree::new().file("data", 0o644, digest(b"x").repeat(2000)))?;
        let image = Image::of([layer]).build()?;
        registry.put("some/image", "v1", &image);
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(Duration::from_secs(5)).build()?;
        Ok(Self { registry, client, image })
    }

    fn url(&self) -> String {
        format!("{}/v2/some/image/blobs/{}", self.registry.url(), self.image.layers[0].blob.digest)
    }

    fn data(&self) -> &[u8] {
        &self.image.layers[0].blob.data
    }

    async fn get(&self) -> reqwest::Result<Response> {
        self.client.get(self.url()).send().await
    }

    /// The answer to the next request, which meets the fault; the one after must be whole.
    async fn once(&self, fault: Fault) -> Result<(StatusCode, reqwest::Result<Vec<u8>>)> {
        self.registry.rule(Rule::blobs(fault).times(1));
        let response = self.get().await?;
        let answer = (response.status(), response.bytes().await.map(|bytes| bytes.to_vec()));
        assert_eq!(self.get().await?.bytes().await?, self.data());
        Ok(answer)
    }
}

#[tokio::test]
async fn honest_without_rules() -> Result<()> {
    let scene = Scene::new()?;
    let manifest = scene.client.get(format!("{}/v2/some/image/manifests/v1", scene.registry.url())).send().await?;
    assert_eq!(manifest.headers()["docker-content-digest"], scene.image.digest());
    assert_eq!(manifest.bytes().await?, scene.image.manifest.data);
    let part = scene.client.get(scene.url()).header("range", "bytes=10-").send().await?;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await?, &scene.data()[10..]);
    let head = scene.client.head(scene.url()).send().await?;
    assert_eq!(head.headers()["content-length"], scene.data().len().to_string().as_str());
    let missing = scene.client.get(format!("{}/v2/some/image/manifests/v2", scene.registry.url())).send().await?;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(scene.registry.count("GET", "/blobs/"), 1);
    Ok(())
}

#[tokio::test]
async fn faults_of_status_and_length() -> Result<()> {
    let scene = Scene::new()?;
    let (status, _) = scene.once(Fault::status_with(429, "Retry-After", "1")).await?;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let (status, body) = scene.once(Fault::Replace("other".into())).await?;
    assert_eq!((status, body?.as_slice()), (StatusCode::OK, &b"other"[..]));
    assert!(scene.once(Fault::Truncate(7)).await?.1.is_err());
    assert!(scene.once(Fault::ContentLength(1 << 30)).await?.1.is_err());
    assert_eq!(scene.once(Fault::UntilClose).await?.1?, scene.data());
    assert_eq!(scene.once(Fault::Redirect("http://other{path}".to_owned())).await?.0, StatusCode::TEMPORARY_REDIRECT);
    Ok(())
}

#[tokio::test]
async fn faults_of_time() -> Result<()> {
    let scene = Scene::new()?;
    let began = Instant::now();
    assert_eq!(scene.once(Fault::Delay(Duration::from_millis(300))).await?.1?, scene.data());
    assert!(began.elapsed() >= Duration::from_millis(300));
    let began = Instant::now();
    let piece = scene.data().len().div_ceil(4);
    assert_eq!(scene.once(Fault::Drip(piece, Duration::from_millis(50))).await?.1?, scene.data());
    assert!(began.elapsed() >= Duration::from_millis(200));

    for fault in [Fault::Silence, Fault::Stall(5), Fault::Close, Fault::Endless] {
        scene.registry.rule(Rule::blobs(fault.clone()).times(1));
        let request = scene.client.get(scene.url()).timeout(Duration::from_millis(500));
        let whole = async { request.send().await?.bytes().await };
        assert!(whole.await.is_err(), "{fault:?}");
    }
    assert_eq!(scene.get().await?.bytes().await?, scene.data());
    Ok(())
}

#[tokio::test]
async fn rules_count() -> Result<()> {
    let scene = Scene::new()?;
    scene.registry.rule(Rule::always(Fault::status(500)).after(1).times(2));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(scene.get().await?.status().as_u16());
    }
    assert_eq!(seen, [200, 500, 500, 200]);
    scene.registry.rule(Rule::blobs(Fault::IgnoreRange));
    let answer = scene.client.get(scene.url()).header("range", "bytes=10-").send().await?;
    assert_eq!((answer.status(), answer.bytes().await?.len()), (StatusCode::OK, scene.data().len()));
    Ok(())
}

#[tokio::test]
async fn tokens_and_logins() -> Result<()> {
    let scene = Scene::new()?;
    scene.registry.set_access(Access::Basic("u".to_owned(), "p".to_owned()));
    assert_eq!(scene.get().await?.status(), StatusCode::UNAUTHORIZED);
    let allowed = scene.client.get(scene.url()).basic_auth("u", Some("p")).send().await?;
    assert_eq!(allowed.bytes().await?, scene.data());

    scene.registry.set_access(Access::Token(Some(("u".to_owned(), "p".to_owned()))));
    let refused = scene.get().await?;
    let challenge = refused.headers()["www-authenticate"].to_str()?.to_owned();
    assert!(challenge.starts_with("Bearer realm="), "{challenge}");
    assert!(challenge.contains(r#"scope="repository:some/image:pull""#), "{challenge}");
    let url = format!("{}/token?service=testkit", scene.registry.url());
    assert_eq!(scene.client.get(&url).send().await?.status(), StatusCode::UNAUTHORIZED);
    let answer = scene.client.get(&url).basic_auth("u", Some("p")).send().await?;
    let token = answer.json::<serde_json::Value>().await?["token"].as_str().unwrap_or_default().to_owned();
    let allowed = scene.client.get(scene.url()).bearer_auth(token).send().await?;
    assert_eq!(allowed.bytes().await?, scene.data());
    Ok(())
}
