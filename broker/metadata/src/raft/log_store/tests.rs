use std::path::PathBuf;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tidemill_records::NodeId;
use tidemill_storage::fs::{RealFs, SimFaults, SimFs};
use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use super::*;
use crate::image::MetadataImage;
use crate::raft::state_machine::StateMachine;
use crate::raft::{EncodedCommand, Payload};

const DIR: &str = "/data/meta";

fn open_in(fs: Arc<dyn Fs>, dir: &Path) -> Result<(LogStore, MetaFiles), LogOpenError> {
    fs.create_dir_all(dir).expect("a directory");
    let (files, _thread) = MetaFiles::open(Arc::clone(&fs), dir.to_owned());
    Ok((LogStore::open(fs, dir, files.clone(), 64 << 10)?, files))
}

fn open(fs: &SimFs) -> LogStore {
    open_in(Arc::new(fs.clone()), Path::new(DIR))
        .expect("the log opens")
        .0
}

fn state_machine(files: MetaFiles) -> StateMachine {
    let (published, _) = watch::channel(Arc::new(MetadataImage::empty()));
    StateMachine::new(published, files, Arc::new(Notify::new()))
}

enum Disk {
    Real,
    Simulated,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Disk {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        // Memory where there is some: the suite syncs some hundred times, and that is not its point.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.into()
        } else {
            std::env::temp_dir()
        };
        let guard = tempfile::tempdir_in(parent).expect("a directory");
        let (fs, dir): (Arc<dyn Fs>, PathBuf) = match self {
            Self::Real => (Arc::new(RealFs), guard.path().join("meta")),
            Self::Simulated => (Arc::new(SimFs::new(7)), DIR.into()),
        };
        let (store, files) = open_in(fs, &dir).expect("the log opens");
        Ok((guard, store, state_machine(files)))
    }
}

#[tokio::test]
async fn passes_openrafts_suite_on_the_real_file_system() {
    Suite::test_all(Disk::Real).await.expect("the suite passes");
}

#[tokio::test]
async fn passes_openrafts_suite_on_the_simulated_file_system() {
    Suite::test_all(Disk::Simulated)
        .await
        .expect("the suite passes");
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn entry(term: u64, index: u64) -> Entry {
    let bytes = format!("command {index} of term {term}")
        .into_bytes()
        .repeat(8);
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(EncodedCommand(bytes.into())),
    }
}

/// Appends, and gives what the callback is told.
async fn append(store: &mut LogStore, entries: Vec<Entry>) -> oneshot::Receiver<io::Result<()>> {
    let (signal, flushed) = TypeConfig::oneshot();
    store
        .append(entries, IOFlushed::signal(signal))
        .await
        .expect("appended");
    flushed
}

async fn append_and_wait(store: &mut LogStore, entries: Vec<Entry>) {
    append(store, entries)
        .await
        .await
        .expect("called")
        .expect("flushed");
}

/// All that a store remembers.
#[derive(Clone, PartialEq, Default)]
struct Remembered {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

impl Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            vote,
            committed,
            purged,
            entries,
        } = self;
        let ids: Vec<_> = entries
            .iter()
            .map(|entry| entry.log_id.to_string())
            .collect();
        write!(
            f,
            "{vote:?} committed {committed:?} purged {purged:?} entries {ids:?}"
        )
    }
}

async fn remembered(store: &mut LogStore) -> Remembered {
    Remembered {
        vote: store.read_vote().await.expect("read"),
        committed: store.read_committed().await.expect("read"),
        purged: store
            .get_log_state()
            .await
            .expect("read")
            .last_purged_log_id,
        entries: store.try_get_log_entries(..).await.expect("read"),
    }
}

#[tokio::test]
async fn everything_comes_back_after_a_close() {
    let fs = SimFs::new(1);
    let identity = Identity {
        cluster_id: Uuid::from_u128(1),
        node: NodeId(1),
        directory: Uuid::from_u128(2),
    };
    let mut store = open(&fs);
    assert!(store.is_empty());
    store.set_identity(identity);
    store.save_vote(&Vote::new(3, 1)).await.expect("saved");
    append_and_wait(&mut store, (0..20).map(|at| entry(3, at)).collect()).await;
    store
        .truncate_after(Some(log_id(3, 14)))
        .await
        .expect("truncated");
    append_and_wait(&mut store, vec![entry(4, 15)]).await;
    store.purge(log_id(3, 9)).await.expect("purged");
    store
        .save_committed(Some(log_id(4, 15)))
        .await
        .expect("saved");
    let before = remembered(&mut store).await;
    assert_eq!(before.entries.len(), 6);
    store.close().await.expect("closed");

    let mut store = open(&fs);
    assert_eq!(store.identity(), Some(identity));
    assert!(!store.is_empty());
    assert_eq!(remembered(&mut store).await, before);
    let part = store.limited_get_log_entries(11, 14).await.expect("read");
    assert_eq!(
        part.iter()
            .map(|entry| entry.log_id.index)
            .collect::<Vec<_>>(),
        [11, 12, 13]
    );
}

#[tokio::test]
async fn purged_entries_give_their_space_back_and_the_rest_survives() {
    let fs = SimFs::new(2);
    let mut store = open(&fs);
    store
        .save_vote(&Vote::new_committed(1, 1))
        .await
        .expect("saved");
    // Some 40 files of 64 KiB, were they all kept.
    for at in 0..200 {
        append_and_wait(
            &mut store,
            (at * 50..at * 50 + 50).map(|at| entry(1, at)).collect(),
        )
        .await;
        store.purge(log_id(1, at * 50 + 40)).await.expect("purged");
    }
    let before = remembered(&mut store).await;
    store.close().await.expect("closed");
    let bytes: usize = fs.contents().iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 512 << 10, "{bytes} bytes are kept");
    let mut store = open(&fs);
    assert_eq!(remembered(&mut store).await, before);
    assert_eq!(before.entries.len(), 9);
}

#[tokio::test]
async fn a_large_read_is_cut_but_never_empty() {
    let fs = SimFs::new(3);
    let mut store = open(&fs);
    let big = |index| {
        let payload = Payload::Normal(EncodedCommand(vec![7; 40 << 10].into()));
        Entry {
            log_id: log_id(1, index),
            payload,
        }
    };
    append_and_wait(&mut store, (0..40).map(big).collect()).await;
    let read = store
        .limited_get_log_entries(0, 40)
        .await
        .expect("read")
        .len();
    assert!((1..40).contains(&read), "{read} entries");
    assert_eq!(read, READ_BYTES_MAX / ((40 << 10) + 64));
}

#[tokio::test]
async fn a_failed_sync_is_never_reported_as_flushed() {
    let fs = SimFs::new(4);
    let mut store = open(&fs);
    append_and_wait(&mut store, vec![entry(1, 0)]).await;
    fs.set_faults(SimFaults {
        fail_sync_at: Some(fs.syncs() + 1),
        ..SimFaults::default()
    });
    let flushed = append(&mut store, vec![entry(1, 1)]).await;
    flushed.await.expect("called").expect_err("the sync failed");
    let (signal, flushed) = TypeConfig::oneshot();
    let appended = store.append([entry(1, 2)], IOFlushed::signal(signal)).await;
    assert!(
        appended.is_err() || flushed.await.expect("called").is_err(),
        "it stays failed"
    );
    store
        .save_vote(&Vote::new(2, 1))
        .await
        .expect_err("it stays failed");
}

#[tokio::test]
async fn a_gap_is_refused() {
    let fs = SimFs::new(5);
    let mut store = open(&fs);
    append_and_wait(&mut store, vec![entry(1, 0)]).await;
    let (signal, _) = TypeConfig::oneshot();
    let gap = store.append([entry(1, 2)], IOFlushed::signal(signal)).await;
    assert!(
        gap.expect_err("index 1 is missing")
            .to_string()
            .contains("entry 1 is missing")
    );
}

/// Runs a seeded history on a disk whose power goes at some operation, and checks what the next start
/// finds: a state that was reached, and none before the last that was acknowledged.
async fn crash_once(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new(DIR)).expect("a directory");
    fs.sync_dir(Path::new("/data"))
        .and_then(|()| fs.sync_dir(Path::new("/")))
        .expect("synced");
    let crash_at_op = Some(draw(60) + 20);
    fs.set_faults(SimFaults {
        crash_at_op,
        syncs_lie: lying,
        ..SimFaults::default()
    });
    let mut now = Remembered::default();
    let (mut states, mut acked) = (vec![now.clone()], 0);
    let (mut term, mut committed_ahead) = (1, None);
    if let Ok((mut store, _)) = open_in(Arc::new(fs.clone()), Path::new(DIR)) {
        for _ in 0..60 {
            let next = now.entries.last().map(|last| last.log_id).or(now.purged);
            let next = next.map_or(0, |last| last.index + 1);
            let first = now.purged.map_or(0, |purged| purged.index + 1);
            let done = match draw(8) {
                0 => {
                    if let Some(committed) = committed_ahead.take() {
                        now.committed = Some(committed);
                        states.push(now.clone());
                    }
                    term += 1;
                    now.vote = Some(Vote::new(term, draw(3)));
                    states.push(now.clone());
                    let saved = store.save_vote(&now.vote.expect("just set")).await;
                    saved.map(|()| acked = states.len() - 1)
                }
                1 if next > first => {
                    term += 1;
                    let end = first + draw(next - first);
                    now.entries.truncate((end - first) as usize);
                    states.push(now.clone());
                    let after = now.entries.last().map(|last| last.log_id).or(now.purged);
                    store.truncate_after(after).await
                }
                2 if next > first => {
                    let at = draw(next - first) as usize;
                    now.purged = Some(now.entries[at].log_id);
                    now.entries.drain(..=at);
                    // A base says how far the log is committed, too.
                    now.committed = committed_ahead.or(now.committed);
                    states.push(now.clone());
                    store.purge(now.purged.expect("just set")).await
                }
                3 if !now.entries.is_empty() => {
                    committed_ahead = now.entries.last().map(|last| last.log_id);
                    store.save_committed(committed_ahead).await
                }
                _ => {
                    if let Some(committed) = committed_ahead.take() {
                        now.committed = Some(committed);
                        states.push(now.clone());
                    }
                    let entries: Vec<_> = (next..next + 1 + draw(4))
                        .map(|at| entry(term, at))
                        .collect();
                    for entry in &entries {
                        now.entries.push(entry.clone());
                        states.push(now.clone());
                    }
                    let (signal, flushed) = TypeConfig::oneshot();
                    let appended = store.append(entries, IOFlushed::signal(signal)).await;
                    match appended {
                        Ok(()) if draw(2) == 0 => {
                            let flushed = flushed
                                .await
                                .unwrap_or_else(|_| Err(io::Error::other("gone")));
                            flushed.map(|()| acked = states.len() - 1)
                        }
                        other => other,
                    }
                }
            };
            if done.is_err() {
                break;
            }
        }
    }
    let mut found = Vec::new();
    let rebooted = fs.reboot();
    for _ in 0..2 {
        let opened = open_in(Arc::new(rebooted.clone()), Path::new(DIR));
        let mut store = opened.map_err(|error| format!("seed {seed}: {error}"))?.0;
        found.push(remembered(&mut store).await);
        store.close().await.expect("closed");
    }
    if found[0] != found[1] {
        return Err(format!("seed {seed}: the second start found another state"));
    }
    let reached = states[acked..].contains(&found[0]);
    reached.then_some(()).ok_or_else(|| {
        format!(
            "seed {seed}: found {:?}\nacked {:?}",
            found[0], states[acked]
        )
    })
}

#[tokio::test]
async fn a_power_loss_takes_nothing_that_was_acknowledged() {
    for seed in 0..600 {
        crash_once(seed, false)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_noticed_by_that_test() {
    for seed in 0..150 {
        if crash_once(seed, true).await.is_err() {
            return;
        }
    }
    panic!("150 crashes without a working sync lost nothing: the test sees nothing");
}
