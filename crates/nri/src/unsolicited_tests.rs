use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::api::{
    Container, HugepageLimit, LinuxContainerUpdate, LinuxCpu, LinuxMemory, LinuxResources, OptionalInt64,
    OptionalUInt64,
};
use crate::runtime::{Future, Snapshot};

/// Does each thing when it is allowed to, and says so.
struct Slow {
    allowed: Arc<Semaphore>,
    done: mpsc::UnboundedSender<Work>,
    exist: Vec<&'static str>,
}

impl Slow {
    fn work(&self, work: Work) -> Future<Result<(), String>> {
        let (allowed, done) = (self.allowed.clone(), self.done.clone());
        Box::pin(async move {
            allowed.acquire().await.unwrap().forget();
            done.send(work).map_err(|e| e.to_string())
        })
    }
}

impl Runtime for Slow {
    fn snapshot(&self) -> Snapshot {
        let of = |id: &&str| Container { id: (*id).to_owned(), ..Container::default() };
        Snapshot { pods: Vec::new(), containers: self.exist.iter().map(of).collect() }
    }
    fn update(&self, update: ContainerUpdate) -> Future<Result<(), String>> {
        self.work(Work::Update(update))
    }
    fn evict(&self, eviction: ContainerEviction) -> Future<Result<(), String>> {
        self.work(Work::Evict(eviction))
    }
}

struct Scene {
    queue: Queue,
    allowed: Arc<Semaphore>,
    done: mpsc::UnboundedReceiver<Work>,
}

/// A queue that is busy with container `busy`.
async fn busy(exist: &[&'static str]) -> Scene {
    let allowed = Arc::new(Semaphore::new(0));
    let (sender, done) = mpsc::unbounded_channel();
    let queue = Queue::start(Arc::new(Slow { allowed: allowed.clone(), done: sender, exist: exist.to_vec() }));
    queue.add(vec![update("busy", LinuxResources::default())], Vec::new());
    while lock(&queue.waiting).containers() > 0 {
        tokio::task::yield_now().await;
    }
    Scene { queue, allowed, done }
}

impl Scene {
    /// All that was done once it may be.
    async fn rest(mut self) -> Vec<Work> {
        self.allowed.add_permits(1 << 20);
        drop(self.queue);
        let mut all = Vec::new();
        while let Some(work) = tokio::time::timeout(Duration::from_secs(5), self.done.recv()).await.unwrap() {
            all.push(work);
        }
        assert_eq!(all.remove(0), Work::Update(update("busy", LinuxResources::default())));
        all
    }
}

fn update(id: &str, resources: LinuxResources) -> ContainerUpdate {
    let linux = Some(LinuxContainerUpdate { resources: Some(resources) });
    ContainerUpdate { container_id: id.into(), linux, ignore_failure: false }
}

fn memory(limit: i64) -> LinuxResources {
    let memory = LinuxMemory { limit: Some(OptionalInt64 { value: limit }), ..LinuxMemory::default() };
    LinuxResources { memory: Some(memory), ..LinuxResources::default() }
}

fn eviction(id: String) -> ContainerEviction {
    ContainerEviction { container_id: id, reason: "r".into() }
}

#[tokio::test]
async fn no_eviction_is_lost_however_many_answers_wait() {
    let scene = busy(&[]).await;
    for n in 0..1000 {
        scene.queue.add(vec![update("c", memory(n))], vec![eviction(format!("e{n}")), eviction("again".into())]);
    }
    let all = scene.rest().await;
    let mut evicted: Vec<_> = vec![Work::Evict(eviction("e0".into())), Work::Evict(eviction("again".into()))];
    evicted.extend((1..1000).map(|n| Work::Evict(eviction(format!("e{n}")))));
    assert_eq!(all[..1001], evicted);
    // The newest of all updates.
    assert_eq!(all[1001..], [Work::Update(update("c", memory(999)))]);
}

#[tokio::test]
async fn updates_that_wait_are_one_of_all_that_they_set() {
    let scene = busy(&[]).await;
    let shares = LinuxCpu { shares: Some(OptionalUInt64 { value: 7 }), ..LinuxCpu::default() };
    let pages = |size: &str, limit| HugepageLimit { page_size: size.into(), limit };
    let first = LinuxResources {
        hugepage_limits: vec![pages("2MB", 1), pages("1GB", 2)],
        unified: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        ..memory(5)
    };
    let second = LinuxResources {
        cpu: Some(shares.clone()),
        hugepage_limits: vec![pages("2MB", 8), pages("2MB", 9)],
        unified: [("a".to_owned(), "3".to_owned())].into(),
        ..LinuxResources::default()
    };
    scene.queue.add(vec![update("c", first.clone())], Vec::new());
    scene.queue.add(vec![update("other", memory(1))], Vec::new());
    scene.queue.add(vec![update("c", second)], Vec::new());
    // Zero is a value, too.
    scene.queue.add(vec![update("c", memory(0))], Vec::new());
    let merged = LinuxResources {
        cpu: Some(shares),
        hugepage_limits: vec![pages("2MB", 9), pages("1GB", 2)],
        unified: [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        ..memory(0)
    };
    let expected = [Work::Update(update("c", merged)), Work::Update(update("other", memory(1)))];
    assert_eq!(scene.rest().await, expected);
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let scene = busy(&["there"]).await;
    let many = |what: &'static str| (0..=CONTAINERS).map(move |n| format!("{what}{n}"));
    scene.queue.add(vec![update("there", memory(1))], vec![eviction("there".into())]);
    scene.queue.add(many("u").map(|id| update(&id, memory(1))).collect(), many("e").map(eviction).collect());
    scene.queue.add(vec![update(&"x".repeat(MAX_ID + 1), memory(1))], vec![eviction("x".repeat(MAX_ID + 1))]);
    let large = LinuxResources { unified: [("k".into(), "v".repeat(MAX_UPDATE))].into(), ..LinuxResources::default() };
    scene.queue.add(vec![update("there", large)], Vec::new());
    let expected = [Work::Evict(eviction("there".into())), Work::Update(update("there", memory(1)))];
    assert_eq!(scene.rest().await, expected);
}
