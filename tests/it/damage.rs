//! Files that came back from a crash torn, or from a disk flipped.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use tidemill_protocol::ErrorCode;
use tidemill_records::{BatchRules, RecordBatch};
use tidemill_tests::records::{batch, contents};
use tidemill_tests::{ChildBroker, get, refused_start};

const FIRST_ENTRY: usize = 4096;
const ENTRY_HEADER_BYTES: usize = 40;

/// Where the entries of a write-ahead log file are, read by the format's description alone: (start, end).
fn entries(bytes: &[u8]) -> Vec<(usize, usize)> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (base, generation) = (u64_at(16), u32_at(40));
    let mut found = Vec::new();
    let mut at = FIRST_ENTRY;
    while at + ENTRY_HEADER_BYTES <= bytes.len() {
        let is_entry = u32_at(at) == 0x7e1d_e109
            && u64_at(at + 8) == base + at as u64
            && u32_at(at + 24) == generation;
        if !is_entry {
            break;
        }
        let end = at + ENTRY_HEADER_BYTES + u32_at(at + 32) as usize;
        found.push((at, end));
        at = end.next_multiple_of(8);
    }
    found
}

/// The file of a directory in which entries are.
fn wal_file(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    files.retain(|file| !entries(&fs::read(file).unwrap()).is_empty());
    files.pop().expect("a file with entries")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A data directory with ten acknowledged records in each of two topics, left by a SIGKILL.
async fn killed() -> TempDir {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    for topic in ["t", "u"] {
        wire.must_create(topic, 1, &[]).await;
        for at in 0..10 {
            wire.must_produce(topic, 0, &batch(&[&format!("{topic}{at}")]))
                .await;
        }
    }
    broker.kill9();
    dir
}

async fn all_is_there(broker: &ChildBroker, topic: &str) {
    let values = broker.wire().await.values(topic, 0).await;
    assert_eq!(
        values,
        (0..10).map(|at| format!("{topic}{at}")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_nothing_else() {
    let dir = killed().await;
    let file = wal_file(&dir.path().join("wal"));
    let bytes = fs::read(&file).unwrap();
    let all = entries(&bytes);
    let (last_start, last_end) = *all.last().unwrap();
    let next = last_end.next_multiple_of(8);
    // The next entry as a power loss leaves it: its first sectors, or only later ones, or noise.
    let mut next_entry = bytes[last_start..last_end].to_vec();
    let position = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + next as u64;
    next_entry[8..16].copy_from_slice(&position.to_le_bytes());
    let half = next_entry.len() / 2;
    let torn: [&[u8]; 3] = [&next_entry[..half], &[0xa5; 600], &next_entry];
    for tail in torn {
        let mut damaged = bytes.clone();
        damaged[next..next + tail.len()].copy_from_slice(tail);
        fs::write(&file, &damaged).unwrap();
        // A copy, since the start goes on in a file of its own.
        let copy = tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let broker = ChildBroker::start(copy.path(), &[], &[]);
        all_is_there(&broker, "t").await;
        all_is_there(&broker, "u").await;
        assert_eq!(
            broker
                .wire()
                .await
                .must_produce("t", 0, &batch(&["next"]))
                .await,
            10
        );
        broker.kill9();
        let again = ChildBroker::start(copy.path(), &[], &[]);
        assert_eq!(again.wire().await.values("t", 0).await.len(), 11);
        again.stop();
    }
}

#[tokio::test]
async fn a_flipped_entry_below_the_durable_end_is_not_passed_over() {
    let dir = killed().await;
    for (log, what) in [("wal", "records"), ("meta/wal", "metadata")] {
        let file = wal_file(&dir.path().join(log));
        let bytes = fs::read(&file).unwrap();
        let all = entries(&bytes);
        assert!(all.len() > 3, "{what}: {} entries", all.len());
        // In the header of an entry, and in its payload.
        let (start, end) = all[1];
        for at in [start + 33, (start + ENTRY_HEADER_BYTES + end) / 2] {
            flip(&file, at);
            let refused = refused_start(dir.path(), &[], &[]);
            assert_eq!(refused.code, 1, "{}", refused.stderr);
            let path = file.display().to_string();
            for words in [path.as_str(), "damaged", "truncate --size"] {
                assert!(
                    refused.stderr.contains(words),
                    "{words:?} is not in {}",
                    refused.stderr
                );
            }
            flip(&file, at);
        }
    }
    // The refusals changed nothing: with the bits back, all is there.
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    all_is_there(&broker, "t").await;
    all_is_there(&broker, "u").await;
    broker.stop();
}

/// The advice that the refusal gives brings back what was before the damage.
#[tokio::test]
async fn the_advice_after_a_flipped_entry_works() {
    let dir = killed().await;
    let file = wal_file(&dir.path().join("wal"));
    let all = entries(&fs::read(&file).unwrap());
    // Well inside of the second topic's records.
    let (start, _) = all[all.len() - 4];
    flip(&file, start + ENTRY_HEADER_BYTES + 3);
    let refused = refused_start(dir.path(), &[], &[]);
    let size = refused.stderr.split("--size=").nth(1).expect("a command");
    let size: u64 = size.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(size, start as u64);
    let truncated = fs::OpenOptions::new().write(true).open(&file).unwrap();
    truncated.set_len(size).unwrap();
    for name in fs::read_dir(dir.path().join("wal")).unwrap() {
        let path = name.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wal") && path > file {
            fs::remove_file(path).unwrap();
        }
    }
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    all_is_there(&broker, "t").await;
    let rest = broker.wire().await.values("u", 0).await;
    assert!(!rest.is_empty() && rest.len() < 10, "{rest:?}");
    broker.stop();
}

#[tokio::test]
async fn a_flipped_checkpoint_is_named() {
    let dir = killed().await;
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    broker.stop();
    let checkpoint = dir.path().join("log.checkpoint");
    let bytes = fs::read(&checkpoint).unwrap();
    flip(&checkpoint, bytes.len() / 2);
    let refused = refused_start(dir.path(), &[], &[]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("log.checkpoint"),
        "{}",
        refused.stderr
    );
    fs::write(&checkpoint, bytes).unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    all_is_there(&broker, "t").await;
    broker.stop();
}

/// A partition whose files lack what was synced is offline; the others go on; with the file back all is well.
#[tokio::test]
async fn a_segment_that_lost_its_end_takes_its_partition_offline() {
    for damage in ["short", "missing"] {
        let dir = killed().await;
        ChildBroker::start(dir.path(), &[], &[]).stop();
        let segment = dir.path().join("topics/t-0/00000000000000000000.log");
        let whole = fs::read(&segment).unwrap();
        match damage {
            "short" => fs::write(&segment, &whole[..whole.len() / 2]).unwrap(),
            _ => fs::remove_file(&segment).unwrap(),
        }
        let broker = ChildBroker::start(dir.path(), &[], &[]);
        let mut wire = broker.wire().await;
        let storage_error = ErrorCode::KafkaStorageError.code();
        assert_eq!(
            wire.fetch("t", 0, 9).await.error_code,
            storage_error,
            "{damage}"
        );
        all_is_there(&broker, "u").await;
        assert_eq!(wire.must_produce("u", 0, &batch(&["more"])).await, 10);
        drop(wire);
        let said = broker.kill9();
        assert!(
            said.contains("t-0") && said.contains("tidemill check"),
            "{damage}: {said}"
        );
        fs::write(&segment, &whole).unwrap();
        let broker = ChildBroker::start(dir.path(), &[], &[]);
        all_is_there(&broker, "t").await;
        assert_eq!(
            broker
                .wire()
                .await
                .must_produce("t", 0, &batch(&["next"]))
                .await,
            10
        );
        broker.stop();
    }
}

#[tokio::test]
async fn a_flipped_segment_is_noticed_by_the_broker_or_by_its_checksum() {
    let dir = killed().await;
    ChildBroker::start(dir.path(), &[], &[]).stop();
    let segment = dir.path().join("topics/t-0/00000000000000000000.log");
    let whole = fs::read(&segment).unwrap();
    // In a record of the first batch, and in the length field of the second.
    let (_, first) = RecordBatch::parse(&whole.clone().into(), BatchRules::Stored).unwrap();
    for at in [first - 3, first + 9, first + 16] {
        flip(&segment, at);
        let broker = ChildBroker::start(dir.path(), &[], &[]);
        let mut wire = broker.wire().await;
        let mut is_noticed = false;
        // What is before the damage may be read.
        for from in [0, 1] {
            let read = wire.fetch("t", 0, from).await;
            let bytes = read.records.unwrap_or_default().into_bytes();
            let is_whole = RecordBatch::parse_all(&bytes, BatchRules::Stored).is_ok();
            is_noticed |= read.error_code != 0 || !is_whole;
        }
        assert!(is_noticed, "byte {at}");
        // The broker lives, and so do other partitions and what is behind the damage.
        all_is_there(&broker, "u").await;
        assert_eq!(get(broker.admin, "/livez").await.0, 200);
        drop(wire);
        broker.stop();
        flip(&segment, at);
    }
    assert_eq!(
        fs::read(&segment).unwrap(),
        whole,
        "damage is never written over"
    );
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    all_is_there(&broker, "t").await;
    broker.stop();
}

/// Indexes are rebuilt from the log: no damage to them may change what is read.
#[tokio::test]
async fn damaged_indexes_change_nothing() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("index.interval.bytes", "0")])
        .await;
    for at in 0..100 {
        wire.must_produce("t", 0, &batch(&[&at.to_string()])).await;
    }
    broker.stop();
    let partition = dir.path().join("topics/t-0");
    for damage in 0..3 {
        for extension in ["index", "timeindex"] {
            let path = partition.join(format!("00000000000000000000.{extension}"));
            match damage {
                0 => fs::remove_file(&path).unwrap_or_default(),
                1 => fs::write(&path, [0xff; 240]).unwrap(),
                _ => fs::write(&path, [0; 7]).unwrap(),
            }
        }
        let broker = ChildBroker::start(dir.path(), &[], &[]);
        let mut wire = broker.wire().await;
        for from in [0, 1, 50, 99] {
            let found = wire.read_from("t", 0, from).await;
            assert_eq!(
                found.len() as i64,
                100 - from,
                "damage {damage} from {from}"
            );
            assert_eq!(found[0], (from, from.to_string()));
        }
        assert_eq!(wire.list_offset("t", 0, 0).await.offset, 0);
        assert_eq!(wire.list_offset("t", 0, -3).await.error_code, 0);
        drop(wire);
        broker.stop();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Records of a log that was in service go nowhere because the metadata lost its end.
#[tokio::test]
async fn a_topic_that_the_metadata_lost_keeps_its_files() {
    let dir = killed().await;
    let file = wal_file(&dir.path().join("meta/wal"));
    let bytes = fs::read(&file).unwrap();
    let of_u = |(start, end): &&(usize, usize)| {
        let entry = &bytes[*start..*end];
        // The name with its length in front, which nothing else has.
        entry.windows(2).any(|window| window == [1, b'u'])
    };
    let all = entries(&bytes);
    let (cut, _) = *all.iter().find(of_u).expect("the topic was created");
    // A file that was begun later may tell how far this one was durable.
    for other in fs::read_dir(dir.path().join("meta/wal")).unwrap() {
        let other = other.unwrap().path();
        if other != file {
            fs::remove_file(other).unwrap();
        }
    }
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(cut as u64).unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    all_is_there(&broker, "t").await;
    let mut wire = broker.wire().await;
    wire.must_create("u", 1, &[]).await;
    assert_eq!(wire.must_produce("u", 0, &batch(&["anew"])).await, 0);
    drop(wire);
    let said = broker.kill9();
    assert!(said.contains("u-0") && said.contains("-stray"), "{said}");
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    assert_eq!(broker.wire().await.values("u", 0).await, ["anew"]);
    broker.stop();
    let topics = fs::read_dir(dir.path().join("topics")).unwrap();
    let stray = topics
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with("-stray"))
        .expect("kept");
    let log = fs::read(stray.join("00000000000000000000.log")).unwrap();
    let kept: Vec<String> = contents(&Some(bytes::Bytes::from(log).into()))
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(kept, (0..10).map(|at| format!("u{at}")).collect::<Vec<_>>());
}

/// A file that lost bytes below the last checkpoint is no torn end.
#[tokio::test]
async fn a_write_ahead_log_that_lost_its_end_is_noticed_and_the_advice_works() {
    let dir = killed().await;
    // Everything up to here is in the segment files when it starts again.
    ChildBroker::start(dir.path(), &[], &[]).stop();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    for at in 0..3 {
        wire.must_produce("t", 0, &batch(&[&format!("more{at}")]))
            .await;
    }
    drop(wire);
    broker.stop();
    let mut files: Vec<PathBuf> = fs::read_dir(dir.path().join("wal"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| !file.to_string_lossy().contains("spare"));
    files.sort();
    let file = files.pop().expect("a file");
    let truncated = fs::OpenOptions::new().write(true).open(&file).unwrap();
    truncated.set_len(200).unwrap();
    let refused = refused_start(dir.path(), &[], &[]);
    assert!(
        refused.stderr.contains("truncate --size=0 "),
        "{}",
        refused.stderr
    );
    truncated.set_len(0).unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let values = broker.wire().await.values("t", 0).await;
    assert_eq!(values.len(), 13, "all of it was in the segment files");
    all_is_there(&broker, "u").await;
    broker.stop();
}
