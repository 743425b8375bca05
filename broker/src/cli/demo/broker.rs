//! The demo's broker: a child process of this very binary.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidemill_storage::spawn::spawn_thread;
use tokio::sync::oneshot;

use super::super::exit::Failure;

/// A broker that is not ready by then will not be.
const READY_WAIT_MAX: Duration = Duration::from_secs(30);
/// A broker that has not stopped by then is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);
/// Lines of the broker's log that an error shows.
const LOG_LINES_SHOWN: usize = 5;

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub(super) struct DemoBroker {
    child: Child,
    log: PathBuf,
    pub(super) kafka: String,
    pub(super) admin: String,
    /// Time from the start of the process to its ready line.
    pub(super) ready_after: Duration,
    keep: bool,
}

impl Drop for DemoBroker {
    fn drop(&mut self) {
        if !self.keep {
            // It may have ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl DemoBroker {
    /// Starts a broker on `dir`, at `kafka` (`127.0.0.1:0` picks a port), and waits until it is ready. A
    /// broker that is to outlive the demo leaves its process group, so that ^C does not reach it.
    pub(super) async fn start(dir: &Path, kafka: &str, keep: bool) -> Result<DemoBroker, Failure> {
        let log = dir.join("broker.log");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--listen", kafka, "--admin-listen", "127.0.0.1:0"])
            .args(["--internal-listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(append(&log)?);
        for (name, _) in std::env::vars_os() {
            // Settings of the broker that this shell may have are not the demo's.
            let name_text = name.to_string_lossy();
            if name_text.starts_with("TIDEMILL_") || name_text.starts_with("KAFKA_") {
                command.env_remove(&name);
            }
        }
        command
            .env(
                "TIDEMILL_TIER_URL",
                format!("file://{}", dir.join("tier").display()),
            )
            // Nobody wants to watch segments gather.
            .env("TIDEMILL_TIER_UPLOAD_MERGE_WAIT_MS", "0")
            .env("TIDEMILL_TIER_CHECK_INTERVAL_MS", "100");
        if keep {
            command.process_group(0);
        }
        let began = Instant::now();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut broker = DemoBroker {
            child,
            log,
            kafka: String::new(),
            admin: String::new(),
            ready_after: Duration::ZERO,
            keep: false,
        };
        let (found, line) = oneshot::channel();
        spawn_thread("ready", move || async move {
            let mut line = String::new();
            // An empty line stands for a broker that ended, or whose stdout cannot be read.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = found.send(line);
        });
        let line = tokio::time::timeout(READY_WAIT_MAX, line).await;
        broker.ready_after = began.elapsed();
        let line = line.ok().and_then(Result::ok).unwrap_or_default();
        match (field(&line, "kafka"), field(&line, "admin")) {
            (Some(kafka), Some(admin)) => {
                broker.kafka = kafka;
                broker.admin = admin;
                broker.keep = keep;
                Ok(broker)
            }
            _ => Err(broker.failure("the broker did not become ready")),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does; it gets no chance to write anything.
    pub(super) fn kill_9(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        let status = self.child.wait()?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(self.failure(&format!("the broker ended by itself ({status})"))),
        }
    }

    /// Asks it to drain and stop, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(std::io::Error::from)?;
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(self.failure(&format!("the broker stopped with {status}")));
                }
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
        Err(self.failure("the broker did not stop"))
    }

    /// An error with the end of the broker's log.
    fn failure(&self, error: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines
            .iter()
            .skip(lines.len().saturating_sub(LOG_LINES_SHOWN));
        shown.fold(Failure::new(error), |failure, line| failure.cause(*line))
    }
}

fn append(path: &Path) -> Result<std::fs::File, Failure> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(&error))
}

/// The value of `name=` in the ready line.
fn field(line: &str, name: &str) -> Option<String> {
    let fields = line.strip_prefix("ready ")?.split_whitespace();
    let value = fields
        .filter_map(|field| field.split_once('='))
        .find(|(key, _)| *key == name)?
        .1;
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_parsed_and_further_keys_are_ignored() {
        let line = "ready kafka=127.0.0.1:4001 admin=127.0.0.1:4002 internal=[::1]:5 more=x\n";
        assert_eq!(field(line, "kafka").unwrap(), "127.0.0.1:4001");
        assert_eq!(field(line, "admin").unwrap(), "127.0.0.1:4002");
        assert_eq!(field(line, "tier"), None);
        assert_eq!(field("error: kafka=1", "kafka"), None);
    }
}
