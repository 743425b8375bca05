//! The object tier: sealed data in S3-compatible storage, read back as if it were local.
//!
//! This crate knows formats, stores and caches. What is in the tier and what is not, the metadata says ([`Extent`] and
//! [`PageRef`] of `tidemill-records`); when something is uploaded, trimmed or deleted, the broker decides.
//!
//! Everything that is read is proven: an extent has the checksum of its footer, the footer those of the batches.
//!
//! [`Extent`]: tidemill_records::Extent
//! [`PageRef`]: tidemill_records::PageRef
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod chunks;
mod claim;
mod codec;
mod counts;
mod error;
pub mod footer;
mod keys;
mod loading;
pub mod object;
pub mod page;
mod probe;
mod profile;
mod read;
mod s3;
mod store;
mod tiered_store;
mod url;
mod verify;

pub use claim::Claim;
pub use codec::FormatError;
pub use counts::{Counts, NO_ANSWER, Operation};
pub use error::{StoreError, Trouble, TroubleKind};
pub use probe::ProbeError;
pub use profile::ProfileError;
pub use read::{ReadRange, RemoteRead};
pub use s3::BucketError;
pub use store::{OpenError, StoreConfig};
pub use tiered_store::{TierFigures, TierMemory, TieredStore};
pub use url::{EndpointError, TierUrl, TierUrlError, parse_endpoint};
pub use verify::{Check, VerifyError};
