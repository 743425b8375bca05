//! What is done to a log directory in one life.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_log::{AppendError, AppendOrigin, LogConfig, LogDir, LogError, PartitionLog};
use tidemill_records::{
    Compression, Headers, LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, RecordBatch,
    RecordBatchBuilder, Sequence, TopicId, TopicPartition,
};
use tidemill_storage::clock::Clock;
use tidemill_storage::wal::Lsn;

use super::Chain;
use super::model::{Change, LogModel};
use crate::disk::Disk;

/// Incarnations at once.
const LOGS_MAX: usize = 6;
/// Nothing may be waited for longer, in simulated time.
const WAIT_MAX: Duration = Duration::from_secs(120);

impl Chain {
    /// Works until enough is done or the power goes. Errors count only while there is power.
    pub(super) async fn work(&mut self, disk: &Disk, dir: &Arc<LogDir>) -> Result<()> {
        for _ in 0..self.choices.between(20, 160) {
            let waited = tokio::time::timeout(WAIT_MAX, self.step(dir)).await;
            if disk.fs().is_crashed() {
                return Ok(());
            }
            waited.context("stuck")??;
        }
        Ok(())
    }

    async fn step(&mut self, dir: &Arc<LogDir>) -> Result<()> {
        let logs = self.model.living().len();
        match self.choices.below(100) {
            _ if logs == 0 => self.create(dir)?,
            0..3 if logs < LOGS_MAX => self.create(dir)?,
            0..60 => self.append(dir).await?,
            60..75 => {
                let ms = self.choices.pick(&[0, 1, 5, 30]);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            75..82 => self.wait(dir).await?,
            82..86 => self.delete_records(dir)?,
            86..92 => self.retain(dir)?,
            92..95 if self.scope.cuts => self.truncate(dir)?,
            95 if self.scope.cuts => self.restart(dir)?,
            96 => self.delete(dir)?,
            _ => {
                dir.checkpoint().await?;
                self.model.ack_all();
            }
        }
        Ok(())
    }

    /// Takes in what the write-ahead log says to be durable: a client may have been told.
    pub(super) fn take_acks(&mut self, dir: &LogDir) {
        let durable = dir.wal().durable();
        if let Some((_, place)) = self.waiting.range(..=durable).next_back() {
            self.model.acked = self.model.acked.max(*place);
        }
        self.waiting.clear();
    }

    fn any_log(&mut self, dir: &LogDir) -> Result<(usize, Arc<PartitionLog>)> {
        let at = self.choices.pick(&self.model.living());
        let log = dir
            .get(&self.model.logs[at].partition)
            .context("a log is gone")?;
        // What the broker does for a partition whose only replica is here.
        log.set_high_watermark(log.durable_end_offset());
        Ok((at, log))
    }

    fn create(&mut self, dir: &LogDir) -> Result<()> {
        let partition = TopicPartition::new(
            self.choices.pick(&["a", "b"]),
            PartitionId(self.choices.below(3) as i32),
        );
        if self
            .model
            .living()
            .iter()
            .any(|at| self.model.logs[*at].partition == partition)
        {
            return Ok(());
        }
        let topic_id = TopicId(uuid::Uuid::from_u128(self.next_id));
        self.next_id += 1;
        let config = Arc::new(self.log_config());
        dir.create(partition.clone(), topic_id, config.clone())?;
        self.model.logs.push(LogModel {
            partition,
            topic_id,
            config,
            steps: Vec::new(),
        });
        self.model.note(self.model.logs.len() - 1, Change::Create);
        self.report.count("logs-made", 1);
        Ok(())
    }

    fn log_config(&mut self) -> LogConfig {
        let choices = &mut self.choices;
        let unlogged = self.scope.unlogged && choices.percent(25);
        LogConfig {
            segment_bytes: choices.pick(&[1 << 10, 4 << 10, 32 << 10]),
            index_interval_bytes: choices.pick(&[0, 200, 1000, 4096]),
            segment_index_bytes: choices.pick(&[64, 10 << 20]),
            retention_bytes: choices.pick(&[None, Some(6 << 10)]),
            retention_ms: None,
            timestamp_after_max_ms: i64::MAX,
            flush_messages: match unlogged {
                true => choices.pick(&[2, 50, i64::MAX]),
                false => 1,
            },
            ..LogConfig::default()
        }
    }

    async fn append(&mut self, dir: &LogDir) -> Result<()> {
        dir.admit().await?;
        let (at, log) = self.any_log(dir)?;
        let epoch = log.latest_epoch().max(LeaderEpoch(0));
        let epoch = if self.choices.percent(3) {
            LeaderEpoch(epoch.0 + 1)
        } else {
            epoch
        };
        let mut batch = self.batch(&log)?;
        let now_ms = self.clock.now_ms();
        let appended =
            log.append_as_leader(vec![batch.clone()], epoch, AppendOrigin::Client, now_ms);
        let info = match appended {
            // What one segment does not hold.
            Err(AppendError::RecordListTooLarge { .. }) => return Ok(()),
            appended => appended?,
        };
        ensure!(!info.duplicate, "a new batch is taken for a duplicate");
        batch.assign(info.base_offset, epoch);
        ensure!(
            batch.next_offset() == info.next_offset,
            "the batch ends at {}",
            info.next_offset
        );
        let place = self.model.note(at, Change::Append(batch));
        if self.model.logs[at].is_logged() {
            self.waiting.insert(info.lsn, place);
        }
        self.report.count("batches-appended", 1);
        Ok(())
    }

    /// A batch of one of three producers, or of none, that continues where the log has it.
    fn batch(&mut self, log: &PartitionLog) -> Result<RecordBatch> {
        let choices = &mut self.choices;
        let mut builder = RecordBatchBuilder::new(choices.pick(&[
            Compression::None,
            Compression::None,
            Compression::Lz4,
        ]));
        let id = ProducerId(choices.below(4) as i64);
        if id != ProducerId(3) {
            let known = log
                .producers()
                .into_iter()
                .find(|known| known.producer_id == id);
            let last = known.map(|known| (known.epoch, known.last_sequence.next()));
            let (epoch, sequence) = last.unwrap_or((ProducerEpoch(0), Sequence(0)));
            let (epoch, sequence) = match choices.percent(2) {
                true => (ProducerEpoch(epoch.0 + 1), Sequence(0)),
                false => (epoch, sequence),
            };
            builder = builder.producer(id, epoch, sequence);
        }
        let now_ms = self.clock.now_ms();
        let value_bytes = choices.pick(&[1, 40, 300, 900]);
        for _ in 0..choices.between(1, 5) {
            let value: Vec<u8> = (0..value_bytes).map(|_| choices.below(256) as u8).collect();
            builder.push(
                now_ms + choices.below(5) as i64,
                None,
                Some(&value),
                &Headers::default(),
            );
        }
        Ok(builder.build()?)
    }

    /// Waits for one of the appends, and knows then about all before it.
    async fn wait(&mut self, dir: &LogDir) -> Result<()> {
        let lsns: Vec<Lsn> = self.waiting.keys().copied().collect();
        if lsns.is_empty() {
            return Ok(());
        }
        let lsn = self.choices.pick(&lsns);
        dir.wal().wait_durable(lsn).await?;
        self.model.acked = self.model.acked.max(self.waiting[&lsn]);
        self.waiting.retain(|later, _| *later > lsn);
        Ok(())
    }

    fn delete_records(&mut self, dir: &LogDir) -> Result<()> {
        let (at, log) = self.any_log(dir)?;
        if !self.model.logs[at].is_logged() {
            return Ok(());
        }
        let (start, high_watermark) = (log.log_start_offset(), log.high_watermark());
        if start >= high_watermark {
            return Ok(());
        }
        let before = start + self.choices.between(1, (high_watermark - start) as u64) as i64;
        let lsn = log.delete_records_before(before)?;
        let place = self.model.note(at, Change::Start(before));
        self.waiting.insert(lsn, place);
        self.report.count("deletions-of-records", 1);
        Ok(())
    }

    fn retain(&mut self, dir: &LogDir) -> Result<()> {
        let (at, log) = self.any_log(dir)?;
        if !self.model.logs[at].is_logged() {
            return Ok(());
        }
        let report = log.apply_retention(self.clock.now_ms())?;
        let start = log.log_start_offset();
        if start > self.model.logs[at].now().start {
            self.model.note(at, Change::Start(start));
        }
        self.report
            .count("segments-retained-away", report.segments as u64);
        Ok(())
    }

    fn truncate(&mut self, dir: &LogDir) -> Result<()> {
        let (at, log) = self.any_log(dir)?;
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        if !self.model.logs[at].is_logged() || start >= end {
            return Ok(());
        }
        let to = start + self.choices.below((end - start) as u64) as i64;
        // What is below the log start is not there to be cut back to.
        let within = self.model.logs[at]
            .now()
            .batches
            .iter()
            .any(|batch| batch.base_offset() < start && start < batch.next_offset());
        if within {
            return Ok(());
        }
        match log.truncate_to(to) {
            Ok(()) => {}
            Err(LogError::OutOfRange { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.model.note(at, Change::Cut(to));
        let (now, found) = (
            self.model.logs[at].now(),
            (log.log_start_offset(), log.log_end_offset()),
        );
        ensure!(
            (now.start, now.end) == found,
            "cut at {to}: {found:?}, expected {:?}",
            (now.start, now.end)
        );
        self.report.count("truncations", 1);
        Ok(())
    }

    fn restart(&mut self, dir: &LogDir) -> Result<()> {
        let (at, log) = self.any_log(dir)?;
        if !self.model.logs[at].is_logged() {
            return Ok(());
        }
        let start = log.log_end_offset() + self.choices.below(50) as i64;
        log.truncate_fully_and_start_at(start)?;
        self.model.note(at, Change::Restart(start));
        Ok(())
    }

    fn delete(&mut self, dir: &LogDir) -> Result<()> {
        let (at, log) = self.any_log(dir)?;
        dir.delete(log.partition())?;
        self.model.note(at, Change::Delete);
        self.report.count("logs-deleted", 1);
        Ok(())
    }
}
