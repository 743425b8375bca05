//! Compiled functions: files in the data directory's cache, made from artifacts and never from anywhere else, and what of them is
//! loaded.
//!
//! A compiled file is machine code. It lies in a directory that only this user may enter, and is loaded only when the checksum beside it
//! is right; a damaged one, or one of another release or processor, is compiled anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidemill_metadata::{Carrier, FunctionId, FunctionImage, MetadataLog};

use tidemill_storage::atomic::TEMPORARY_SUFFIX;
use tidemill_storage::fs::{Fs, OpenMode, read_exact_at};
use tidemill_storage::spawn;
use tidemill_transforms::Function;
use tokio::sync::oneshot;

use super::Transforms;
use super::artifacts::{Artifacts, id_of};
use super::trouble::Trouble;
use crate::broker::Broker;

/// The files.
pub(super) struct Compiled {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// See [`tidemill_transforms::Host::compatibility`].
    compatibility: u64,
    /// Names files apart while they are written.
    writes: AtomicU64,
}

/// One function that somebody loads or has loaded.
#[derive(Default)]
pub(super) struct Loading {
    /// Who comes second waits, and finds it.
    turn: tokio::sync::Mutex<()>,
    function: Mutex<Weak<Function>>,
}

impl Compiled {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf, compatibility: u64) -> Self {
        Self {
            fs,
            dir,
            compatibility,
            writes: AtomicU64::new(0),
        }
    }

    fn path(&self, id: FunctionId) -> PathBuf {
        self.dir
            .join(format!("{id}-{:016x}.cwasm", self.compatibility))
    }

    fn sum_path(&self, id: FunctionId) -> PathBuf {
        self.path(id).with_extension("sum")
    }

    /// Keeps compiled code. It is a cache: what fails is told and costs a compilation later.
    fn keep(&self, id: FunctionId, code: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        self.fs.create_dir_all(&self.dir)?;
        // Code that somebody else wrote would run here.
        let _ = std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o700));
        self.replace(&self.path(id), code)?;
        self.replace(&self.sum_path(id), &id_of(code).0)
    }

    /// Whoever has the old file keeps it as it was: it may be running.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let new = path.with_added_extension(format!("{number}{TEMPORARY_SUFFIX}"));
        let file = self.fs.open(&new, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&[io::IoSlice::new(bytes)], 0)?;
        file.sync_data()?;
        self.fs.rename(&new, path)
    }

    /// Whether what was kept is what was compiled.
    fn is_whole(&self, id: FunctionId) -> io::Result<bool> {
        let sum_file = self.fs.open(&self.sum_path(id), OpenMode::Read)?;
        let mut sum = [0; 32];
        read_exact_at(&*sum_file, &mut sum, 0)?;
        let file = self.fs.open(&self.path(id), OpenMode::Read)?;
        let mut code = vec![0; file.len()? as usize];
        read_exact_at(&*file, &mut code, 0)?;
        Ok(id_of(&code) == FunctionId(sum))
    }

    /// Forgets what was kept of a function.
    fn forget(&self, id: FunctionId) {
        let _ = self.fs.remove_file(&self.sum_path(id));
        let _ = self.fs.remove_file(&self.path(id));
    }
}

impl Transforms {
    /// A function, ready to make instances of: loaded already, or from the cache, or compiled.
    pub(super) async fn function(
        &self,
        broker: &Arc<Broker>,
        id: FunctionId,
    ) -> Result<Arc<Function>, Trouble> {
        let loading = self.loaded.lock().entry(id).or_default().clone();
        let _turn = loading.turn.lock().await;
        if let Some(function) = loading.function.lock().upgrade() {
            return Ok(function);
        }
        let image = broker.metadata.image();
        let image = image.function(id).cloned().ok_or(Trouble::NoFunction)?;
        let (send, loaded) = oneshot::channel();
        let broker = broker.clone();
        // Compiling takes seconds, reading a file some milliseconds.
        spawn::spawn_thread("function-load", move || async move {
            let _ = send.send(broker.transforms.load(&broker, &image));
        });
        let function = loaded.await.map_err(|_| Trouble::Stopping)??;
        *loading.function.lock() = Arc::downgrade(&function);
        Ok(function)
    }

    fn load(&self, broker: &Broker, image: &FunctionImage) -> Result<Arc<Function>, Trouble> {
        let carrier = carrier_of(image.carrier);
        if let Some(function) = self.load_kept(image.id, carrier) {
            return Ok(function);
        }
        let artifact = Artifacts::read(broker, image)?;
        self.compile_and_keep(image.id, &artifact)?;
        match self.load_kept(image.id, carrier) {
            Some(function) => Ok(function),
            // No cache on this disk, then.
            None => Ok(self.host.compile_here(&artifact)?),
        }
    }

    fn load_kept(
        &self,
        id: FunctionId,
        carrier: tidemill_transforms::Carrier,
    ) -> Option<Arc<Function>> {
        let compiled = &self.compiled;
        if !compiled.is_whole(id).unwrap_or(false) {
            return None;
        }
        // SAFETY: the checksum says that the file is what `compile` gave, in a directory that is this broker's alone.
        let loaded = unsafe { self.host.load(carrier, &compiled.path(id)) };
        loaded
            .inspect_err(|error| tracing::warn!(function = %id, %error, "compiled anew"))
            .ok()
    }

    /// Compiles an artifact, which also says whether it is a function at all, and keeps the result.
    pub(super) fn compile_and_keep(
        &self,
        id: FunctionId,
        artifact: &[u8],
    ) -> Result<(), tidemill_transforms::ArtifactError> {
        let code = self.host.compile(artifact)?;
        if let Err(error) = self.compiled.keep(id, &code) {
            tracing::warn!(function = %id, %error, "cannot keep compiled code");
            self.compiled.forget(id);
        }
        Ok(())
    }

    /// Lets go of a function that was deleted.
    pub(super) fn unload(&self, id: FunctionId) {
        self.loaded.lock().remove(&id);
        self.compiled.forget(id);
    }
}

/// The metadata's name for it is the host's.
pub(super) fn carrier_of(carrier: Carrier) -> tidemill_transforms::Carrier {
    match carrier {
        Carrier::CoreModule => tidemill_transforms::Carrier::CoreModule,
        Carrier::Component => tidemill_transforms::Carrier::Component,
    }
}
