//! What must be true after a recovery.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tidemill_log::{AppendOrigin, LogDir, LogDirConfig, PartitionLog, RecoveryReport};
use tidemill_records::{LeaderEpoch, Offset, ProducerId, RecordBatch};
use tidemill_storage::clock::ManualClock;
use tidemill_storage::fs::SimFs;

use super::Chain;
use super::model::{Change, Found, LogModel, View};
use crate::dump::{check_segments, first_difference, segments};

impl Chain {
    /// Holds the directory against the model, then each log against what it holds.
    pub(super) fn check_recovered(
        &mut self,
        dir: &LogDir,
        recovery: &RecoveryReport,
    ) -> Result<()> {
        ensure!(
            recovery.quarantined.is_empty(),
            "quarantined: {:?}",
            recovery.quarantined
        );
        ensure!(
            recovery.strays.is_empty(),
            "directories of nobody: {:?}",
            recovery.strays
        );
        let mut found = BTreeMap::new();
        for log in dir.partitions() {
            found.insert(log.topic_id(), self.read_all(&log)?);
        }
        for id in found.keys() {
            ensure!(
                self.model.logs.iter().any(|log| log.topic_id == *id),
                "{id} was never made, or is long gone"
            );
        }
        self.model.recovered(&found)?;
        self.report
            .count("logs-checked", self.model.logs.len() as u64);
        for at in 0..self.model.logs.len() {
            let model = self.model.logs[at].clone();
            let log = dir.get(&model.partition).context("it was just there")?;
            log.set_config(model.config.clone())?;
            self.check_log(at, &model, &log)
                .with_context(|| model.partition.to_string())?;
        }
        Ok(())
    }

    fn read_all(&mut self, log: &PartitionLog) -> Result<Found> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let (high_watermark, durable) = (log.high_watermark(), log.durable_end_offset());
        ensure!(
            durable == end,
            "durable up to {durable} of {end} after a recovery"
        );
        ensure!(
            high_watermark <= end,
            "high watermark {high_watermark} of {start}..{end}"
        );
        let bytes_max = self.choices.pick(&[1, 700, 64 << 10]);
        let (mut from, mut bytes) = (start, BytesMut::new());
        while from < end {
            let read = log.read(from, end, bytes_max, true)?;
            ensure!(read.next > from, "nothing at {from} of {start}..{end}");
            read.chunks
                .iter()
                .for_each(|chunk| bytes.extend_from_slice(chunk));
            from = read.next;
        }
        Ok(Found {
            start,
            end,
            bytes: bytes.freeze(),
        })
    }

    fn check_log(&mut self, at: usize, model: &LogModel, log: &PartitionLog) -> Result<()> {
        let view = model.now();
        let readable: Vec<&RecordBatch> = view.readable().collect();
        self.report.count("batches-read", readable.len() as u64);
        for _ in 0..readable.len().min(4) {
            let batch = *self.choices.pick(&readable.iter().collect::<Vec<_>>());
            check_lookups(&view, log, batch, self.choices.below(100) as i64)?;
        }
        check_epochs(&view, &readable, log)?;
        if model.is_logged() {
            self.check_producers(at, &view, log)?;
        }
        Ok(())
    }

    /// The last batch of each producer is known again, and the one after it is taken.
    fn check_producers(&mut self, at: usize, view: &View, log: &PartitionLog) -> Result<()> {
        let mut last: BTreeMap<ProducerId, &RecordBatch> = BTreeMap::new();
        for batch in view
            .readable()
            .filter(|batch| batch.producer_id().is_some())
        {
            last.insert(batch.producer_id(), batch);
        }
        let known = log.producers();
        for (id, batch) in last {
            let state = known.iter().find(|state| state.producer_id == id);
            let sequence = state.map(|state| (state.epoch, state.last_sequence));
            let wanted = Some((batch.producer_epoch(), batch.last_sequence()));
            ensure!(
                sequence == wanted,
                "producer {id} is known up to {sequence:?}, the log has {wanted:?}"
            );
            let again = log.append_as_leader(
                vec![batch.clone()],
                log.latest_epoch().max(LeaderEpoch(0)),
                AppendOrigin::Client,
                0,
            )?;
            let (was, is) = (
                (batch.base_offset(), batch.next_offset()),
                (again.base_offset, again.next_offset),
            );
            if !again.duplicate {
                self.model.note(at, Change::Append(batch.clone()));
            }
            ensure!(
                again.duplicate && was == is,
                "a batch at {was:?} that is sent again lands at {is:?}"
            );
            self.report.count("duplicates-refused", 1);
        }
        Ok(())
    }
}

/// Recovery gives the same bytes on two copies of a disk, again after it was killed, and again after a
/// power loss, but for the logs in `unlogged` directories: what those wrote is not synced. Gives the number of
/// recoveries.
pub async fn recover_twice(fs: &SimFs, config: &LogDirConfig, unlogged: &[String]) -> Result<u64> {
    let recovered = |fs| recovered(fs, config);
    let recovered_and_killed = |fs| {
        let fs = recovered(fs)?;
        fs.kill();
        Ok::<SimFs, anyhow::Error>(fs)
    };
    let first = recovered_and_killed(fs.clone_disk())?;
    let second = recovered_and_killed(fs.clone_disk())?;
    let differing = first.differing_files(&second);
    ensure!(
        differing.is_empty(),
        "two recoveries of one disk differ in {differing:?}"
    );
    let logged = |fs: &SimFs| {
        let mut segments = segments(fs);
        segments.retain(|path, _| !unlogged.iter().any(|dir| path.starts_with(dir)));
        segments
    };
    let wanted = logged(&first);
    check_segments(&segments(&first)).context("after recovery")?;
    let killed = recovered_and_killed(first.reboot())?;
    let unplugged = recovered_and_killed(power_lost(recovered(fs.clone_disk())?))?;
    for (fs, when) in [(killed, "killed"), (unplugged, "without power")] {
        if let Some(difference) = first_difference(&wanted, &logged(&fs)) {
            bail!(
                "a recovery that was {when} at its end, repeated, gives other bytes: {difference}"
            );
        }
    }
    Ok(5)
}

fn recovered(fs: SimFs, config: &LogDirConfig) -> Result<SimFs> {
    let (dir, _) = LogDir::open(
        Arc::new(fs.clone()),
        config.clone(),
        Arc::new(ManualClock::new(0)),
    )?;
    // The tasks that stand for its threads have not run yet.
    drop(dir);
    Ok(fs)
}

fn power_lost(fs: SimFs) -> SimFs {
    fs.crash();
    fs.reboot()
}

/// Any offset and any time of a batch leads to it.
fn check_lookups(view: &View, log: &PartitionLog, batch: &RecordBatch, chance: i64) -> Result<()> {
    let (base, next) = (batch.base_offset().max(view.start), batch.next_offset());
    let from = base + chance % (next - base);
    let read = log.read(from, view.end, 1, true)?;
    let first = read
        .chunks
        .first()
        .map(|chunk| chunk.slice(..chunk.len().min(61)));
    let wanted = Bytes::copy_from_slice(batch.header());
    ensure!(
        first.as_ref() == Some(&wanted),
        "reading at {from} does not give the batch {}..{next}",
        batch.base_offset()
    );
    let timestamp = batch.max_timestamp();
    let newer = view
        .readable()
        .find(|other| other.max_timestamp() >= timestamp);
    let found = log.offset_for_timestamp(timestamp, view.end)?;
    let (found, newer) = (
        found.map(|found| found.offset),
        newer.map(|newer| (newer.base_offset(), newer.next_offset())),
    );
    let is_in =
        |(base, next): (Offset, Offset)| found.is_some_and(|found| base <= found && found < next);
    // Records whose batch begins below the log start do not count.
    let may_begin_late = newer.is_some_and(|(base, _)| base < view.start);
    ensure!(
        newer.is_some_and(is_in) || may_begin_late,
        "time {timestamp} leads to {found:?}, not into {newer:?}"
    );
    Ok(())
}

fn check_epochs(view: &View, readable: &[&RecordBatch], log: &PartitionLog) -> Result<()> {
    let Some(last) = readable.last() else {
        return Ok(());
    };
    ensure!(
        log.latest_epoch() == last.leader_epoch(),
        "latest epoch {} of {}",
        log.latest_epoch(),
        last.leader_epoch()
    );
    for batch in readable {
        let epoch = batch.leader_epoch();
        let after = readable.iter().find(|other| other.leader_epoch() > epoch);
        let wanted = (epoch, after.map_or(view.end, |after| after.base_offset()));
        let found = log.end_offset_for_epoch(epoch);
        ensure!(
            found == wanted,
            "epoch {epoch} ends {found:?}, not {wanted:?}"
        );
    }
    Ok(())
}
