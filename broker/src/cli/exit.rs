//! How a command ends: exit codes that scripts rely on, and errors that say what to do next.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use tidemill_client::ClientError;
use tidemill_protocol::ErrorCode;

/// A command of this program, by the name it was called with, so that it can be pasted.
pub(super) fn command(arguments: &str) -> String {
    let program = std::env::args_os().next();
    let program = program.map_or("tidemill".into(), |program| {
        program.to_string_lossy().into_owned()
    });
    format!("{program} {arguments}")
}

/// Exit codes besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No broker answers.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A failure for a person: what, why, and the next command.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    error: String,
    causes: Vec<String>,
    next: Vec<String>,
    /// The reader of stdout has gone, which is how pipes end: nothing to report.
    quiet: bool,
}

impl Failure {
    pub(super) fn new(error: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Failed,
            error: error.into(),
            causes: Vec::new(),
            next: Vec::new(),
            quiet: false,
        }
    }

    pub(super) fn usage(error: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Usage,
            ..Failure::new(error)
        }
    }

    pub(super) fn unreachable(error: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Unreachable,
            ..Failure::new(error)
        }
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.exit == Exit::Unreachable
    }

    /// Adds an error and what it was caused by.
    pub(super) fn because(mut self, cause: &dyn Error) -> Failure {
        let mut cause = Some(cause);
        while let Some(error) = cause {
            let text = error.to_string();
            // Wrappers often repeat what they wrap.
            if !self.error.contains(&text) && !self.causes.iter().any(|known| known.contains(&text))
            {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }

    /// Adds what it was caused by, in words.
    pub(super) fn cause(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    /// Adds what to do next.
    pub(super) fn next(mut self, next: impl Into<String>) -> Failure {
        self.next.push(next.into());
        self
    }

    /// Whether the text for people already has this word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.error.contains(word)
    }

    /// Whether this is among what to do next.
    #[cfg(test)]
    pub(super) fn proposes(&self, next: &str) -> bool {
        self.next.iter().any(|known| known.contains(next))
    }

    /// Says what it is about.
    pub(super) fn about(self, subject: impl std::fmt::Display) -> Failure {
        Failure {
            error: format!("{subject}: {}", self.error),
            ..self
        }
    }

    /// Says what was tried, of which this is the cause. Whoever is not reached has not tried anything.
    pub(super) fn trying(mut self, tried: impl Into<String>) -> Failure {
        if !self.is_unreachable() {
            let cause = std::mem::replace(&mut self.error, tried.into());
            self.causes.insert(0, cause);
        }
        self
    }

    /// Says in which line of the input it happened.
    pub(super) fn in_line(self, number: u64) -> Failure {
        self.about(format_args!("line {number}"))
    }

    /// The exit code, after saying on stderr what there is to say.
    pub(super) fn report(&self) -> ExitCode {
        if self.quiet {
            return ExitCode::SUCCESS;
        }
        let mut text = format!("error: {}\n", self.error);
        for cause in &self.causes {
            let _ = writeln!(text, "cause: {cause}");
        }
        for next in &self.next {
            let _ = writeln!(text, "next:  {next}");
        }
        // Nobody is left to hear it if this fails.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        self.exit.into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Failure {
            quiet,
            ..Failure::new(error.to_string())
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let mut failure = Failure::new(error.to_string());
        if let Some(source) = error.source() {
            failure = failure.because(source);
        }
        if error.is_unreachable() {
            failure.exit = Exit::Unreachable;
            return failure.next(start_or_name("--bootstrap"));
        }
        if let ClientError::UnknownTopic { topic } = &error {
            return failure.next(format!(
                "{}, or {}",
                command("topic list"),
                command(&format!("topic create {topic}"))
            ));
        }
        if let ClientError::UnknownPartition { topic, .. } = &error {
            return failure.next(command(&format!("topic describe {topic}")));
        }
        match error
            .broker_error()
            .and_then(|(code, subject)| next_for(code, subject))
        {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

/// What to do where no broker answers: `flag` names its address.
pub(super) fn start_or_name(flag: &str) -> String {
    let serve = command("serve");
    format!("start a broker with `{serve}`, or name one with {flag} HOST:PORT")
}

/// The next command for an error code about `subject`, where there is an obvious one.
pub(super) fn next_for(code: ErrorCode, subject: &str) -> Option<String> {
    let topic = || subject.rsplit_once('-').map_or(subject, |(topic, _)| topic);
    Some(match code {
        ErrorCode::TopicAlreadyExists => command(&format!("topic describe {subject}")),
        ErrorCode::InvalidTopicException => {
            "topic names have 1 to 249 letters, digits, dots, dashes and underscores".to_owned()
        }
        ErrorCode::InvalidReplicationFactor => {
            "a topic has no more replicas than there are brokers".to_owned()
        }
        ErrorCode::MessageTooLarge => {
            let alter = format!("topic alter {} --config max.message.bytes=N", topic());
            format!("{}, or smaller records", command(&alter))
        }
        ErrorCode::OffsetOutOfRange => {
            let describe = command(&format!("topic describe {}", topic()));
            format!("{describe} shows where the log starts and ends")
        }
        ErrorCode::KafkaStorageError => format!(
            "{} shows whether the object tier fails, the broker's log and `check` whether its disk does",
            command("tier status")
        ),
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => {
            let group = subject.split(' ').next().unwrap_or(subject);
            let describe = command(&format!("group describe {group}"));
            format!("stop the members first: {describe}")
        }
        ErrorCode::GroupIdNotFound => command("group list"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_each() {
        let inner = io::Error::other("disk on fire");
        let failure = Failure::new("cannot read x: disk on fire").because(&inner);
        assert!(failure.causes.is_empty());
        let failure = Failure::new("cannot read x")
            .because(&inner)
            .because(&inner);
        assert_eq!(failure.causes, ["disk on fire"]);
    }

    #[test]
    fn what_was_tried_stands_before_its_causes() {
        let inner = io::Error::other("disk on fire");
        let failure = Failure::new("no such thing").because(&inner);
        let failure = failure.trying("cannot do it");
        assert_eq!(failure.error, "cannot do it");
        assert_eq!(failure.causes, ["no such thing", "disk on fire"]);
        let failure = Failure::unreachable("nobody there").trying("cannot do it");
        assert_eq!(failure.error, "nobody there");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.report(), ExitCode::SUCCESS);
        let failure = Failure::from(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(failure.report(), ExitCode::from(1));
    }

    #[test]
    fn an_unreachable_broker_has_its_own_code() {
        let error = ClientError::Unreachable {
            addresses: "127.0.0.1:1".into(),
            source: tidemill_client::ConnectionError::Closed {
                address: "127.0.0.1:1".into(),
            },
        };
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.next[0].contains(&command("serve")));
    }
}
