//! What functions say, as records of an internal topic. A function that says too much is cut short, and told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tidemill_log::AppendOrigin;
use tidemill_metadata::{MetadataLog, ProposeError, Rejection};
use tidemill_records::{Compression, Headers, LeaderEpoch, PartitionId, RecordBatchBuilder};
use tidemill_storage::clock::Clock;
use tidemill_transforms::LogSink;
use tokio::sync::{mpsc, watch};

use super::FUNCTION_LOGS_TOPIC;
use crate::broker::Broker;
use crate::topic;

/// Lines of all functions that wait to be written; more are dropped and counted.
const LINES_MAX: usize = 4_096;
/// Lines of one batch.
const BATCH_LINES_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Lines are kept so long.
const RETENTION_MS: &str = "604800000";
/// After the topic could not be written to.
const RETRY: Duration = Duration::from_secs(1);

/// Where lines gather.
pub(super) struct FunctionLogs {
    send: mpsc::Sender<Line>,
    receive: Mutex<Option<mpsc::Receiver<Line>>>,
    dropped: Arc<AtomicU64>,
}

struct Line {
    transform: Arc<str>,
    timestamp: i64,
    json: Vec<u8>,
}

/// The value of a record.
#[derive(Serialize)]
struct Said<'a> {
    level: &'static str,
    message: &'a str,
    transform: &'a str,
    version: u32,
    partition: i32,
    dropped: u64,
}

/// How many lines a task has said in the second that runs.
struct Rate {
    second: i64,
    lines: u32,
    /// Lines that were dropped since the last that was not.
    dropped: u64,
}

impl FunctionLogs {
    pub(super) fn new() -> Self {
        let (send, receive) = mpsc::channel(LINES_MAX);
        Self {
            send,
            receive: Mutex::new(Some(receive)),
            dropped: Arc::default(),
        }
    }

    /// Lines that were not written, because a function said too many or the topic takes none.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Where a task's function says something.
    pub(super) fn sink(
        &self,
        clock: &Arc<dyn Clock>,
        transform: &Arc<str>,
        version: u32,
        partition: PartitionId,
        lines_per_second: u32,
    ) -> LogSink {
        let (send, clock, transform) = (self.send.clone(), clock.clone(), transform.clone());
        let all_dropped = self.dropped.clone();
        let rate = Mutex::new(Rate {
            second: 0,
            lines: 0,
            dropped: 0,
        });
        Arc::new(move |level, message| {
            let timestamp = clock.now_ms();
            let mut rate = rate.lock();
            if rate.second != timestamp / 1_000 {
                rate.second = timestamp / 1_000;
                rate.lines = 0;
            }
            rate.lines = rate.lines.saturating_add(1);
            let taken = (rate.lines <= lines_per_second).then(|| {
                let said = Said {
                    level: level.as_str(),
                    message,
                    transform: &transform,
                    version,
                    partition: partition.0,
                    dropped: rate.dropped,
                };
                let json = serde_json::to_vec(&said).expect("plain data has a JSON form");
                let line = Line {
                    transform: transform.clone(),
                    timestamp,
                    json,
                };
                send.try_send(line).is_ok()
            });
            match taken {
                Some(true) => rate.dropped = 0,
                _ => {
                    rate.dropped += 1;
                    all_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    }
}

/// Writes lines until the broker stops.
pub(super) async fn run(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let logs = &broker.transforms.logs;
    let Some(mut lines) = logs.receive.lock().take() else {
        return;
    };
    let mut batch = Vec::with_capacity(BATCH_LINES_MAX);
    loop {
        batch.clear();
        let is_over = tokio::select! {
            _ = lines.recv_many(&mut batch, BATCH_LINES_MAX) => false,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => true,
        };
        if is_over {
            while let Ok(line) = lines.try_recv() {
                batch.push(line);
            }
        }
        if let Err(error) = write(&broker, &batch).await {
            logs.dropped
                .fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::warn!(
                error,
                "cannot write what functions log to {FUNCTION_LOGS_TOPIC}"
            );
            if !is_over {
                tokio::time::sleep(RETRY).await;
            }
        }
        if is_over {
            return;
        }
    }
}

async fn write(broker: &Broker, lines: &[Line]) -> Result<(), String> {
    if lines.is_empty() {
        return Ok(());
    }
    if broker.metadata.image().topic(FUNCTION_LOGS_TOPIC).is_none() {
        let configs = vec![("retention.ms".into(), RETENTION_MS.into())];
        match topic::create(broker, FUNCTION_LOGS_TOPIC, 1, configs).await {
            Ok(_) | Err(ProposeError::Rejected(Rejection::TopicExists(_))) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let partition = broker.partitions.get(FUNCTION_LOGS_TOPIC, 0);
    let partition = partition.ok_or("it is offline")?;
    let mut at = 0;
    while at < lines.len() {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        while at < lines.len() && builder.plain_bytes() < BATCH_BYTES_MAX {
            let line = &lines[at];
            let key = Some(line.transform.as_bytes());
            builder.push(line.timestamp, key, Some(&line.json), &Headers::default());
            at += 1;
        }
        let room = async {
            broker.disk.admit().await;
            broker.logs.admit().await
        };
        let room = tokio::time::timeout(RETRY, room).await;
        if !matches!(room, Ok(Ok(()))) {
            return Err("the logs take no more".to_owned());
        }
        let batch = builder.build().map_err(|error| error.to_string())?;
        let bytes = batch.size_bytes();
        let appended = partition.append(
            vec![batch],
            LeaderEpoch::NONE,
            AppendOrigin::Coordinator,
            false,
            broker.clock.now_ms(),
            0,
        );
        appended.map_err(|error| error.to_string())?;
        broker.disk.appended(bytes);
    }
    Ok(())
}
