//! `registry up`.

use anyhow::Result;
use clap::Subcommand;
use cricket_testkit::{image, mirrors, registry};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Registry {
    /// Serve the images until interrupted; prints the URL when they are all there
    Up {
        /// File to write the port to, when all images are there
        #[arg(long, value_name = "FILE")]
        port_file: Option<PathBuf>,
        /// Directory to write a hosts.toml tree to, that leads public registries' names here
        #[arg(long, value_name = "DIR")]
        mirrors: Option<PathBuf>,
        /// Keep the images in this directory instead of in memory
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

impl Registry {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Self::Up { port_file, mirrors, data } = self;
        let registry = registry::Registry::with(registry::Options { data, ..Default::default() })?;
        registry.fill(&image::suite()?).await?;
        if let Some(dir) = mirrors {
            mirrors::write(&dir, registry.url())?;
        }
        if let Some(path) = port_file {
            super::announce(&path, &format!("{}\n", registry.port()))?;
        }
        println!("{}", registry.url());
        super::interrupted().await?;
        Ok(ExitCode::SUCCESS)
    }
}
