//! A broker as a process of its own, which can be killed.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::LIMIT;
use crate::wire::Wire;

/// `target/release/tidemill`, beside the running test.
pub fn tidemill_binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // Tests lie in target/release/deps, binaries in target/release.
    let directories = test.ancestors().skip(1).take(2);
    let candidates: Vec<PathBuf> = directories.map(|dir| dir.join("tidemill")).collect();
    let found = candidates.iter().find(|path| path.is_file());
    found.cloned().unwrap_or_else(|| {
        panic!("no tidemill binary at {candidates:?}; run `cargo build --release` first")
    })
}

/// A started `tidemill serve`. Dropping it kills it.
pub struct ChildBroker {
    child: Child,
    /// For clients.
    pub kafka: SocketAddr,
    /// HTTP.
    pub admin: SocketAddr,
    /// For brokers.
    pub internal: SocketAddr,
    stderr: Option<JoinHandle<String>>,
}

/// A start that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The exit code.
    pub code: i32,
    /// What was said about it.
    pub stderr: String,
}

/// `serve` on free ports in this directory, with more arguments and environment variables.
fn command(data_dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(tidemill_binary());
    command.arg("serve").arg("--data-dir").arg(data_dir);
    for listener in ["--listen", "--admin-listen", "--internal-listen"] {
        if !arguments.contains(&listener) {
            command.args([listener, "127.0.0.1:0"]);
        }
    }
    for (name, _) in std::env::vars() {
        if name.starts_with("TIDEMILL_") || name.starts_with("KAFKA_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(environment.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `serve` to its end, which must be a refusal to start.
pub fn refused_start(data_dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Refused {
    let spawned = command(data_dir, arguments, environment).spawn();
    let mut child = spawned.expect("the binary runs");
    let stderr = collect(child.stderr.take(), |_| {});
    let status = wait(&mut child);
    let stderr = stderr.join().expect("stderr is read");
    let code = status.code();
    Refused {
        code: code.unwrap_or_else(|| panic!("it ended by {status}, saying {stderr}")),
        stderr,
    }
}

impl ChildBroker {
    /// Starts and waits for the `ready` line.
    pub fn start(data_dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let spawned = command(data_dir, arguments, environment).spawn();
        Self::ready(spawned.expect("the binary runs"), |_| {})
    }

    /// The same; `hear` is given each line that it says on stderr, also before it is ready.
    pub fn start_and(data_dir: &Path, hear: impl FnMut(&str) + Send + 'static) -> Self {
        let spawned = command(data_dir, &[], &[]).spawn();
        Self::ready(spawned.expect("the binary runs"), hear)
    }

    fn ready(mut child: Child, hear: impl FnMut(&str) + Send + 'static) -> Self {
        let stderr = collect(child.stderr.take(), hear);
        let ready = ready_line(&mut child);
        let address = |name: &str| {
            let mut words = ready.split_whitespace();
            let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.and_then(|address| address.parse().ok())
        };
        let addresses = (address("kafka"), address("admin"), address("internal"));
        let (Some(kafka), Some(admin), Some(internal)) = addresses else {
            let _ = child.kill();
            let status = child.wait();
            let stderr = stderr.join().unwrap_or_default();
            panic!("no ready line but {ready:?}, {status:?}, stderr: {stderr}");
        };
        Self {
            child,
            kafka,
            admin,
            internal,
            stderr: Some(stderr),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that can say anything.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.kafka).await
    }

    /// SIGKILL; returns what it had said when it is gone.
    pub fn kill9(mut self) -> String {
        self.child.kill().expect("it still runs");
        let status = wait(&mut self.child);
        assert_eq!(
            status.signal(),
            Some(9),
            "it was killed, not something else"
        );
        self.said()
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("it still runs");
    }

    /// SIGTERM; returns what it said when it has ended with 0.
    pub fn stop(mut self) -> String {
        self.terminate();
        let status = wait(&mut self.child);
        let said = self.said();
        assert_eq!(status.code(), Some(0), "{status}: {said}");
        said
    }

    /// Waits for an end that somebody else brings about.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child);
        (status, self.said())
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    fn said(&mut self) -> String {
        let reader = self.stderr.take().expect("stderr is taken once");
        reader.join().expect("stderr is read")
    }
}

impl Drop for ChildBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A test that fails is explained by what its broker said.
        if std::thread::panicking()
            && let Some(Ok(said)) = self.stderr.take().map(JoinHandle::join)
        {
            eprintln!("the broker said:\n{said}");
        }
    }
}

/// Reads a pipe to its end, so that the child never waits for a reader.
fn collect(
    pipe: Option<impl Read + Send + 'static>,
    mut hear: impl FnMut(&str) + Send + 'static,
) -> JoinHandle<String> {
    let mut lines = BufReader::new(pipe.expect("a pipe"));
    std::thread::spawn(move || {
        let (mut all, mut line) = (String::new(), Vec::new());
        // What was read counts even if the end is not clean.
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line);
            hear(&text);
            all.push_str(&text);
            line.clear();
        }
        all
    })
}

/// The first line on stdout, or what there is of it when the child ends or takes too long.
fn ready_line(child: &mut Child) -> String {
    let stdout = child.stdout.take().expect("a pipe");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        let _ = reader.read_line(&mut line);
        let _ = tell.send(line);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    told.recv_timeout(LIMIT).unwrap_or_default()
}

/// The standard library has no wait with a deadline.
fn wait(child: &mut Child) -> ExitStatus {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let _ = child.kill();
    panic!("the broker did not end within {LIMIT:?}");
}
