//! Seeded lives of a log on a disk that loses what was not synced.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::fs::is_simulated_crash;

/// SplitMix64, for the choices of the workload.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What must be true of the log, from the callers' side.
#[derive(Default)]
struct Model {
    /// Everything appended and not known to be lost, from the first life on.
    appended: Entries,
    /// Everything up to here was acknowledged.
    acked: Lsn,
    /// Where recovery may have to begin.
    from: Lsn,
    next: usize,
}

impl Model {
    /// Checks what a recovery visited; from then on exactly that is the log.
    fn recovered(&mut self, visited: &Entries) -> Result<(), String> {
        let first = self.appended.partition_point(|(lsn, _)| *lsn <= self.from);
        let expected = &self.appended[first..];
        let same = visited
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        if same < visited.len() {
            return Err(format!(
                "entry {same} of {} was never appended there",
                visited.len()
            ));
        }
        if expected
            .get(same)
            .is_some_and(|(lsn, _)| *lsn <= self.acked)
        {
            return Err(format!(
                "acknowledged up to {}, but only {same} replayed",
                self.acked
            ));
        }
        self.appended.truncate(first + same);
        self.acked = self
            .appended
            .last()
            .map_or(self.acked, |(lsn, _)| self.acked.max(*lsn));
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Closed,
    Crashed,
    Failed,
    Killed,
}

/// One life: opens the log, checks it, works until something ends it.
async fn live(fs: &SimFs, model: &mut Model, choices: &mut Choices) -> Result<End, String> {
    let (wal, _, visited) = match try_open(fs, model.from) {
        Ok(opened) => opened,
        Err(WalFault::Io { source, .. }) if is_simulated_crash(&source) => return Ok(End::Crashed),
        Err(WalFault::Io { source, .. }) if source.raw_os_error() == Some(5) => {
            return Ok(End::Failed);
        }
        Err(fault) => return Err(fault.to_string()),
    };
    model.recovered(&visited)?;
    let told = Arc::new(AtomicU64::new(0));
    let teller = Arc::clone(&told);
    wal.set_on_durable(Box::new(move |lsn| teller.store(lsn.0, Ordering::SeqCst)));
    if choices.below(3) == 0 {
        wal.preallocate_in_background();
    }
    let end = work(&wal, model, choices).await;
    // What the listener heard may have been told to a client.
    fs.kill();
    model.acked = model.acked.max(Lsn(told.load(Ordering::SeqCst)));
    end
}

async fn work(wal: &Wal, model: &mut Model, choices: &mut Choices) -> Result<End, String> {
    for _ in 0..choices.below(120) {
        let lengths = [1, 50, 700, 3000, 9000];
        let bound = lengths[choices.below(5) as usize];
        let len = choices.below(bound);
        match choices.below(10) {
            0..5 => {
                let payload = payload(model.next, len as usize);
                model.next += 1;
                match wal.append(&[IoSlice::new(&payload)]) {
                    Ok(lsn) => model.appended.push((lsn, payload)),
                    Err(_) => return Ok(End::Failed),
                }
            }
            5..8 => {
                let Some((lsn, _)) = model.appended.last() else {
                    continue;
                };
                match wal.wait_durable(*lsn).await {
                    Ok(()) => model.acked = model.acked.max(*lsn),
                    Err(_) => return Ok(End::Failed),
                }
            }
            8 => {
                // A checkpoint: from now on recovery begins later.
                model.from = model.from.max(wal.durable());
                model.acked = model.acked.max(model.from);
                wal.recycle_below(model.from);
            }
            _ => tokio::task::yield_now().await,
        }
    }
    if choices.below(4) > 0 {
        return Ok(End::Killed);
    }
    match wal.close().await {
        Ok(()) => {
            model.acked = model.appended.last().map_or(model.acked, |(lsn, _)| *lsn);
            Ok(End::Closed)
        }
        Err(_) => Ok(End::Failed),
    }
}

fn faults(fs: &SimFs, choices: &mut Choices, syncs_lie: bool) -> SimFaults {
    let mut faults = SimFaults {
        syncs_lie,
        ..SimFaults::default()
    };
    match choices.below(4) {
        0 => faults.fail_sync_at = Some(fs.syncs() + 1 + choices.below(60)),
        1 => {}
        _ => faults.crash_at_op = Some(fs.ops() + 1 + choices.below(250)),
    }
    faults
}

/// Several lives on one disk. A life ends by power loss, by a failed sync, by a kill that leaves the
/// page cache alone, or in order; what follows a kill may still be a power loss before anything else.
fn lives(seed: u64, syncs_lie: bool) -> Result<(BTreeSet<End>, u64), String> {
    block_on(async {
        let mut choices = Choices(seed);
        let mut fs = new_disk(seed);
        let mut model = Model::default();
        let mut ends = BTreeSet::new();
        let mut trace = 0;
        for _ in 0..6 {
            fs.set_faults(faults(&fs, &mut choices, syncs_lie));
            let end = live(&fs, &mut model, &mut choices).await?;
            ends.insert(end);
            trace ^= fs.trace_hash();
            fs = fs.reboot();
            if choices.below(2) == 0 {
                fs = fs.reboot();
            }
            check_twice(&fs, &model)?;
        }
        fs.set_faults(SimFaults::default());
        let (_wal, _, visited) = try_open(&fs, model.from).map_err(|fault| fault.to_string())?;
        model.recovered(&visited)?;
        Ok((ends, trace))
    })
}

/// Recovery run twice gives the same entries, however the first run ends.
fn check_twice(fs: &SimFs, model: &Model) -> Result<(), String> {
    let copy = fs.clone_disk();
    let open = |fs: &SimFs| try_open(fs, model.from).map_err(|fault| fault.to_string());
    let (_wal, _, first) = open(&copy)?;
    for again in [copy.reboot(), copy.clone_disk()] {
        let (_wal, _, second) = open(&again)?;
        if first != second {
            return Err(format!(
                "{} entries first, {} then",
                first.len(),
                second.len()
            ));
        }
    }
    Ok(())
}

#[test]
fn acknowledged_entries_survive_any_crash() {
    let mut ends = BTreeSet::new();
    for seed in 0..600 {
        match lives(seed, false) {
            Ok((seen, _)) => ends.extend(seen),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert_eq!(ends.len(), 4, "every kind of end occurs: {ends:?}");
}

#[test]
fn the_crash_test_notices_syncs_that_do_nothing() {
    let noticed = (0..60).filter(|seed| lives(*seed, true).is_err()).count();
    assert!(noticed >= 20, "only {noticed} of 60");
}

#[cfg(feature = "sim")]
#[test]
fn one_seed_gives_one_run() {
    for seed in 0..30 {
        assert_eq!(lives(seed, false), lives(seed, false), "seed {seed}");
    }
    assert_ne!(lives(1, false).unwrap().1, lives(2, false).unwrap().1);
}
