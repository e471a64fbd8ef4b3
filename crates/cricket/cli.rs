//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::admin::{Answer, Operation, client, page};
use crate::config::{self, Config, Flags};
use crate::{doctor, images, serve};

/// Shown below the commands.
const EXAMPLES: &str = "\
Examples:
  cricket serve
      run the daemon with /etc/cricket/config.toml
  cricket serve --config /etc/containerd/config.toml
      run it with a containerd node's configuration
  cricket config --config /etc/containerd/config.toml
      see what of that counts, and what cricket does not use
  cricket config import --crio /etc/crio/crio.conf --directory /etc/crio/crio.conf.d
      print CRI-O's runtime handlers as cricket reads them
  cricket image load images.tar
      add images without a registry
  cricket doctor --verify
      is this node fit, is anything left over, are the layers whole

A kubelet uses it with --container-runtime-endpoint=unix:///run/cricket/cricket.sock";

/// A Kubernetes container runtime: serves CRI v1 to the kubelet.
#[derive(Debug, Parser)]
#[command(name = "cricket", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    ///
    /// It answers on the CRI socket until SIGTERM, and leaves the pods running when it ends.
    Serve(Common),
    /// Print the effective configuration and where each value came from
    ///
    /// Keys that are set and that cricket does not use are listed at the end.
    Config {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// Load, pin, list and prune images
    Image {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Show everything that the daemon knows of a pod or container
    ///
    /// Its state and what is unfinished, handler, monitor, control group, network, image and layers, mounts.
    Explain {
        #[command(flatten)]
        common: Common,
        /// ID of a pod or container, or the beginning of it
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the node: kernel, handlers, networks, leftovers
    ///
    /// Ends with status 1 when something is wrong.
    Doctor {
        #[command(flatten)]
        common: Common,
        /// Also compare every file of every layer with its digest, and fetch damaged layers again
        #[arg(long)]
        verify: bool,
        /// Also take away what is left over, where records or marks of cricket's say that it is cricket's
        #[arg(long)]
        repair: bool,
    },
}

/// What to do with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print another runtime's handlers in this format
    ///
    /// Nothing is changed. What cannot be taken over is listed below, as comments.
    Import {
        /// CRI-O's configuration, most often /etc/crio/crio.conf
        #[arg(long, value_name = "FILE")]
        crio: PathBuf,
        /// Its directory of further files, most often /etc/crio/crio.conf.d
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Add the images of an OCI layout (directory or archive) or of `docker save`
    Load {
        /// The archive or directory
        path: PathBuf,
    },
    /// Keep the kubelet from collecting an image
    Pin {
        /// Name or ID of the image
        image: String,
    },
    /// Let the kubelet collect an image again
    Unpin {
        /// Name or ID of the image
        image: String,
    },
    /// List the images
    List,
    /// Remove images without a tag that no container uses
    ///
    /// Pinned images stay. An image that was pulled by digest has no tag. The layers are gone when the command ends.
    Prune {
        /// Also images with a tag
        #[arg(long)]
        all: bool,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Flags of every command: they say which daemon is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Common {
    /// Configuration file, in the format of containerd's [default: /etc/cricket/config.toml, if there is one]
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of images, records and writable layers; survives reboots [default: /var/lib/cricket]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Directory of sockets, journals and mounts; best a tmpfs [default: /run/cricket]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// The CRI socket [default: cricket.sock in the state directory]
    #[arg(long, short, value_name = "SOCKET", global = true)]
    address: Option<PathBuf>,
    /// error, warn, info, debug, trace, or directives such as info,cricket_image=debug [default: info]
    #[arg(long, short, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

impl Common {
    /// The configuration that these flags select.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load(self) -> config::Result<Config> {
        let Self { config, root, state, address, log_level, log_format } = self;
        Config::load(config.as_deref(), &Flags { root, state, address, log_level, log_format })
    }
}

/// Runs the command; errors go to standard error.
pub(crate) fn run() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("cricket: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What a command answers: errors as a person reads them.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn execute(command: Command) -> Outcome {
    match command {
        Command::Serve(common) => serve::run(common.load()?).map(|()| ExitCode::SUCCESS),
        Command::Config { common, command: None } => {
            print!("{}", common.load()?.to_toml());
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { command: Some(ConfigCommand::Import { crio, directory }), .. } => {
            let import = config::crio::import(&crio, directory.as_deref())?;
            print!("{}", import.toml);
            if import.left > 0 {
                eprintln!("cricket: {} settings are not taken over; they are listed at the end", import.left);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Image { common, command } => images::run(&common.load()?, command),
        Command::Explain { common, id, json } => explain(&common.load()?, id, json),
        Command::Doctor { common, verify, repair } => doctor::run(&common.load()?, verify, repair),
    }
}

fn explain(config: &Config, id: String, json: bool) -> Outcome {
    match client::ask(config, Operation::Explain { id })? {
        Answer::Explained(document) if json => println!("{document:#}"),
        Answer::Explained(document) => print!("{}", page(&document)),
        other => return Err(format!("unexpected answer {other:?}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_containerds() {
        let cli = Cli::try_parse_from(
            "cricket serve --config /c --root /r --state /s --address /a --log-level debug --log-format json"
                .split(' '),
        )
        .expect("valid");
        let Command::Serve(common) = cli.command else { panic!("{cli:?}") };
        assert_eq!(common.config.as_deref(), Some("/c".as_ref()));
        assert_eq!((common.root, common.state), (Some("/r".into()), Some("/s".into())));
        assert_eq!(common.address, Some("/a".into()));
        assert_eq!((common.log_level.as_deref(), common.log_format.as_deref()), (Some("debug"), Some("json")));
    }

    #[test]
    fn flags_go_anywhere() {
        for line in ["cricket image --state /s load x.tar", "cricket image load x.tar --state /s"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            let Command::Image { common, command: ImageCommand::Load { path } } = cli.command else { panic!("{line}") };
            assert_eq!((common.state, path), (Some("/s".into()), "x.tar".into()), "{line}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for line in [
            "cricket",
            "cricket serve --wrong",
            "cricket image",
            "cricket image pin",
            "cricket doctor x",
            "cricket config import",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
