//! Who a data directory belongs to. It is kept twice: in the metadata log itself, and readable in
//! `meta.properties` (with Kafka's keys), so that neither can be swapped or lost without being noticed.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use tidemill_records::{NodeId, TopicId};
use tidemill_storage::fs::{Fs, OpenMode};
use uuid::Uuid;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "meta.properties";

/// The cluster, node and directory that a data directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The node.
    pub node: NodeId,
    /// The directory itself: a node with another directory is not the same voter.
    pub directory: Uuid,
}

/// Why `meta.properties` does not do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory is another node's.
    #[error(
        "{} belongs to node {found}, but this is node {expected}: \
         start with --node-id {found}, or with another --data-dir", .path.display()
    )]
    OtherNode {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asks.
        expected: NodeId,
    },
    /// The directory is another cluster's.
    #[error(
        "{} belongs to cluster {}, but this node is to be in cluster {}: \
         start with another --data-dir", .path.display(), TopicId(*.found), TopicId(*.expected)
    )]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Who asks.
        expected: Uuid,
    },
    /// `meta.properties` and the metadata log are not of one directory.
    #[error(
        "{} does not match the metadata log beside it: \
         put back the files that belong together, out of one copy", .path.display()
    )]
    Mixed {
        /// The file.
        path: PathBuf,
    },
    /// `meta.properties` is there, the metadata log is gone.
    #[error(
        "{} is there but the metadata log in {} is not: put it back from a copy. \
         To start anew and lose everything, remove the whole data directory",
        .path.display(), .log.display()
    )]
    LogLost {
        /// The file.
        path: PathBuf,
        /// Where the log should be.
        log: PathBuf,
    },
    /// A line is missing or cannot be read.
    #[error(
        "{}: {key} is missing or not valid. Remove the file: \
         it is written again from the metadata log", .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A later release wrote it.
    #[error("{} has version {found}; this release reads 1: run the release that wrote it", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Identity {
    /// Reads `meta.properties`, if there is one.
    pub(crate) fn read(fs: &dyn Fs, data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let text = match read_text(fs, &path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        Self::parse(&text, &path).map(Some)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, IdentityError> {
        let value = |key: &'static str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
                .ok_or(IdentityError::Malformed {
                    path: path.to_owned(),
                    key,
                })
        };
        let malformed = |key| IdentityError::Malformed {
            path: path.to_owned(),
            key,
        };
        let found = value("version")?
            .parse()
            .map_err(|_| malformed("version"))?;
        if found != 1 {
            return Err(IdentityError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let id = |key| parse_id(value(key)?).ok_or_else(|| malformed(key));
        Ok(Self {
            cluster_id: id("cluster.id")?,
            node: NodeId(
                value("node.id")?
                    .parse()
                    .map_err(|_| malformed("node.id"))?,
            ),
            directory: id("directory.id")?,
        })
    }

    /// Writes `meta.properties`; durable when it returns.
    pub(crate) fn write(self, fs: &dyn Fs, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let text = format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            TopicId(self.cluster_id),
            self.node,
            TopicId(self.directory)
        );
        let steps = || -> io::Result<()> {
            let temporary = data_dir.join(format!("{FILE}.tmp"));
            let file = fs.open(&temporary, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_all_at(&[IoSlice::new(text.as_bytes())], 0)?;
            file.sync_data()?;
            fs.rename(&temporary, &path)?;
            fs.sync_dir(data_dir)
        };
        steps().map_err(|source| IdentityError::Io { path, source })
    }
}

fn read_text(fs: &dyn Fs, path: &Path) -> io::Result<String> {
    /// A file of four short lines; a longer one is something else.
    const BYTES_MAX: u64 = 64 << 10;
    let file = fs.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()?.min(BYTES_MAX) as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads an id in Kafka's form, which [`TopicId`] prints: 22 digits of URL-safe base64.
fn parse_id(text: &str) -> Option<Uuid> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    let (last, rest) = digits.split_last()?;
    if rest.len() != 21 || last & 0b1111 != 0 {
        return None;
    }
    let bits = rest
        .iter()
        .fold(0u128, |bits, digit| bits << 6 | u128::from(*digit));
    Some(Uuid::from_u128(bits << 2 | u128::from(last >> 4)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_storage::fs::RealFs;

    use super::*;

    proptest! {
        #[test]
        fn ids_come_back(id in any::<u128>()) {
            let id = Uuid::from_u128(id);
            prop_assert_eq!(parse_id(&TopicId(id).to_string()), Some(id));
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(
            Identity::read(&RealFs, dir.path()).expect("no file is no error"),
            None
        );
        let identity = Identity {
            cluster_id: Uuid::from_u128(1),
            node: NodeId(7),
            directory: Uuid::from_u128(u128::MAX),
        };
        identity.write(&RealFs, dir.path()).expect("written");
        identity.write(&RealFs, dir.path()).expect("written again");
        assert_eq!(
            Identity::read(&RealFs, dir.path()).expect("read"),
            Some(identity)
        );
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("text");
        assert_eq!(
            text,
            "version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=7\n\
             directory.id=_____________________w\n"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let path = Path::new("/d/meta.properties");
        let good = "#a comment\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=7\n\
                    directory.id=AAAAAAAAAAAAAAAAAAAAAQ";
        assert!(Identity::parse(good, path).is_ok());
        let cases = [
            ("version=1", "version=x", "version"),
            ("cluster.id=AA", "cluster.id=A", "cluster.id"),
            ("node.id=7", "node.id=seven", "node.id"),
            ("directory.id", "directory", "directory.id"),
        ];
        for (from, to, wanted) in cases {
            match Identity::parse(&good.replace(from, to), path) {
                Err(IdentityError::Malformed { key, .. }) => assert_eq!(key, wanted),
                other => panic!("{to}: {other:?}"),
            }
        }
        let newer = Identity::parse(&good.replace("version=1", "version=2"), path);
        assert!(matches!(newer, Err(IdentityError::Newer { found: 2, .. })));
    }
}
