//! The finalised level of the feature `metadata.version`. A release writes nothing that the finalised
//! level does not allow, so that replicas of two releases never read one entry in two ways.

use std::fmt;

/// The feature's name, as clients see it.
pub const METADATA_VERSION: &str = "metadata.version";

/// A level of `metadata.version`. Zero is a cluster that was not formed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataLevel(pub u16);

impl MetadataLevel {
    /// Before the cluster is formed: only [`crate::Command::FormCluster`] is allowed.
    pub const UNFORMED: Self = Self(0);
    /// The first level: every command of this release.
    pub const FIRST: Self = Self(1);
    /// The newest level that this release understands.
    pub const LATEST: Self = Self::FIRST;
}

impl fmt::Display for MetadataLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels that a release understands, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelRange {
    /// The oldest.
    pub min: MetadataLevel,
    /// The newest.
    pub max: MetadataLevel,
}

impl LevelRange {
    /// What this release understands.
    pub const OURS: Self = Self {
        min: MetadataLevel::FIRST,
        max: MetadataLevel::LATEST,
    };

    /// Whether `level` is one of them.
    pub fn contains(self, level: MetadataLevel) -> bool {
        (self.min..=self.max).contains(&level)
    }
}
