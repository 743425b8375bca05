//! CPU time and memory of processes, from the kernel.

use std::io;
use std::time::Duration;

use super::super::exit::Failure;
use super::IDLE_LOOK;

/// CPU time of this process, all threads, dead ones included.
pub(super) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Linux has no larger process ids.
const PID_MAX: i32 = 1 << 22;

/// Another process of this machine.
#[derive(Debug)]
pub(super) struct BrokerProcess {
    pid: i32,
    clock: libc::clockid_t,
}

impl BrokerProcess {
    /// Most time to wait for an idle broker.
    const SETTLE_MAX: Duration = Duration::from_secs(10);
    /// CPU time within [`IDLE_LOOK`] below which a broker counts as idle; a JVM is never at rest.
    const IDLE_CPU_MAX: Duration = Duration::from_millis(12);

    /// The process with that id.
    pub(super) fn open(pid: i32) -> Result<BrokerProcess, Failure> {
        let mut clock: libc::clockid_t = 0;
        let code = match pid {
            // SAFETY: the call writes one clock id to a place that lives through it.
            1..=PID_MAX => unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) },
            // The C library would take the number apart for something else.
            _ => libc::ESRCH,
        };
        if code != 0 {
            return Err(
                Failure::new(format!("cannot read the CPU clock of process {pid}"))
                    .because(&io::Error::from_raw_os_error(code))
                    .next("give the broker's process id to --broker-pid, or leave it out"),
            );
        }
        Ok(BrokerProcess { pid, clock })
    }

    /// CPU time of all its threads, dead ones included, to the nanosecond.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes one timespec to a place that lives through it.
        let code = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        if code != 0 {
            return Err(Failure::new(format!("process {} has ended", self.pid))
                .because(&io::Error::last_os_error()));
        }
        Ok(Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }

    /// Anonymous memory that is resident, in bytes.
    pub(super) fn rss_anon(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("cannot read {path}")).because(&error))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok());
        let kilobytes = kilobytes.ok_or_else(|| Failure::new(format!("{path} has no RssAnon")))?;
        Ok(kilobytes * 1024)
    }

    /// Waits until the process does next to nothing, so that what it put off is counted where it belongs.
    pub(super) async fn settle(&self) -> Result<(), Failure> {
        let mut waited = Duration::ZERO;
        let mut before = self.cpu()?;
        while waited < BrokerProcess::SETTLE_MAX {
            tokio::time::sleep(IDLE_LOOK).await;
            waited += IDLE_LOOK;
            let now = self.cpu()?;
            if now - before < BrokerProcess::IDLE_CPU_MAX {
                return Ok(());
            }
            before = now;
        }
        tracing::warn!(pid = self.pid, "the broker did not become idle");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_measured_from_outside() {
        let process = BrokerProcess::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let before = process.cpu().unwrap();
        let mut sum = 0u64;
        while own_cpu() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(process.cpu().unwrap() >= before + Duration::from_millis(20));
        assert!(process.rss_anon().unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_said() {
        assert!(
            [-1, 0, PID_MAX, i32::MAX]
                .iter()
                .all(|pid| BrokerProcess::open(*pid).is_err())
        );
    }
}
