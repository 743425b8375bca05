//! `--tier-url`: which store, which bucket, which prefix.

use std::fmt;
use std::path::PathBuf;

/// A tier's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TierUrl {
    /// `file://PATH`: a directory, on this machine or mounted.
    File(PathBuf),
    /// `s3://BUCKET[/PREFIX]`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
    /// `memory://`: lost with the process.
    Memory,
}

/// Why text is no tier's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TierUrlError {
    /// No scheme that is known.
    #[error("'{0}' is no tier: use s3://BUCKET/PREFIX or file:///ABSOLUTE/PATH")]
    Scheme(String),
    /// A scheme that other releases may know.
    #[error("{0}:// is not supported yet: use s3:// or file://")]
    Unsupported(String),
    /// A path that depends on where the broker was started.
    #[error("'{0}' is no absolute path: use file:///ABSOLUTE/PATH, with three slashes")]
    RelativePath(String),
    /// No bucket, or an impossible one.
    #[error("'{0}' names no bucket: use s3://BUCKET/PREFIX")]
    Bucket(String),
    /// The prefix has an empty part, or a `.`.
    #[error("the prefix '{0}' has an empty part, '.' or '..'")]
    Prefix(String),
}

impl std::str::FromStr for TierUrl {
    type Err = TierUrlError;

    fn from_str(text: &str) -> Result<Self, TierUrlError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| TierUrlError::Scheme(text.to_owned()))?;
        match scheme {
            "file" => match rest.starts_with('/') && rest.len() > 1 {
                true => Ok(Self::File(PathBuf::from(rest))),
                false => Err(TierUrlError::RelativePath(rest.to_owned())),
            },
            "s3" => parse_bucket(rest),
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "gs" | "az" | "abfs" | "abfss" => Err(TierUrlError::Unsupported(scheme.to_owned())),
            _ => Err(TierUrlError::Scheme(text.to_owned())),
        }
    }
}

fn parse_bucket(rest: &str) -> Result<TierUrl, TierUrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.len() < 3 || !bucket.chars().all(is_legal) {
        return Err(TierUrlError::Bucket(rest.to_owned()));
    }
    let prefix = prefix.trim_end_matches('/');
    let is_bad = |part: &str| matches!(part, "" | "." | "..");
    if !prefix.is_empty() && prefix.split('/').any(is_bad) {
        return Err(TierUrlError::Prefix(prefix.to_owned()));
    }
    Ok(TierUrl::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

impl fmt::Display for TierUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in [
            "file:///var/tier",
            "s3://bucket",
            "s3://my-bucket/a/b",
            "memory://",
        ] {
            let url: TierUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), text);
        }
        let slash: TierUrl = "s3://bucket/a/".parse().expect("a slash at the end");
        assert_eq!(slash.to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<TierUrl>().expect_err(text).to_string();
        assert!(error("/var/tier").contains("file:///ABSOLUTE/PATH"));
        assert!(error("file://tier").contains("three slashes"));
        assert!(error("gs://bucket").contains("not supported yet"));
        assert!(error("s3://").contains("names no bucket"));
        assert!(error("s3://b/x").contains("names no bucket"));
        assert!(error("s3://bucket//x").contains("empty part"));
        assert!(error("http://x/y").contains("is no tier"));
    }
}
