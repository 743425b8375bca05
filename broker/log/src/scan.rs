//! Walks over the batches of a segment file, in large reads.

use std::io;

use bytes::{Bytes, BytesMut};
use tidemill_records::{BatchError, BatchHeader, BatchRules, HEADER_BYTES, RecordBatch};
use tidemill_storage::fs::File;

/// One read of a walk.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a walk ended before the end of the file.
#[derive(Debug)]
pub(crate) enum ScanEnd {
    /// The bytes at the walk's position are no whole batch.
    Bad(BatchError),
    /// The file system failed.
    Io(io::Error),
}

/// A walk over a segment's batches from a position to an end.
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    position: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Scan<'a> {
    /// Walks from `position`, where a batch begins, to `end`.
    pub(crate) fn new(file: &'a dyn File, position: u64, end: u64) -> Scan<'a> {
        Scan {
            file,
            position,
            end,
            window: Bytes::new(),
            window_at: position,
        }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's header, without a look at the rest of the batch, but for that it lies before the end.
    pub(crate) fn next_header(&mut self) -> Result<Option<BatchHeader>, ScanEnd> {
        if self.position >= self.end {
            return Ok(None);
        }
        let bytes = self.bytes_at(HEADER_BYTES)?;
        let header = BatchHeader::read(&bytes).map_err(ScanEnd::Bad)?;
        let size = header.size_bytes();
        if self.position + size as u64 > self.end {
            return Err(ScanEnd::Bad(BatchError::Truncated {
                needed: size,
                available: (self.end - self.position) as usize,
            }));
        }
        self.position += size as u64;
        Ok(Some(header))
    }

    /// The next batch, its checksum verified.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, ScanEnd> {
        let start = self.position;
        let Some(header) = self.next_header()? else {
            return Ok(None);
        };
        self.position = start;
        let bytes = self.bytes_at(header.size_bytes())?;
        let (batch, size) = RecordBatch::parse(&bytes, BatchRules::Stored).map_err(ScanEnd::Bad)?;
        self.position = start + size as u64;
        Ok(Some(batch))
    }

    /// Up to `count` bytes at the position: fewer only at the end.
    fn bytes_at(&mut self, count: usize) -> Result<Bytes, ScanEnd> {
        let count = count.min((self.end - self.position) as usize);
        let within = self
            .position
            .checked_sub(self.window_at)
            .map(|skip| skip as usize);
        if let Some(skip) = within.filter(|skip| skip + count <= self.window.len()) {
            return Ok(self.window.slice(skip..skip + count));
        }
        let want = WINDOW_BYTES
            .max(count)
            .min((self.end - self.position) as usize);
        let mut window = BytesMut::zeroed(want);
        let read = self
            .file
            .read_at(&mut window, self.position)
            .map_err(ScanEnd::Io)?;
        window.truncate(read);
        self.window = window.freeze();
        self.window_at = self.position;
        Ok(self.window.slice(..count.min(read)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;

    use tidemill_records::{Compression, Headers, LeaderEpoch, Offset, RecordBatchBuilder};
    use tidemill_storage::fs::{Fs, OpenMode, RealFs};

    use super::*;

    fn file_with(value_bytes: &[usize]) -> (tempfile::TempDir, Arc<dyn File>, Vec<RecordBatch>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFs
            .open(&dir.path().join("log"), OpenMode::CreateNew)
            .expect("a file");
        let (mut position, mut batches) = (0, Vec::new());
        for (at, bytes) in value_bytes.iter().enumerate() {
            let mut builder = RecordBatchBuilder::new(Compression::None);
            builder.push(1, None, Some(&vec![at as u8; *bytes]), &Headers::default());
            let mut batch = builder.build().expect("a batch");
            batch.assign(Offset(at as i64), LeaderEpoch(0));
            let bytes = batch.to_bytes();
            file.write_all_at(&[IoSlice::new(&bytes)], position)
                .expect("written");
            position += bytes.len() as u64;
            batches.push(batch);
        }
        (dir, file, batches)
    }

    #[test]
    fn walks_over_batches_smaller_and_larger_than_a_window() {
        let (_dir, file, batches) = file_with(&[10, 700_000, 600_000, 3_000_000, 5]);
        let len = file.len().expect("a length");
        let mut scan = Scan::new(&*file, 0, len);
        for batch in &batches {
            assert_eq!(scan.next_batch().expect("good").as_ref(), Some(batch));
        }
        assert!(scan.next_batch().expect("the end").is_none());
        let mut scan = Scan::new(&*file, 0, len);
        let mut headers = 0;
        while let Some(header) = scan.next_header().expect("good") {
            assert_eq!(header.base_offset(), Offset(headers));
            headers += 1;
        }
        assert_eq!((headers, scan.position()), (5, len));
    }

    #[test]
    fn a_torn_or_flipped_batch_ends_the_walk_where_it_begins() {
        let (_dir, file, batches) = file_with(&[10, 20]);
        let (first, len) = (
            batches[0].size_bytes() as u64,
            file.len().expect("a length"),
        );
        let mut scan = Scan::new(&*file, 0, len - 1);
        assert!(scan.next_batch().is_ok());
        assert!(matches!(
            scan.next_batch(),
            Err(ScanEnd::Bad(BatchError::Truncated { .. }))
        ));
        assert_eq!(scan.position(), first);
        file.write_all_at(&[IoSlice::new(b"!")], len - 1)
            .expect("written");
        let mut scan = Scan::new(&*file, first, len);
        assert!(matches!(
            scan.next_batch(),
            Err(ScanEnd::Bad(BatchError::Crc { .. }))
        ));
        assert_eq!(scan.position(), first);
    }
}
