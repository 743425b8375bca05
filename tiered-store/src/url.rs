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
    #[error(
        "'{0}' names no bucket: use s3://BUCKET/PREFIX; buckets have 3 to 63 small letters, digits, dots and dashes"
    )]
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

/// Why text is no address of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No scheme, or another one.
    #[error("'{0}' is no URL; write http://HOST:PORT or https://HOST:PORT")]
    Scheme(String),
    /// The bucket belongs to the tier's URL.
    #[error("'{0}' has a path; the bucket stands in the tier's URL, s3://BUCKET/PREFIX")]
    Path(String),
}

/// Reads `--tier-endpoint`.
pub fn parse_endpoint(text: &str) -> Result<String, EndpointError> {
    let rest = text
        .strip_prefix("http://")
        .or(text.strip_prefix("https://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        return Err(EndpointError::Scheme(text.to_owned()));
    };
    match rest.trim_end_matches('/').contains(['/', '?', '#']) {
        true => Err(EndpointError::Path(text.to_owned())),
        false => Ok(text.trim_end_matches('/').to_owned()),
    }
}

fn parse_bucket(rest: &str) -> Result<TierUrl, TierUrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_legal) {
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
        assert!(error("s3://Bad_Bucket/x").contains("small letters"));
        assert!(error("s3://bucket//x").contains("empty part"));
        assert!(error("http://x/y").contains("is no tier"));
    }

    #[test]
    fn an_endpoint_is_a_scheme_and_an_address() {
        let read = |text: &str| parse_endpoint(text).map_err(|error| error.to_string());
        assert_eq!(read("http://h:9000/"), Ok("http://h:9000".to_owned()));
        assert_eq!(read("https://s3.x"), Ok("https://s3.x".to_owned()));
        for text in ["127.0.0.1:9000", "localhost:1", "http://", "ftp://x"] {
            assert!(
                read(text).is_err_and(|error| error.contains("no URL")),
                "{text}"
            );
        }
        assert!(read("http://h:9000/bucket").is_err_and(|error| error.contains("has a path")));
    }
}
