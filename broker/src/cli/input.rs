//! Lines from a file or stdin, with bounded memory.
//!
//! Reading blocks, so it has a thread of its own; what it read waits in a short queue.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use tidemill_storage::spawn::spawn_thread;
use tokio::sync::mpsc;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait at most.
const CHUNKS_MAX: usize = 4;

/// Splits what a thread reads into lines.
#[derive(Debug)]
pub(super) struct Lines {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
    ended: bool,
}

impl Lines {
    /// Lines of the file at `path`, or of stdin for `-`; a longer one than `line_bytes_max` is an error.
    pub(super) fn open(path: &Path, line_bytes_max: usize) -> io::Result<Lines> {
        let source: Box<dyn Read + Send> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(open_file(path)?),
        };
        Ok(Lines::read(source, line_bytes_max))
    }

    fn read(mut source: Box<dyn Read + Send>, line_bytes_max: usize) -> Lines {
        let (queue, chunks) = mpsc::channel(CHUNKS_MAX);
        spawn_thread("input", move || async move {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match source.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let ended = !matches!(read, Ok(1..));
                let read = read.map(|length| {
                    chunk.truncate(length);
                    Bytes::from(chunk)
                });
                if queue.send(read).await.is_err() || ended {
                    return;
                }
            }
        });
        Lines {
            chunks,
            buffer: BytesMut::new(),
            searched: 0,
            line_bytes_max,
            ended: false,
        }
    }

    /// The next line without its end; `None` after the last. Safe to cancel: no input is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.buffer.len() > self.line_bytes_max {
                let text = format!("a line is longer than {} bytes", self.line_bytes_max);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            if self.ended {
                let rest = self.buffer.split().freeze();
                self.searched = 0;
                return Ok((!rest.is_empty()).then(|| without_cr(rest)));
            }
            match self.chunks.recv().await {
                Some(Ok(chunk)) if chunk.is_empty() => self.ended = true,
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(error),
                None => self.ended = true,
            }
        }
    }

    /// A whole line that is there already.
    pub(super) fn buffered(&mut self) -> Option<Bytes> {
        let unsearched = &self.buffer[self.searched..];
        let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(without_cr(line))
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a file that a person names is not the broker's data"
)]
fn open_file(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::open(path)
}

fn without_cr(line: Bytes) -> Bytes {
    match line.last() {
        Some(b'\r') => line.slice(..line.len() - 1),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &str, line_bytes_max: usize) -> io::Result<Vec<String>> {
        let source = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
        let mut lines = Lines::read(source, line_bytes_max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(String::from_utf8(line.to_vec()).unwrap());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn line_ends_of_all_kinds() {
        assert_eq!(lines("a\nb\r\n\nc", 10).await.unwrap(), ["a", "b", "", "c"]);
        assert_eq!(lines("a\n", 10).await.unwrap(), ["a"]);
        assert!(lines("", 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn lines_across_chunks_are_whole() {
        let long = "x".repeat(CHUNK_BYTES + 7);
        let text = format!("{long}\nshort\n{long}\n");
        assert_eq!(
            lines(&text, 1 << 20).await.unwrap(),
            [&*long, "short", &long]
        );
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_gathered_for_ever() {
        let error = lines(&"x".repeat(3 * CHUNK_BYTES), CHUNK_BYTES)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
