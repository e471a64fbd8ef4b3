//! `images list`, `images save` and `images push`.

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use cricket_testkit::host;
use cricket_testkit::image::{self, Named, Pusher};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// An OCI image layout directory
    OciDir,
    /// An OCI image layout in a tar archive
    OciArchive,
    /// What `docker save` writes
    DockerArchive,
}

#[derive(Subcommand)]
pub(crate) enum Images {
    /// Print repository, tag, image ID and size of each
    List,
    /// Write one to a file or directory
    Save {
        /// Repository and tag as `list` prints them, joined by a colon
        image: String,
        /// Where to
        path: PathBuf,
        /// In which format
        #[arg(long, value_enum, default_value = "oci-archive")]
        format: Format,
        /// Name in the archive [default: docker.io/IMAGE]
        #[arg(long)]
        name: Option<String>,
    },
    /// Push the images that Kubernetes' end-to-end suite names to a registry
    Push {
        /// Scheme, host and port of a registry
        url: String,
    },
}

impl Images {
    pub(crate) fn run(self, runtime: &tokio::runtime::Runtime) -> Result<ExitCode> {
        match self {
            Self::List => {
                for named in image::suite()? {
                    let (id, size) = (named.image.id(), named.image.transfer_size());
                    println!("{}:{}\t{id}\t{size}", named.repository, named.tag);
                }
            }
            Self::Save { image, path, format, name } => {
                let suite = image::suite()?;
                let found = suite.iter().find(|named| format!("{}:{}", named.repository, named.tag) == image);
                let found = found.with_context(|| format!("{image}: not among the images that `list` prints"))?;
                let name = name.unwrap_or_else(|| format!("docker.io/{image}"));
                let images = [(name.as_str(), &found.image)];
                match format {
                    Format::OciDir => image::write_oci_dir(&path, &images)?,
                    Format::OciArchive => image::write_oci_tar(&path, &images)?,
                    Format::DockerArchive => image::write_docker_archive(&path, &images)?,
                }
            }
            Self::Push { url } => {
                let images = image::conformance(&host::tool_dir("e2e")?)?;
                runtime.block_on(push(&url, &images))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn push(url: &str, images: &[Named]) -> Result<()> {
    let pusher = Pusher::new(url, None, None)?;
    for Named { repository, tag, image } in images {
        let digest = pusher.push(repository, tag, image).await.with_context(|| format!("{repository}:{tag}"))?;
        println!("{repository}:{tag}@{digest}");
    }
    Ok(())
}
