//! What operators may ask for, carried out: by the daemon, or by the command itself where none runs.

use std::path::Path;
use std::time::Duration;

use cricket_cni::Cni;
use cricket_image::{Image, ImageStore, Pruned};
use cricket_pod::Pods;

use super::explain::explain;
use super::{Answer, ImageLine, LayerDamage, Operation};

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
            Operation::Explain { id } => match &self.pods {
                Some(pods) => return explain(pods, &id).await.map_or_else(Answer::Failed, Answer::Explained),
                None => return Answer::Failed("no daemon runs: it is the one that knows".to_owned()),
            },
        };
        outcome.unwrap_or_else(|e| Answer::Failed(e.to_string()))
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
