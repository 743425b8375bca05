//! What `tests/show/cold` compares the tier with: plain requests by the same client library with the same settings.
//!
//! ```text
//! raw_s3 ENDPOINT BUCKET read GET_BYTES AT_ONCE KEY=SIZE…   reads objects by ranged GETs of so many bytes, so many at once
//! raw_s3 ENDPOINT BUCKET first BYTES KEY=POSITION…     one ranged GET each, until 64 KiB are there
//! raw_s3 ENDPOINT BUCKET put COUNT BYTES PREFIX        writes objects
//! ```
//!
//! Credentials come from the environment. Prints a line of JSON: seconds and bytes, or the milliseconds of each GET.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for benchmarks, outside of the broker"
)]

use std::error::Error;
use std::ops::Range;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is verified, and served, as a whole.
const BLOCK_BYTES: usize = 64 << 10;

fn open(endpoint: &str, bucket: &str) -> Outcome<AmazonS3> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ClientOptions::new()
        .with_allow_http(true)
        .with_http1_only()
        .with_timeout_disabled();
    let builder = AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_unsigned_payload(true)
        .with_checksum_algorithm(Checksum::CRC64NVME);
    Ok(builder.build()?)
}

fn ranged(range: Range<u64>) -> GetOptions {
    GetOptions {
        range: Some(GetRange::Bounded(range)),
        ..GetOptions::default()
    }
}

/// Reads to the end, or to so many bytes; gives how many came.
async fn get(store: &AmazonS3, key: &Path, range: Range<u64>, enough: usize) -> Outcome<usize> {
    let mut body = store.get_opts(key, ranged(range)).await?.into_stream();
    let mut came = 0;
    while let Some(bytes) = body.next().await {
        came += bytes?.len();
        if came >= enough {
            break;
        }
    }
    Ok(came)
}

/// KEY=NUMBER
fn split(place: &str) -> Outcome<(Path, u64)> {
    let (key, number) = place.split_once('=').ok_or("KEY=NUMBER is wanted")?;
    Ok((Path::from(key), number.parse()?))
}

async fn read(store: &AmazonS3, keys: &[String], get_bytes: u64, at_once: usize) -> Outcome<usize> {
    let mut ranges = Vec::new();
    for place in keys {
        let (key, size) = split(place)?;
        let begins = (0..size).step_by(get_bytes as usize);
        ranges.extend(begins.map(|at| (key.clone(), at..size.min(at + get_bytes))));
    }
    let gets = stream::iter(ranges)
        .map(|(key, range)| async move { get(store, &key, range, usize::MAX).await });
    let came: Vec<usize> = gets.buffered(at_once).try_collect().await?;
    Ok(came.iter().sum())
}

async fn first(store: &AmazonS3, bytes: u64, places: &[String]) -> Outcome<Vec<f64>> {
    let mut took = Vec::new();
    for place in places {
        let (key, position) = split(place)?;
        let began = Instant::now();
        get(store, &key, position..position + bytes, BLOCK_BYTES).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

async fn put(store: &AmazonS3, count: usize, bytes: usize, prefix: &str) -> Outcome<usize> {
    let content = bytes::Bytes::from(vec![7; bytes]);
    for at in 0..count {
        let key = Path::from(format!("{prefix}/{at}"));
        store.put(&key, PutPayload::from(content.clone())).await?;
    }
    Ok(count * bytes)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, bucket, command, rest @ ..] = &arguments[..] else {
        return Err("see the first lines of raw_s3.rs".into());
    };
    let store = open(endpoint, bucket)?;
    let began = Instant::now();
    let moved = match (command.as_str(), rest) {
        ("read", [get_bytes, at_once, keys @ ..]) => {
            read(&store, keys, get_bytes.parse()?, at_once.parse()?).await?
        }
        ("put", [count, bytes, prefix]) => {
            put(&store, count.parse()?, bytes.parse()?, prefix).await?
        }
        ("first", [bytes, places @ ..]) => {
            println!("{:?}", first(&store, bytes.parse()?, places).await?);
            return Ok(());
        }
        _ => return Err("see the first lines of raw_s3.rs".into()),
    };
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds}, \"bytes\": {moved}}}");
    Ok(())
}
