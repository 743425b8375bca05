//! Reads a coordinator partition from its beginning: the last record of each key counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_protocol::ErrorCode;

use super::classic::ClassicGroup;
use super::log::{CoordinatorLog, CoordinatorRecord};
use super::offsets::GroupOffsets;
use super::records::{self, Stored};
use super::shard::Group;

/// A group as far as the log has been read.
#[derive(Default)]
struct Loading {
    classic: Option<ClassicGroup>,
    offsets: GroupOffsets,
}

/// What a log holds.
#[derive(Default)]
struct Loader {
    groups: BTreeMap<Arc<str>, Loading>,
    /// Kinds of records that have been met and are not ours, so that each is logged once.
    unknown_kinds: BTreeSet<i16>,
    records: usize,
}

/// Reads all groups. A record that cannot be understood costs that record, not the partition: only a
/// client that wrote it itself can have brought it there.
pub(super) fn load(
    log: &dyn CoordinatorLog,
    now_ms: i64,
) -> Result<BTreeMap<Arc<str>, Group>, ErrorCode> {
    let mut loader = Loader::default();
    log.read_all(&mut |record| loader.record(record))?;
    tracing::info!(
        records = loader.records,
        groups = loader.groups.len(),
        "read groups"
    );
    let finish = |(id, loading): (Arc<str>, Loading)| {
        let stored = loading.classic.is_some();
        let classic = loading
            .classic
            .unwrap_or_else(|| ClassicGroup::new(id.clone(), now_ms));
        let mut group = Group::new(classic, stored);
        group.offsets = loading.offsets;
        (id, group)
    };
    let is_left = |loading: &Loading| loading.classic.is_some() || !loading.offsets.is_empty();
    Ok(loader
        .groups
        .into_iter()
        .filter(|(_, loading)| is_left(loading))
        .map(finish)
        .collect())
}

impl Loader {
    fn record(&mut self, record: CoordinatorRecord) {
        self.records += 1;
        match records::read(record) {
            Ok(Stored::Offset {
                group,
                topic,
                partition,
                committed,
            }) => {
                let loading = self.groups.entry(group).or_default();
                match committed {
                    Some(committed) => loading.offsets.put(&topic, partition, committed),
                    None => loading.offsets.remove(&topic, partition),
                }
            }
            Ok(Stored::Group { group, value }) => {
                let loading = self.groups.entry(group.clone()).or_default();
                let classic = value.map(|value| ClassicGroup::from_record(group.clone(), &value));
                match classic.transpose() {
                    Ok(classic) => loading.classic = classic,
                    Err(error) => {
                        tracing::error!(%group, %error, "skipped a record that describes no group");
                    }
                }
            }
            Ok(Stored::Unknown(kind)) => {
                if self.unknown_kinds.insert(kind) {
                    tracing::warn!(kind, "skipped records of a group type that is not served");
                }
            }
            Err(error) => tracing::error!(%error, "skipped an unreadable record"),
        }
    }
}
