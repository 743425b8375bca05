//! The machinery under [`transform!`](crate::transform!): authors need none of it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::aligned::Aligned;
use crate::answer;
use crate::batch::Batch;
use crate::output::OutputFrame;
use crate::wire::Malformed;
use crate::{Config, Failure, Transform};

/// A function between two frames.
pub struct Instance<T> {
    transform: Option<T>,
    output: OutputFrame,
}

impl<T: Transform> Instance<T> {
    /// Before `init`.
    #[allow(clippy::new_without_default, reason = "made in constants only")]
    pub const fn new() -> Self {
        Self {
            transform: None,
            output: OutputFrame::new(),
        }
    }

    /// Takes a configuration frame, gives an answer frame.
    pub fn init(&mut self, frame: &[u8]) -> &[u8] {
        let made = Config::read(frame)
            .map_err(Failure::from)
            .and_then(|config| T::new(&config));
        let result = made.map(|transform| self.transform = Some(transform));
        self.answer(result)
    }

    /// Takes an input frame, gives an output frame, or an answer frame where the input cannot be read.
    /// `progress` always tells the index of the record at hand.
    pub fn process(&mut self, frame: &[u8], progress: &AtomicU32) -> &[u8] {
        match self.records(frame, progress) {
            Ok(()) => self.output.finish(),
            Err(failure) => self.answer(Err(failure)),
        }
    }

    fn records(&mut self, frame: &[u8], progress: &AtomicU32) -> Result<(), Failure> {
        let transform = self
            .transform
            .as_mut()
            .ok_or("a frame came before the configuration")?;
        let batch = Batch::read(frame)?;
        self.output.begin();
        for index in 0..batch.count() {
            progress.store(index, Ordering::Relaxed);
            let record = batch.record(index)?;
            self.output
                .record(index, |out| transform.process(&record, out));
        }
        Ok(())
    }

    fn answer(&mut self, result: Result<(), Failure>) -> &[u8] {
        answer::write(&mut self.output.frame, result.as_ref().copied());
        self.output.frame.bytes()
    }
}

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Self::new(
            Self::MALFORMED_FRAME,
            format!("the host's frame cannot be read: {what}"),
        )
    }
}

/// An instance with the buffer that its host writes frames to.
pub struct Guest<T> {
    buffer: Aligned,
    instance: Instance<T>,
}

impl<T: Transform> Guest<T> {
    /// Before `init`.
    #[allow(clippy::new_without_default, reason = "made in constants only")]
    pub const fn new() -> Self {
        Self {
            buffer: Aligned::new(),
            instance: Instance::new(),
        }
    }

    /// The address of `bytes` bytes, 0 where there is no memory.
    pub fn buf(&mut self, bytes: i32) -> i32 {
        // An empty vector has no memory, but 0 means that there is none to have.
        let bytes = bytes.cast_unsigned().max(8) as usize;
        if !self.buffer.try_resize(bytes) {
            return 0;
        }
        self.buffer.bytes().as_ptr().addr() as i32
    }

    /// Runs `init` on the first `bytes` bytes of the buffer.
    pub fn init(&mut self, bytes: i32) -> i64 {
        log_panics();
        let frame = received(&self.buffer, bytes);
        place(self.instance.init(frame))
    }

    /// Runs `process` on the first `bytes` bytes of the buffer.
    pub fn process(&mut self, bytes: i32, progress: &AtomicU32) -> i64 {
        let frame = received(&self.buffer, bytes);
        place(self.instance.process(frame, progress))
    }
}

/// An empty slice, which no frame is, where the buffer was never that long.
fn received(buffer: &Aligned, bytes: i32) -> &[u8] {
    buffer
        .bytes()
        .get(..bytes.cast_unsigned() as usize)
        .unwrap_or_default()
}

fn place(frame: &[u8]) -> i64 {
    ((frame.as_ptr().addr() as u64) << 32 | frame.len() as u64).cast_signed()
}

/// A trap tells the host nothing about its reason.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
}
