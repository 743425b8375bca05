//! Prints what the metadata of one node costs: `cargo run --release -p tidemill-metadata --example
//! figures [DIR]…`. Each directory (default: /dev/shm and /tmp) is measured on its own.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidemill_metadata::{
    Command, ConfigResource, LevelRange, Listener, Metadata, MetadataConfig, MetadataLog, NoPeers,
};
use tidemill_records::{NodeId, TopicId};
use tidemill_storage::fs::RealFs;
use uuid::Uuid;

const NODE: NodeId = NodeId(1);

#[tokio::main]
async fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let dirs = if given.is_empty() {
        vec!["/dev/shm".into(), "/tmp".into()]
    } else {
        given
    };
    for dir in dirs {
        println!("--- {dir}");
        measure(Path::new(&dir)).await;
    }
}

async fn measure(parent: &Path) {
    open_empty(parent).await;
    latency(parent).await;
    let one_topic = vec![create(0, 10_000)];
    many_partitions(parent, "1 topic of 10,000 partitions", one_topic).await;
    let topics = (0..10_000).map(|id| create(id, 1)).collect();
    many_partitions(parent, "10,000 topics of 1 partition", topics).await;
}

async fn open(dir: &Path) -> (Metadata, f64) {
    let begin = Instant::now();
    let config = MetadataConfig::new(dir, NODE);
    let node = Metadata::open(Arc::new(RealFs), config, Arc::new(NoPeers), Uuid::new_v4).await;
    (node.expect("the node opens"), millis(begin.elapsed()))
}

async fn open_empty(parent: &Path) {
    let before = rss_anon_kib();
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let dir = tempfile::tempdir_in(parent).expect("a directory");
        let (node, took) = open(dir.path()).await;
        if first.is_empty() {
            println!(
                "RssAnon {before} KiB without, {} KiB with a node",
                rss_anon_kib()
            );
        }
        first.push(took);
        node.close().await;
        drop(node);
        let (node, took) = open(dir.path()).await;
        again.push(took);
        node.close().await;
    }
    println!("first start to leader, ms: {}", spread(first));
    println!("next start to leader, ms: {}", spread(again));
}

async fn latency(parent: &Path) {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let (node, _) = open(dir.path()).await;
    register(&node).await;
    node.preallocate_in_background();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut took = Vec::new();
    for at in 0..2_000 {
        let begin = Instant::now();
        node.propose(set_config(at, 8)).await.expect("taken");
        took.push(millis(begin.elapsed()));
    }
    println!("proposal, one at a time, ms: {}", spread(took));
    let (begin, cpu, syncs) = (Instant::now(), cpu_ms(), node.log_stats().fsyncs);
    for _ in 0..20 {
        let results = join_all((0..1_000).map(|at| node.propose(set_config(at, 8)))).await;
        assert!(results.iter().all(Result::is_ok));
    }
    println!(
        "20,000 proposals, 1,000 at a time: {:.0} ms, {:.0} ms of CPU, {} syncs",
        millis(begin.elapsed()),
        cpu_ms() - cpu,
        node.log_stats().fsyncs - syncs,
    );
    node.close().await;
}

async fn many_partitions(parent: &Path, what: &str, commands: Vec<Command>) {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let (node, _) = open(dir.path()).await;
    register(&node).await;
    let (before, begin) = (rss_anon_kib(), Instant::now());
    for chunk in commands.chunks(1_000) {
        let results = join_all(chunk.iter().map(|command| node.propose(command.clone()))).await;
        assert!(results.iter().all(Result::is_ok));
    }
    drop(commands);
    println!(
        "{what}: created in {:.1} ms, RssAnon {} → {} KiB, image hash in {:.1} ms",
        millis(begin.elapsed()),
        before,
        rss_anon_kib(),
        time(|| node.image().hash()),
    );
    idle(&node).await;
    node.close().await;
    drop(node);
    let (node, from_log) = open(dir.path()).await;
    // A restart of the broker: everything it leads gets a new epoch.
    let begin = Instant::now();
    register(&node).await;
    println!(
        "  registered again (all partitions elected anew) in {:.1} ms",
        millis(begin.elapsed())
    );
    // Past the size at which a snapshot is due.
    for at in 0..200 {
        node.propose(set_config(at, 30 << 10)).await.expect("taken");
    }
    let snapshot = dir.path().join("meta/snapshot");
    while !snapshot.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bytes = snapshot.metadata().expect("there").len();
    node.close().await;
    drop(node);
    let (node, from_snapshot) = open(dir.path()).await;
    println!(
        "  start to leader from the log {from_log:.1} ms, from a snapshot of {} KiB {from_snapshot:.1} ms",
        bytes / 1024,
    );
    node.close().await;
}

async fn idle(node: &Metadata) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, switches) = (cpu_ms(), switches());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "  idle with {} topics: {:.3} ms of CPU a second, {:.1} context switches a second",
        node.image().topics().len(),
        (cpu_ms() - cpu) / 5.0,
        (self::switches() - switches) as f64 / 5.0,
    );
}

async fn register(node: &Metadata) {
    let command = Command::RegisterBroker {
        node: NODE,
        incarnation: Uuid::new_v4(),
        directory: node.identity().directory,
        rack: None,
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "127.0.0.1".into(),
            port: 9092,
        }],
        levels: LevelRange::OURS,
        fenced: false,
    };
    node.propose(command).await.expect("registered");
}

fn create(id: u128, partitions: usize) -> Command {
    Command::CreateTopic {
        name: format!("a-topic-with-a-name-{id}").into(),
        id: TopicId(Uuid::from_u128(id + 1)),
        partitions: vec![vec![NODE]; partitions],
        configs: vec![],
    }
}

fn set_config(at: usize, bytes: usize) -> Command {
    let key = format!("key-{}", at % 10);
    let value = "v".repeat(bytes);
    Command::SetConfigs {
        resource: ConfigResource::DefaultBroker,
        changes: vec![(key.into(), Some(value.into()))],
    }
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    format!(
        "p50 {:.3}, p90 {:.3}, p99 {:.3}, max {:.3}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn time<T>(run: impl FnOnce() -> T) -> f64 {
    let begin = Instant::now();
    run();
    millis(begin.elapsed())
}

/// CPU time of all threads of this process.
fn cpu_ms() -> f64 {
    let nanos = |text: String| text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    per_thread("schedstat")
        .into_iter()
        .filter_map(nanos)
        .sum::<f64>()
        / 1e6
}

fn switches() -> u64 {
    let of_thread = |text: String| {
        text.lines()
            .filter(|line| line.contains("ctxt_switches"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>()
    };
    per_thread("status").into_iter().map(of_thread).sum()
}

fn per_thread(file: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let read = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join(file)).ok();
    threads.flatten().filter_map(read).collect()
}

fn rss_anon_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .expect("Linux");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}
