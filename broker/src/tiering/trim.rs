//! What need not be kept: of this disk what is in the tier, of the log what retention gives up.

use tidemill_records::{Extent, Offset};
use tidemill_tiered_store::StoreError;

use super::upload::UploadError;
use super::{Led, Tier, advance_log_start, led};
use crate::broker::Broker;

impl Tier {
    /// Trims this disk of what is in the tier and `local.retention.*` does not keep, or of all that is in the tier when the disk
    /// fills up.
    pub(super) async fn trim_round(&self, broker: &Broker) {
        let now_ms = broker.clock.now_ms();
        let is_pressed = broker.disk.is_pressed();
        let bytes_max = is_pressed.then_some(0);
        let mut wanting: Vec<Led> = led(broker)
            .into_iter()
            .filter(|led| {
                let floor = trim_floor(led);
                led.partition.log.wants_trim(floor, bytes_max, now_ms)
            })
            .collect();
        // Asked only when there is something to trim: it costs a request.
        if wanting.is_empty() || !self.still_owns(broker).await {
            return;
        }
        wanting.sort_by_key(|led| std::cmp::Reverse(led.partition.log.size_bytes()));
        for led in wanting {
            // Under pressure no more than is needed.
            let bytes_max = bytes_max.filter(|_| broker.disk.is_pressed());
            match led
                .partition
                .log
                .trim_local(trim_floor(&led), bytes_max, now_ms)
            {
                Ok(report) => {
                    broker.disk.freed(report.bytes);
                    self.counts.trimmed(report.bytes);
                    tracing::debug!(
                        partition = %led.partition.name, segments = report.segments, bytes = report.bytes, is_pressed,
                        "trimmed segments that are in the tier"
                    );
                }
                Err(error) => {
                    tracing::warn!(partition = %led.partition.name, %error, "cannot trim the local log");
                }
            }
        }
    }

    /// Lets logs begin later where `retention.ms` or `retention.bytes` say so, and brings the log start offsets here and in the
    /// metadata together.
    pub(super) async fn apply_retention(&self, broker: &Broker) {
        let now_ms = broker.clock.now_ms();
        for led in led(broker) {
            let Err(error) = self.retain(broker, &led, now_ms).await else {
                continue;
            };
            self.counts.failed(&error);
            tracing::warn!(partition = %led.partition.name, %error, "cannot apply retention");
            // The others would wait for the store too, and uploads for them.
            if error.is_outage() && self.note_failure(led.key, broker.clock.monotonic()) {
                return;
            }
        }
    }

    async fn retain(&self, broker: &Broker, led: &Led, now_ms: i64) -> Result<(), UploadError> {
        let wanted = self.retention_start(led, now_ms).await?;
        self.move_start(broker, led, wanted).await?;
        self.drop_dead(broker, led).await
    }

    async fn move_start(
        &self,
        broker: &Broker,
        led: &Led,
        wanted: Offset,
    ) -> Result<(), UploadError> {
        let log = &led.partition.log;
        let known = led.remote.as_ref().map(|remote| remote.start);
        let start = wanted.max(log.log_start_offset());
        // A log that never had anything in the tier and begins at zero needs no entry.
        if known.is_some_and(|known| start > known) {
            advance_log_start(broker, &led.partition, start).await?;
        }
        if start > log.log_start_offset() {
            log.delete_records_before(start)?;
            tracing::info!(partition = %led.partition.name, %start, "retention moved the log's start");
        }
        Ok(())
    }

    /// Where retention lets the log begin. Only what is in the tier is given up here: what is not will be soon.
    async fn retention_start(&self, led: &Led, now_ms: i64) -> Result<Offset, StoreError> {
        let Some(remote) = &led.remote else {
            return Ok(Offset::ZERO);
        };
        let config = led.partition.log.config();
        let (ms, bytes) = match config.delete_by_retention {
            true => (config.retention_ms, config.retention_bytes),
            false => (None, None),
        };
        if ms.is_none() && bytes.is_none() {
            return Ok(remote.start);
        }
        let waiting = led
            .partition
            .log
            .uploadable(remote.end, led.partition.log.log_end_offset());
        let total = remote.size_bytes() + waiting.bytes;
        let mut give_up = GiveUp {
            before_ms: ms.map(|ms| now_ms.saturating_sub(ms)),
            excess_bytes: bytes.map_or(0, |max| total.saturating_sub(max)),
        };
        let mut start = remote.start;
        for page in remote.pages.iter() {
            let newest_ms = (page.newest.timestamp >= 0).then_some(page.newest.timestamp);
            if give_up.takes(newest_ms, page.data_bytes) {
                start = page.end;
                continue;
            }
            // The page that is kept may begin with extents that are not.
            let page = self.store.page(led.key.0, led.key.1, page).await?;
            return Ok(start.max(give_up.from(&page.extents)));
        }
        Ok(start.max(give_up.from(&remote.extents())))
    }
}

struct GiveUp {
    before_ms: Option<i64>,
    excess_bytes: u64,
}

impl GiveUp {
    /// Whether a run goes that is the oldest of those left. Without a time only its size tells.
    fn takes(&mut self, newest_ms: Option<i64>, bytes: u64) -> bool {
        let is_old = newest_ms
            .zip(self.before_ms)
            .is_some_and(|(newest, before)| newest < before);
        let is_much = self.excess_bytes >= bytes && bytes > 0;
        if is_old || is_much {
            self.excess_bytes = self.excess_bytes.saturating_sub(bytes);
        }
        is_old || is_much
    }

    /// Where the first extent begins that stays; zero where the first one does.
    fn from(&mut self, extents: &[Extent]) -> Offset {
        let mut start = Offset::ZERO;
        for extent in extents {
            // Records without timestamps are as old as their object, as Kafka takes the time of the segment's file.
            let newest_ms = match extent.newest.timestamp {
                ..0 => extent.object.created_ms(),
                timestamp => timestamp,
            };
            if !self.takes(Some(newest_ms), extent.length.into()) {
                break;
            }
            start = extent.end;
        }
        start
    }
}

/// Below this nothing on this disk is needed: it is in the tier, and the metadata that says so is on disk.
fn trim_floor(led: &Led) -> Offset {
    led.remote
        .as_ref()
        .map_or(Offset::ZERO, |remote| remote.end)
}
