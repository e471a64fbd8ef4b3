//! Keys, certificates and credentials of one control plane.

use anyhow::{Context, Result};
use cricket_testkit::host;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where services have their addresses; nothing routes there, pods only see them in their environment.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The first of them, which is the API server's own service.
const SERVICE: &str = "10.96.0.1";

/// The directory of a control plane. Only root enters it.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes the directory, a CA, the API server's certificate for the address, and the key that signs pods' tokens.
    pub(super) fn new(dir: PathBuf, address: Ipv4Addr) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let files = Self { dir };
        let path = |name: &str| files.path(name).display().to_string();
        let key = |name: &str| {
            host::run(
                "openssl",
                ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", name],
            )
        };
        for name in ["ca.key", "server.key", "tokens.key"] {
            key(&path(name))?;
        }
        host::run("openssl", ["pkey", "-in", &path("tokens.key"), "-pubout", "-out", &path("tokens.pub")])?;
        let ca = ["req", "-x509", "-subj", "/CN=cricket test cluster", "-days", "30", "-key"];
        host::run("openssl", ca.map(str::to_owned).into_iter().chain([path("ca.key"), "-out".into(), path("ca.pem")]))?;
        let names = format!(
            "subjectAltName=IP:{address},IP:{SERVICE},DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        );
        let server = ["req", "-x509", "-subj", "/CN=kube-apiserver", "-days", "30", "-addext", &names];
        // A leaf, or a client that looks at it takes it for a CA.
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-key"];
        let files_of = ["server.key", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "server.pem"];
        let resolved = files_of.map(|word| if word.starts_with('-') { word.to_owned() } else { path(word) });
        host::run("openssl", server.into_iter().chain(leaf).map(str::to_owned).chain(resolved))?;
        Ok(files)
    }

    /// A file of the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `--name=` and a file of the directory.
    pub(super) fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    /// Writes the administrator's token and kubeconfig; the token.
    pub(super) fn credentials(&self, url: &str) -> Result<String> {
        let token = format!("{}{}", host::unique(), host::unique());
        fs::write(self.path("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cricket", "cluster": { "server": url, "certificate-authority": self.path("ca.pem") } }],
            "users": [{ "name": "admin", "user": { "token": token } }],
            "contexts": [{ "name": "cricket", "context": { "cluster": "cricket", "user": "admin" } }],
            "current-context": "cricket",
        });
        fs::write(self.kubeconfig(), serde_json::to_vec_pretty(&config)?)?;
        Ok(token)
    }

    /// What kubectl and the programs of the cluster log in with.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
