mod behaviour;
mod crash;
mod damage;
#[cfg(not(feature = "sim"))]
mod threads;

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;

use super::*;
use crate::fs::{SimFaults, SimFs};

const DIR: &str = "/data/wal";

/// Small, so that a few kilobytes cross files and windows.
fn small() -> WalConfig {
    WalConfig {
        file_bytes: 16 << 10,
        window_bytes_max: 4 << 10,
        buffer_bytes_max: 16 << 10,
        spare_files_max: 2,
        ..WalConfig::new(DIR)
    }
}

fn new_disk(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new("/data")).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

/// Runs on one thread. In a build for simulation the log's own work runs there, too.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

type Entries = Vec<(Lsn, Vec<u8>)>;

fn try_open(fs: &SimFs, from: Lsn) -> Result<(Wal, WalRecovery, Entries), WalFault> {
    let mut entries = Vec::new();
    let visit = &mut |lsn, payload: &[u8]| {
        entries.push((lsn, payload.to_vec()));
        Ok::<(), Infallible>(())
    };
    match Wal::open(Arc::new(fs.clone()), small(), from, visit) {
        Ok((wal, recovery)) => Ok((wal, recovery, entries)),
        Err(WalOpenError::Log(fault)) => Err(fault),
        Err(WalOpenError::Visit(never)) => match never {},
    }
}

fn open(fs: &SimFs, from: Lsn) -> (Wal, WalRecovery, Entries) {
    try_open(fs, from).unwrap()
}

fn append(wal: &Wal, payload: &[u8]) -> Lsn {
    wal.append(&[IoSlice::new(payload)]).unwrap()
}

/// Appends the payload and waits until it is durable.
async fn store(wal: &Wal, payload: &[u8]) -> Lsn {
    let lsn = append(wal, payload);
    wal.wait_durable(lsn).await.unwrap();
    lsn
}

/// Names of the files in the log's directory.
fn names(fs: &SimFs) -> Vec<String> {
    let entries = fs.read_dir(Path::new(DIR)).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name.into_string().unwrap())
        .collect()
}

fn payload(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}
