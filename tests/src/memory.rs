//! What a process holds in memory.

use std::fs;

/// Anonymous resident memory of a process in bytes (`RssAnon`): what it has allocated and touched.
pub fn rss_anon_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("RssAnon in kB");
    kib * 1024
}
