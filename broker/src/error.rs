//! Why a broker does not start. Each says what is wrong and what to do next.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidemill_log::{CheckpointError, LogError};
use tidemill_metadata::{OpenError, ProposeError};

/// Why a broker does not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or used.
    #[error("cannot use the data directory {}: {source}", .dir.display())]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the data directory.
    #[error("the data directory {} belongs to a running process ({source}); stop it, or give this one its own with --data-dir", .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the lock said.
        source: io::Error,
    },
    /// A listener's address is taken or not ours.
    #[error(
        "cannot listen on {address}: {source}; give another address with --{flag} (port 0 picks a free one)"
    )]
    Bind {
        /// The flag that sets it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A bound socket has no address.
    #[error("cannot read the address of a listener: {0}")]
    Socket(io::Error),
    /// There are logs but nothing says which topics they belong to.
    #[error("{} holds logs but no metadata, as if meta/ had been lost; restore meta/ from a copy, or move topics/ away", .0.display())]
    LogsWithoutMetadata(PathBuf),
    /// The metadata cannot be opened.
    #[error(transparent)]
    Metadata(#[from] OpenError),
    /// The metadata log does not take this broker's registration.
    #[error("cannot register this broker: {0}")]
    Register(#[from] ProposeError),
    /// The tier cannot be used.
    #[error(transparent)]
    Tier(#[from] crate::tiering::TierError),
    /// Functions cannot run here.
    #[error(transparent)]
    Functions(#[from] tidemill_transforms::HostError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The logs could not be checkpointed at shutdown; what was acknowledged is in the write-ahead log.
    #[error("the logs were not closed cleanly ({0}); the next start recovers them")]
    Close(#[from] CheckpointError),
}

impl StartError {
    pub(crate) fn locked(dir: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::AlreadyExists => {
                Self::Locked { dir, source }
            }
            _ => Self::DataDir { dir, source },
        }
    }
}
