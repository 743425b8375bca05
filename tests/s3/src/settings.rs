//! How a double is set up, and why that may fail.

use std::io;
use std::path::PathBuf;

use s3s::S3Error;

use crate::store::files::LoadError;

/// What a test decides before the start; [`Settings::default`] is right for most.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port of S3 on 127.0.0.1; 0 takes a free one. The control port is always a free one.
    pub port: u16,
    /// Also keeps objects as files here, so that a double that is started again has them.
    pub dir: Option<PathBuf>,
    /// Buckets that are there from the start.
    pub buckets: Vec<String>,
    /// The one key pair that is known.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Whether requests without a signature pass. Wrong signatures never do.
    pub accept_unsigned: bool,
    /// Further connections to S3 wait until one of these is closed.
    pub connections_max: usize,
    /// Bytes of all objects, parts of uploads and bodies on their way; above it PUTs get 507. A body that
    /// is being stored counts twice for that moment.
    pub memory_bytes_max: u64,
    /// Bytes of one body; above it a PUT gets 400, `EntityTooLarge`.
    pub object_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            dir: None,
            buckets: Vec::new(),
            access_key: "test".to_owned(),
            secret_key: "testtest".to_owned(),
            accept_unsigned: false,
            connections_max: 256,
            memory_bytes_max: 1 << 30,
            object_bytes_max: 256 << 20,
        }
    }
}

/// Why a double did not start.
#[derive(Debug)]
pub enum StartError {
    /// The port is taken.
    Listen(u16, io::Error),
    /// The directory cannot be used.
    Load(LoadError),
    /// A bucket cannot be created.
    Bucket(S3Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(port, error) => write!(f, "cannot listen on 127.0.0.1:{port}: {error}"),
            Self::Load(error) => error.fmt(f),
            Self::Bucket(error) => {
                write!(
                    f,
                    "cannot create a bucket: {}",
                    error.message().unwrap_or_default()
                )
            }
        }
    }
}

impl std::error::Error for StartError {}
