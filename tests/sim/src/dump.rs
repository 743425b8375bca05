//! Looks at segment files as Kafka's tools would: batches one after the other to the last byte, indexes
//! that agree with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tidemill_records::{BatchRules, RecordBatch};
use tidemill_storage::fs::SimFs;

/// The files of segments with their bytes: what recovery must give again and again.
pub(crate) type Segments = BTreeMap<PathBuf, Vec<u8>>;

/// The segments of partitions that are not deleted.
pub(crate) fn segments(fs: &SimFs) -> Segments {
    let is_segment = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("log" | "index" | "timeindex")) && !is_being_deleted(path)
    };
    fs.contents_of(is_segment).into_iter().collect()
}

fn is_being_deleted(path: &Path) -> bool {
    path.parent()
        .and_then(Path::to_str)
        .is_some_and(|dir| dir.ends_with("-delete"))
}

/// The first segment file in which two disks differ, and how.
pub(crate) fn first_difference(one: &Segments, other: &Segments) -> Option<String> {
    let paths = one.keys().chain(other.keys());
    let differs = |path: &&PathBuf| one.get(*path) != other.get(*path);
    let path = paths.filter(differs).min()?;
    let show = |bytes: Option<&Vec<u8>>| {
        bytes.map_or("missing".to_owned(), |bytes| {
            format!("{} bytes", bytes.len())
        })
    };
    let at = match (one.get(path), other.get(path)) {
        (Some(a), Some(b)) => a.iter().zip(b).position(|(a, b)| a != b),
        _ => None,
    };
    Some(format!(
        "{}: {} and {}, first difference at {at:?}",
        path.display(),
        show(one.get(path)),
        show(other.get(path))
    ))
}

/// Checks every segment of every partition.
pub(crate) fn check_segments(segments: &Segments) -> Result<()> {
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let logs = segments.iter().filter(|(path, _)| is_log(path));
    let mut ended: Option<(&Path, i64)> = None;
    for (path, bytes) in logs {
        let of_segment = || format!("{}", path.display());
        let base = base_of(path).with_context(of_segment)?;
        let dir = path.parent().expect("a file is in a directory");
        if let Some((_, end)) = ended.filter(|(before, _)| *before == dir) {
            ensure!(
                base == end,
                "{} begins at {base}, the segment before ends at {end}",
                path.display()
            );
        }
        let segment = Segment::parse(base, bytes).with_context(of_segment)?;
        ended = Some((dir, segment.next));
        let beside = |extension| {
            segments
                .get(&path.with_extension(extension))
                .map_or(&[][..], Vec::as_slice)
        };
        segment
            .check_index(beside("index"))
            .with_context(of_segment)?;
        segment
            .check_time_index(beside("timeindex"))
            .with_context(of_segment)?;
    }
    Ok(())
}

fn base_of(path: &Path) -> Option<i64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// The batches of a segment with their positions.
struct Segment {
    base: i64,
    next: i64,
    batches: Vec<(u32, RecordBatch)>,
}

impl Segment {
    fn parse(base: i64, bytes: &[u8]) -> Result<Segment> {
        let bytes = Bytes::copy_from_slice(bytes);
        let (mut next, mut position) = (base, 0);
        let mut batches = Vec::new();
        while position < bytes.len() {
            let (batch, size) = RecordBatch::parse(&bytes.slice(position..), BatchRules::Stored)
                .with_context(|| format!("byte {position} of {}", bytes.len()))?;
            ensure!(
                batch.base_offset().0 == next,
                "offset {} at byte {position}, expected {next}",
                batch.base_offset()
            );
            next = batch.next_offset().0;
            batches.push((position as u32, batch));
            position += size;
        }
        Ok(Segment {
            base,
            next,
            batches,
        })
    }

    fn check_index(&self, index: &[u8]) -> Result<()> {
        ensure!(
            index.len().is_multiple_of(8),
            "an index of {} bytes",
            index.len()
        );
        for entry in index.chunks_exact(8) {
            let (relative, position) = entry.split_at(4);
            let offset = self.base + i64::from(i32::from_be_bytes(relative.try_into()?));
            let position = u32::from_be_bytes(position.try_into()?);
            let found = self.batches.iter().find(|(at, _)| *at == position);
            let last = found.map(|(_, batch)| batch.last_offset().0);
            ensure!(
                last == Some(offset),
                "index entry {offset} at {position}, the batch there ends with {last:?}"
            );
        }
        Ok(())
    }

    fn check_time_index(&self, index: &[u8]) -> Result<()> {
        ensure!(
            index.len().is_multiple_of(12),
            "a time index of {} bytes",
            index.len()
        );
        let mut before = (i64::MIN, i64::MIN);
        for entry in index.chunks_exact(12) {
            let (timestamp, relative) = entry.split_at(8);
            let timestamp = i64::from_be_bytes(timestamp.try_into()?);
            let offset = self.base + i64::from(i32::from_be_bytes(relative.try_into()?));
            ensure!(
                (timestamp, offset) > before,
                "time index entry {timestamp} {offset} after {before:?}"
            );
            before = (timestamp, offset);
            let up_to = self
                .batches
                .iter()
                .filter(|(_, batch)| batch.last_offset().0 <= offset);
            let newest = up_to.map(|(_, batch)| batch.max_timestamp()).max();
            ensure!(
                newest == Some(timestamp),
                "time index entry {timestamp} up to {offset}, the newest there is {newest:?}"
            );
        }
        Ok(())
    }
}
