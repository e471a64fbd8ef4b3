//! What operators may ask for, carried out: by the daemon, or by the command itself where none runs.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cricket_cni::Cni;
use cricket_image::{Image, ImageStore, Pruned};
use cricket_pod::Pods;
use cricket_store::Store;

use super::explain::explain;
use super::{Answer, ImageLine, LayerDamage, Operation};
use crate::config::Config;
use crate::doctor::{Repair, collected, repair_leftovers};
use crate::serve;

/// How long plugins have to say that they are ready.
const ASK: Duration = Duration::from_secs(2);

/// Carries operations out.
#[derive(Clone)]
pub(crate) struct Operators {
    /// The images.
    pub(crate) images: ImageStore,
    /// The networks; a command without a daemon has none.
    pub(crate) cni: Option<Cni>,
    /// The pods; a command without a daemon has none.
    pub(crate) pods: Option<Pods>,
    /// The node's configuration.
    pub(crate) config: Arc<Config>,
    /// The records, where no daemon has them.
    pub(crate) store: Option<Store>,
    /// Directories that opening the images' store is collecting.
    pub(crate) left_before: usize,
}

impl Operators {
    /// Carries one out.
    pub(crate) async fn run(&self, operation: Operation) -> Answer {
        let outcome = match operation {
            Operation::LoadImages { path } => {
                self.images.import(Path::new(&path)).await.map(|i| Answer::Images(i.iter().map(|i| line(i)).collect()))
            }
            Operation::PinImage { image } => self.images.pin(&image).await.map(|()| Answer::Done),
            Operation::UnpinImage { image } => self.images.unpin(&image).await.map(|()| Answer::Done),
            Operation::ListImages => Ok(Answer::Images(self.images.list().iter().map(|i| line(i)).collect())),
            Operation::PruneImages { all, dry_run: true } => Ok(pruned(&self.images.prunable(all))),
            Operation::PruneImages { all, dry_run: false } => self.images.prune(all).await.map(|p| pruned(&p)),
            Operation::VerifyLayers => self.verify().await.map(Answer::Layers),
            Operation::Network => match &self.cni {
                Some(cni) => Ok(Answer::Network(network(cni).await)),
                None => return Answer::Failed("no daemon runs".to_owned()),
            },
            Operation::Repair => {
                return self.repair().await.map_or_else(|e| Answer::Failed(e.to_string()), Answer::Repaired);
            }
            Operation::Explain { id } => match &self.pods {
                Some(pods) => return explain(pods, &id).await.map_or_else(Answer::Failed, Answer::Explained),
                None => return Answer::Failed("no daemon runs: it is the one that knows".to_owned()),
            },
        };
        outcome.unwrap_or_else(|e| Answer::Failed(e.to_string()))
    }

    async fn repair(&self) -> Result<Vec<Repair>, Box<dyn Error + Send + Sync>> {
        let (config, store) = (&*self.config, self.store.as_ref());
        let (cni, collect) = match (&self.cni, store) {
            (Some(cni), _) => (cni.clone(), 0),
            (None, Some(store)) => {
                let cni = Cni::open_with(serve::cni_config(config), store.clone())?;
                (cni, self.left_before)
            }
            (None, None) => return Err("no records".into()),
        };
        let mut done = repair_leftovers(config, store, &cni).await?;
        done.extend(collected(&config.own.root, collect).await);
        Ok(done)
    }

    async fn verify(&self) -> cricket_image::Result<Vec<LayerDamage>> {
        let mut found = Vec::new();
        for damage in self.images.verify().await? {
            let healed = self.images.heal(std::slice::from_ref(&damage)).await;
            found.push(LayerDamage {
                layer: damage.diff_id.to_string(),
                details: damage.details,
                failure: healed.err().map(|e| e.to_string()),
            });
        }
        Ok(found)
    }
}

/// What keeps the network from being ready, after its plugins had the time to say so.
pub(super) async fn network(cni: &Cni) -> Option<String> {
    cni.ready().err()?;
    let mut readiness = cni.subscribe();
    let _ = tokio::time::timeout(ASK, readiness.wait_for(Result::is_ok)).await;
    cni.ready().err().map(|e| e.to_string())
}

fn pruned(pruned: &Pruned) -> Answer {
    let images = pruned.images.iter().map(|i| line(i)).collect();
    Answer::Pruned { images, layers: pruned.layers, bytes: pruned.bytes }
}

fn line(image: &Image) -> ImageLine {
    let names = if image.tags.is_empty() { &image.repo_digests } else { &image.tags };
    ImageLine { id: image.id.to_string(), names: names.clone(), size: image.size, pinned: image.pinned }
}
