//! What operators do with functions and transforms, and how they are refused.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_metadata::{
    Command, FunctionId, FunctionImage, MetadataImage, MetadataLog, ProposeError, Rejection,
    TransformImage,
};
use tidemill_records::{Offset, PartitionId, TopicId};
use tidemill_storage::spawn;
use tidemill_transforms::{ArtifactError, Fault};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::artifacts::{Artifacts, id_of};
use super::deploy::metadata_carrier;
use super::trouble::Trouble;
use super::{Transforms, position};
use crate::broker::Broker;
use crate::config::nearest;
use crate::offset_by_time::by_timestamp;
use crate::partition::Isolation;
use crate::timestamp::parse_timestamp;

/// Why something is refused, as HTTP tells it.
#[derive(Debug)]
pub(crate) struct ControlError {
    /// HTTP's status.
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl ControlError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(crate) fn no_transform(name: &str) -> Self {
        Self::new(
            404,
            "unknown_transform",
            format!("there is no transform {name}"),
        )
        .hint("`tidemill fn list` shows all")
    }

    pub(crate) fn no_function(id: &str) -> Self {
        Self::new(
            404,
            "unknown_function",
            format!("there is no function {id}"),
        )
        .hint("`tidemill fn list --functions` shows all")
    }

    fn no_topic(image: &MetadataImage, name: &str) -> Self {
        let hint = match nearest(name, image.topics().map(|topic| &*topic.name)) {
            Some(meant) => format!("did you mean {meant}?"),
            None => {
                format!("`tidemill topic list` shows all, `tidemill topic create {name}` makes it")
            }
        };
        Self::new(404, "unknown_topic", format!("there is no topic {name}")).hint(hint)
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "unavailable", message)
            .hint("try again; if it stays so, the broker's log says more")
    }
}

impl From<Trouble> for ControlError {
    fn from(trouble: Trouble) -> Self {
        match &trouble {
            Trouble::Load(_) => Self::new(422, "function_refused", trouble.told())
                .hint("`tidemill fn build` makes an artifact that this release takes"),
            Trouble::Start(Fault::Memory(_)) => Self::new(422, "function_refused", trouble.told())
                .hint("give it more with --memory-max BYTES"),
            Trouble::Start(Fault::Time(_)) => Self::new(422, "function_refused", trouble.told())
                .hint("give it more with --time-max-ms MS; a deployment waits for 5 s at most"),
            Trouble::Start(_) => Self::new(422, "function_refused", trouble.told()).hint(
                "give it what it asks for with --config K=V; `tidemill fn test` tries that without deploying",
            ),
            Trouble::NoFunction => Self::new(404, "unknown_function", trouble.told())
                .hint("`tidemill fn upload FILE` stores it again"),
            _ => Self::unavailable(trouble.told()),
        }
    }
}

impl From<ArtifactError> for ControlError {
    fn from(error: ArtifactError) -> Self {
        let (status, code, hint) = match &error {
            ArtifactError::TooLarge(_) => (
                413,
                "artifact_too_large",
                "build it for size, without debug information and with less inlined",
            ),
            _ => (
                422,
                "artifact_refused",
                "wasm-sdk/ABI.md says what a function exports; `tidemill fn new` begins one that does",
            ),
        };
        Self::new(status, code, Trouble::Load(error).told()).hint(hint)
    }
}

impl From<ProposeError> for ControlError {
    fn from(error: ProposeError) -> Self {
        let told = error.to_string();
        let ProposeError::Rejected(rejection) = error else {
            return Self::unavailable(told);
        };
        let refused = |status, code, hint: &str| Self::new(status, code, told).hint(hint);
        match &rejection {
            Rejection::UnknownTransform => {
                refused(404, "unknown_transform", "`tidemill fn list` shows all")
            }
            Rejection::UnknownVersion(_) => refused(
                404,
                "unknown_version",
                "`tidemill fn versions NAME` shows all",
            ),
            Rejection::UnknownFunction => refused(
                404,
                "unknown_function",
                "`tidemill fn list --functions` shows all",
            ),
            Rejection::UnknownTransformTopic(topic) => {
                let create = format!("`tidemill topic create {topic}` makes it");
                refused(404, "unknown_topic", &create)
            }
            Rejection::FunctionInUse(transform) => {
                let delete = format!("`tidemill fn delete {transform}` ends it");
                refused(409, "function_in_use", &delete)
            }
            Rejection::TransformCycle(_) => refused(
                409,
                "cycle",
                "`tidemill fn list` shows what reads and writes which topics",
            ),
            Rejection::TransformSource(_) => refused(
                409,
                "other_source",
                "`tidemill fn list` shows the names that are taken",
            ),
            Rejection::TransformVersionChanged(_)
            | Rejection::TransformGeneration(_)
            | Rejection::TransformSourceChanged(_) => refused(
                409,
                "changed",
                "try again, after `tidemill fn describe NAME`",
            ),
            Rejection::TooManyTransforms | Rejection::TooManyFunctions => refused(
                400,
                "refused",
                "`tidemill fn list` shows what may be in the way",
            ),
            _ => refused(
                400,
                "refused",
                "`tidemill fn deploy --help` says what is taken",
            ),
        }
    }
}

/// Where a transform is to go on, or begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RewindTo {
    Start,
    End,
    /// The same offset in each partition.
    Offset(i64),
    /// The first record that is as late, in ms since 1970.
    Timestamp(i64),
}

impl std::str::FromStr for RewindTo {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, ControlError> {
        let bad = || {
            ControlError::new(400, "bad_position", format!("{text:?} is no position"))
                .hint("write start, end, an offset, or @ and a time: @1500000000000, @2013-01-31T12:00:00Z")
        };
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ => match text.strip_prefix('@') {
                Some(time) => parse_timestamp(time).map(Self::Timestamp).ok_or_else(bad),
                None => {
                    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
                    let offset = text.parse().ok().filter(|_| is_number);
                    offset.map(Self::Offset).ok_or_else(bad)
                }
            },
        }
    }
}

/// The offsets of a topic's partitions at a position.
pub(super) async fn resolve(
    broker: &Broker,
    topic: &str,
    to: RewindTo,
) -> Result<(TopicId, Vec<Offset>), ControlError> {
    let image = broker.metadata.image();
    let Some(found) = image.topic(topic) else {
        return Err(ControlError::no_topic(&image, topic));
    };
    let mut offsets = Vec::new();
    for partition in (0..found.partition_count()).map(PartitionId) {
        let offline = || ControlError::unavailable(format!("{topic}-{partition} is offline"));
        let held = broker
            .partitions
            .get(topic, partition.0)
            .ok_or_else(offline)?;
        let (start, end) = (
            held.log.log_start_offset(),
            held.end_for(Isolation::Committed),
        );
        offsets.push(match to {
            RewindTo::Start => start,
            RewindTo::End => end,
            RewindTo::Offset(offset) => Offset(offset).clamp(start, end),
            RewindTo::Timestamp(at) => {
                let found = by_timestamp(broker, &held, at, end).await;
                let found = found.map_err(|error| {
                    let place = format!("{topic}-{partition}");
                    ControlError::unavailable(format!("cannot look for a time in {place}: {error}"))
                })?;
                found.map_or(end, |found| found.offset)
            }
        });
    }
    Ok((found.id, offsets))
}

/// Does something on a task of its own: a connection that ends would otherwise leave it half done.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    match tokio::spawn(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => Err(Trouble::Stopping.into()),
    }
}

impl Transforms {
    /// Stores an artifact, once it is known to be a function; whether it is new. One whose records are lost is stored again.
    pub(crate) async fn upload(
        &self,
        broker: &Arc<Broker>,
        label: &str,
        artifact: Bytes,
    ) -> Result<(Arc<FunctionImage>, bool), ControlError> {
        let carrier = tidemill_transforms::carrier(&artifact)?;
        let id = id_of(&artifact);
        let known = broker.metadata.image().function(id).cloned();
        let is_new = known.is_none();
        let (send, stored) = oneshot::channel();
        let (host, bytes) = (broker.clone(), artifact.clone());
        spawn::spawn_thread("function-compile", move || async move {
            let stored = known.filter(|known| Artifacts::read(&host, known).is_ok());
            let compiled = match stored {
                Some(stored) => Ok(Some(stored)),
                None => {
                    // Held until it has ended, also where the client does not wait for it.
                    let _alone = host.transforms.compiling.lock().await;
                    host.transforms.compile_and_keep(id, &bytes).map(|()| None)
                }
            };
            let _ = send.send(compiled);
        });
        let stored = stored.await;
        if let Some(stored) = stored.map_err(|_| ControlError::from(Trouble::Stopping))?? {
            return Ok((stored, false));
        }
        let carrier = metadata_carrier(carrier);
        let function = self
            .artifacts
            .store(broker, id, label, carrier, &artifact)
            .await?;
        broker
            .metadata
            .propose(Command::AddFunction(function))
            .await?;
        let image = broker.metadata.image();
        let stored = image.function(id).cloned();
        let stored = stored.ok_or_else(|| ControlError::no_function(&id.to_string()))?;
        Ok((stored, is_new))
    }

    /// Finds a function by its id or the beginning of it.
    pub(crate) fn find(broker: &Broker, text: &str) -> Result<FunctionId, ControlError> {
        const DIGITS_MIN: usize = 8;
        if text.len() < DIGITS_MIN {
            let message = format!("{text:?} has fewer than {DIGITS_MIN} digits of an id");
            return Err(ControlError::new(400, "bad_id", message)
                .hint("`tidemill fn list --functions` shows all"));
        }
        let image = broker.metadata.image();
        let begins = |id: &FunctionId| id.to_string().starts_with(&text.to_ascii_lowercase());
        let mut found = image.functions().map(|function| function.id).filter(begins);
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => {
                let message = format!("more than one function begins with {text}");
                Err(ControlError::new(400, "ambiguous", message)
                    .hint("give more digits; `tidemill fn list --functions` shows all"))
            }
            (None, _) => Err(ControlError::no_function(text)),
        }
    }

    /// Forgets an artifact.
    pub(crate) async fn delete_function(
        &self,
        broker: &Broker,
        text: &str,
    ) -> Result<(), ControlError> {
        let id = Self::find(broker, text)?;
        broker
            .metadata
            .propose(Command::DeleteFunction { id })
            .await?;
        self.unload(id);
        Ok(())
    }

    fn transform(broker: &Broker, name: &str) -> Result<Arc<TransformImage>, ControlError> {
        let image = broker.metadata.image();
        let found = image.transform(name).cloned();
        found.ok_or_else(|| ControlError::no_transform(name))
    }

    /// Pauses a transform at its next commit, or lets it go on; a task that stopped goes on too.
    pub(crate) async fn pause(
        &self,
        broker: &Broker,
        name: &str,
        is_paused: bool,
    ) -> Result<(), ControlError> {
        let command = Command::PauseTransform {
            name: Self::transform(broker, name)?.name.clone(),
            is_paused,
        };
        broker.metadata.propose(command).await?;
        if !is_paused {
            for (_, task) in self.tasks.of(name) {
                task.resumed.notify_waiters();
            }
        }
        Ok(())
    }

    /// Goes back to another version, the one before unless one is named; which it is.
    pub(crate) async fn rollback(
        &self,
        broker: &Broker,
        name: &str,
        to: Option<u32>,
    ) -> Result<u32, ControlError> {
        let transform = Self::transform(broker, name)?;
        let before = |version: &u32| *version < transform.current;
        let mut numbers = transform.versions.iter().map(|version| version.number);
        let refused = |status, code, message: String| {
            ControlError::new(status, code, message)
                .hint(format!("`tidemill fn versions {name}` shows all"))
        };
        let number = match to {
            Some(wanted) => numbers.find(|number| *number == wanted).ok_or_else(|| {
                refused(
                    404,
                    "unknown_version",
                    format!("{name} has no version {wanted}"),
                )
            })?,
            None => numbers.filter(before).max().ok_or_else(|| {
                let current = transform.current;
                refused(
                    409,
                    "no_version",
                    format!("{name} has no version before {current}"),
                )
            })?,
        };
        let name = transform.name.clone();
        let command = Command::SelectVersion { name, number };
        broker.metadata.propose(command).await?;
        Ok(number)
    }

    /// Lets a transform begin again elsewhere, at its next commit; at which offset of each partition.
    pub(crate) async fn rewind(
        &self,
        broker: &Broker,
        name: &str,
        to: RewindTo,
    ) -> Result<Vec<Offset>, ControlError> {
        let transform = Self::transform(broker, name)?;
        let (topic, offsets) = resolve(broker, &transform.source, to).await?;
        let command = Command::RewindTransform {
            name: transform.name.clone(),
            generation: transform.origin.generation,
            topic,
            offsets: offsets.clone(),
        };
        broker.metadata.propose(command).await?;
        Ok(offsets)
    }

    /// Ends a transform: when this returns nothing runs any more, and its offsets are forgotten. It is done to the end, whether or
    /// not who asked for it stays.
    pub(crate) async fn delete(broker: &Arc<Broker>, name: &str) -> Result<(), ControlError> {
        Self::transform(broker, name)?;
        let (host, name) = (broker.clone(), name.to_owned());
        to_the_end(async move { host.transforms.delete_now(&host, &name).await }).await
    }

    async fn delete_now(&self, broker: &Broker, name: &str) -> Result<(), ControlError> {
        // A deployment under the same name waits until nothing of this one is left.
        let _alone = self.deploying.lock().await;
        Self::transform(broker, name)?;
        let command = Command::DeleteTransform { name: name.into() };
        broker.metadata.propose(command).await?;
        self.tasks.wait_ended(name).await;
        position::forget(broker, name).await;
        Ok(())
    }
}
