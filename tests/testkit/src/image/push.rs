//! Pushing to a registry with the distribution API.

use super::{Blob, Image, Index};
use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Pushes images to one registry; remembers where a blob is, to mount it from there.
pub struct Pusher {
    base: Url,
    client: Client,
    login: Option<(String, String)>,
    /// Digest to a repository that has it.
    places: Mutex<HashMap<String, String>>,
}

impl Pusher {
    /// A pusher to the registry at `base`, such as `http://127.0.0.1:5000`;
    /// `ca` is a PEM certificate that is trusted besides.
    pub fn new(base: &str, login: Option<(&str, &str)>, ca: Option<&[u8]>) -> Result<Self> {
        let mut client = Client::builder().no_proxy();
        if let Some(pem) = ca {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(pem)?]);
        }
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        Ok(Self { base: base.parse()?, client: client.build()?, login, places: Mutex::default() })
    }

    /// Pushes an image under `repository:tag`; returns its digest.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        self.content(repository, image).await?;
        self.manifest(repository, tag, &image.manifest).await
    }

    /// Pushes an index and all its images; returns its digest.
    pub async fn push_index(&self, repository: &str, tag: &str, index: &Index) -> Result<String> {
        for image in &index.images {
            self.content(repository, image).await?;
            self.manifest(repository, &image.manifest.digest, &image.manifest).await?;
        }
        self.manifest(repository, tag, &index.blob).await
    }

    /// Deletes a manifest by digest.
    pub async fn delete(&self, repository: &str, digest: &str) -> Result<()> {
        let response = self.request(Method::DELETE, &format!("/v2/{repository}/manifests/{digest}"))?.send().await?;
        expect(response, StatusCode::ACCEPTED).await.map(drop)
    }

    async fn content(&self, repository: &str, image: &Image) -> Result<()> {
        self.blob(repository, &image.config).await?;
        for layer in &image.layers {
            self.blob(repository, &layer.blob).await?;
        }
        Ok(())
    }

    async fn manifest(&self, repository: &str, reference: &str, manifest: &Blob) -> Result<String> {
        let request = self
            .request(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"))?
            .header(header::CONTENT_TYPE, &manifest.media_type)
            .body(manifest.data.clone());
        expect(request.send().await?, StatusCode::CREATED)
            .await
            .with_context(|| format!("push {repository}:{reference}"))?;
        Ok(manifest.digest.clone())
    }

    async fn blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let digest = &blob.digest;
        let known = self.request(Method::HEAD, &format!("/v2/{repository}/blobs/{digest}"))?.send().await?;
        if known.status() == StatusCode::OK {
            return Ok(());
        }
        let place = self.places().get(digest).cloned();
        let query = place.map_or(String::new(), |from| format!("?mount={digest}&from={from}"));
        let begun = self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/{query}"))?.send().await?;
        if begun.status() != StatusCode::CREATED {
            let begun = expect(begun, StatusCode::ACCEPTED).await?;
            let location = begun.headers().get(header::LOCATION).context("upload without a location")?.to_str()?;
            let mut url = self.base.join(location)?;
            url.query_pairs_mut().append_pair("digest", digest);
            let request = self
                .authorized(self.client.put(url))
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(blob.data.clone());
            expect(request.send().await?, StatusCode::CREATED).await.with_context(|| format!("push {digest}"))?;
        }
        self.places().insert(digest.clone(), repository.to_owned());
        Ok(())
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        Ok(self.authorized(self.client.request(method, self.base.join(path)?)))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }
}

async fn expect(response: Response, status: StatusCode) -> Result<Response> {
    if response.status() != status {
        bail!("{}: {} {}", response.url().clone(), response.status(), response.text().await.unwrap_or_default());
    }
    Ok(response)
}
