//! Deploying: everything that can be known is checked before the metadata has it, on the same host that will run it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_metadata::{
    Carrier, Command, Deployment, FunctionId, MetadataLog, OnError, Origin, Outcome, ProposeError,
    Rejection, TransformLimits, TransformVersion, apply,
};
use tidemill_records::{LeaderEpoch, PartitionId, TopicId};
use tidemill_transforms::{Limits, LogLevel, Runner, RunnerConfig, Share, Source};

use super::control::{ControlError, RewindTo, resolve, to_the_end};
use super::task::{limits_of, manifest};
use super::trouble::Trouble;
use super::{Transforms, stock};
use crate::broker::Broker;
use crate::topic;

const RETRIES: u32 = 1;
const BACKOFF_MS: u32 = 100;
const LOG_LINES_PER_SECOND: u32 = 100;
/// A dead letter is its record and the context: so much larger may it be.
const DEAD_LETTER_ROOM_BYTES: i64 = 64 << 10;
/// A function has so much processor time to take its configuration when it is tried.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(5);
/// What a function says while it is tried is told to who deploys.
const TRIAL_LINES_MAX: usize = 20;

/// What is asked for; docs/http.md says what each field is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with a deployment")]
pub(crate) struct DeploymentRequest {
    name: String,
    function: Option<String>,
    stock: Option<String>,
    source: String,
    sinks: Vec<String>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    from: Option<String>,
    delivery: Option<String>,
    on_error: Option<String>,
    dlq: Option<String>,
    retries: Option<u32>,
    backoff_ms: Option<u32>,
    #[serde(default)]
    limits: LimitsRequest,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with limits")]
struct LimitsRequest {
    memory_bytes: Option<u64>,
    time_ms: Option<u32>,
    output_bytes: Option<u64>,
    output_records: Option<u32>,
    log_lines_per_second: Option<u32>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) created_topics: Vec<String>,
}

impl DeploymentRequest {
    fn on_error(&self) -> Result<OnError, ControlError> {
        match self.on_error.as_deref() {
            None | Some("dlq") => Ok(OnError::DeadLetters),
            Some("skip") => Ok(OnError::Skip),
            Some("stop") => Ok(OnError::Stop),
            Some(other) => {
                let message = format!("on_error is {other:?}");
                Err(ControlError::new(400, "bad_policy", message)
                    .hint("`tidemill fn deploy --on-error` takes dlq, skip or stop"))
            }
        }
    }

    fn check_delivery(&self) -> Result<(), ControlError> {
        match self.delivery.as_deref() {
            None | Some("at-least-once") => Ok(()),
            Some("exactly-once") => {
                let message = "exactly-once needs transactions, which this release does not have";
                Err(ControlError::new(422, "no_transactions", message)
                    .hint("deploy with --delivery at-least-once: after a crash up to about 100 ms of outputs come twice"))
            }
            Some(other) => {
                let message = format!("delivery is {other:?}");
                Err(ControlError::new(400, "bad_delivery", message)
                    .hint("`tidemill fn deploy --delivery` takes at-least-once"))
            }
        }
    }

    /// Dead letters among the outputs, or back in the source, could not be told from them.
    fn check_dead_letters(&self, topic: &str) -> Result<(), ControlError> {
        let also = match self.sinks.iter().any(|sink| sink == topic) {
            true => "a sink",
            false if *topic == *self.source => "the source",
            false => return Ok(()),
        };
        let message = format!("{topic} cannot be the topic for dead letters: it is {also}");
        Err(ControlError::new(400, "bad_dead_letters", message)
            .hint("name another topic with --dlq, or leave it out for NAME.dlq"))
    }

    fn version(&self, function: FunctionId, now_ms: i64) -> Result<TransformVersion, ControlError> {
        let on_error = self.on_error()?;
        let dead_letters: Option<Arc<str>> = match (on_error, &self.dlq) {
            (OnError::DeadLetters, Some(topic)) => Some(topic.as_str().into()),
            (OnError::DeadLetters, None) => Some(format!("{}.dlq", self.name).into()),
            (_, None) => None,
            (_, Some(_)) => {
                let message = "a topic for dead letters goes with the policy dlq only";
                return Err(ControlError::new(400, "bad_policy", message)
                    .hint("deploy with --on-error dlq, or without --dlq"));
            }
        };
        if let Some(topic) = &dead_letters {
            self.check_dead_letters(topic)?;
        }
        let config = self.config.iter();
        let config = config.map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        let (asked, ours) = (&self.limits, Limits::default());
        Ok(TransformVersion {
            number: 0,
            function,
            sinks: self.sinks.iter().map(|sink| sink.as_str().into()).collect(),
            dead_letters,
            config: config.collect(),
            on_error,
            retries: self.retries.unwrap_or(RETRIES),
            backoff_ms: self.backoff_ms.unwrap_or(BACKOFF_MS),
            limits: TransformLimits {
                memory_bytes: asked.memory_bytes.unwrap_or(ours.memory_bytes),
                time_ms: asked.time_ms.unwrap_or(ours.time.as_millis() as u32),
                output_bytes: asked.output_bytes.unwrap_or(ours.output_bytes),
                output_records: asked.output_records.unwrap_or(ours.output_records),
                log_lines_per_second: asked.log_lines_per_second.unwrap_or(LOG_LINES_PER_SECOND),
            },
            deployed_at_ms: now_ms,
        })
    }
}

impl Transforms {
    /// Deploys a function: a new transform, or a new version of one; whether it is new. It is done to the end, whether or not who
    /// asked for it stays.
    pub(crate) async fn deploy(
        broker: &Arc<Broker>,
        request: DeploymentRequest,
    ) -> Result<(Deployed, bool), ControlError> {
        let host = broker.clone();
        to_the_end(async move { host.transforms.deploy_now(&host, request).await }).await
    }

    async fn deploy_now(
        &self,
        broker: &Arc<Broker>,
        request: DeploymentRequest,
    ) -> Result<(Deployed, bool), ControlError> {
        let _alone = self.deploying.lock().await;
        request.check_delivery()?;
        let from = request.from.as_deref().unwrap_or("end").parse();
        let from: RewindTo = from.map_err(|error: ControlError| {
            error.hint("write start, end, or @ and a time: @1500000000000, @2013-01-31T12:00:00Z")
        })?;
        if let RewindTo::Offset(_) = from {
            let message = "a transform begins at start, end or a time";
            return Err(
                ControlError::new(400, "bad_position", message).hint(format!(
                    "deploy, then `tidemill fn rewind {} --to OFFSET`",
                    request.name
                )),
            );
        }
        if topic::is_internal(&request.source) {
            // A function that reads what functions log would feed itself.
            let message = format!("{} is internal", request.source);
            return Err(ControlError::new(400, "bad_topic", message)
                .hint("`tidemill topic list` shows the topics that a transform may read"));
        }
        let (source_id, offsets) = resolve(broker, &request.source, from).await?;
        let function = self.wanted_function(broker, &request).await?;
        let version = request.version(function, broker.clock.now_ms())?;
        let image = broker.metadata.image();
        let before = image.transform(&request.name);
        let is_new = before.is_none();
        let command = Command::DeployTransform(Deployment {
            name: request.name.as_str().into(),
            id: broker.random.next_uuid(),
            source: request.source.as_str().into(),
            version: version.clone(),
            origin: Origin {
                generation: 1,
                topic: source_id,
                offsets,
            },
            expected: before.map(|before| before.current),
        });
        // What would be refused in the end leaves no topics behind.
        match apply(&image, image.index(), &command).1 {
            Ok(_) | Err(Rejection::UnknownTransformTopic(_)) => {}
            Err(rejection) => return Err(ProposeError::Rejected(rejection).into()),
        }
        let missing = missing_topics(broker, &version)?;
        check_not_compacted(broker, version.dead_letters.as_deref())?;
        self.try_out(broker, &request, &version).await?;
        let created_topics = create_topics(broker, &request.source, missing).await?;
        let outcome = broker.metadata.propose(command).await?;
        let Outcome::TransformDeployed { version } = outcome else {
            unreachable!("a deployment is not answered with {outcome:?}");
        };
        let name = request.name;
        let deployed = Deployed {
            name,
            version,
            created_topics,
        };
        Ok((deployed, is_new))
    }

    async fn wanted_function(
        &self,
        broker: &Arc<Broker>,
        request: &DeploymentRequest,
    ) -> Result<FunctionId, ControlError> {
        match (&request.function, &request.stock) {
            (Some(id), None) => Self::find(broker, id),
            (None, Some(id)) => {
                let found = stock().iter().find(|stock| stock.id == id);
                let found = found.ok_or_else(|| {
                    let ids: Vec<&str> = stock().iter().map(|stock| stock.id).collect();
                    let message = format!("there is no stock function {id}");
                    ControlError::new(404, "unknown_function", message).hint(format!(
                        "`tidemill fn list --stock` says what they do: {}",
                        ids.join(", ")
                    ))
                })?;
                let artifact = Bytes::from_static(found.wasm);
                let (function, _) = self.upload(broker, found.id, artifact).await?;
                Ok(function.id)
            }
            _ => {
                let message = "name either a function or a stock function";
                Err(ControlError::new(400, "bad_request", message)
                    .hint("`tidemill fn list` has both, with --functions and with --stock"))
            }
        }
    }

    /// Makes one instance, so that a function that does not take its configuration is refused here.
    async fn try_out(
        &self,
        broker: &Arc<Broker>,
        request: &DeploymentRequest,
        version: &TransformVersion,
    ) -> Result<(), ControlError> {
        let function = self.function(broker, version.function).await?;
        let said = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let lines = said.clone();
        let share = Arc::new(Share::default());
        let config = RunnerConfig {
            function,
            manifest: Arc::new(manifest(version)),
            limits: Limits {
                // Who deploys waits, and everybody who deploys next.
                time: limits_of(&version.limits).time.min(TRIAL_TIME_MAX),
                ..limits_of(&version.limits)
            },
            source: Source {
                topic: request.source.as_str().into(),
                partition: PartitionId(0),
                leader_epoch: LeaderEpoch::NONE,
            },
            share: share.clone(),
            log: Arc::new(move |level: LogLevel, line: &str| {
                let mut lines = lines.lock();
                if lines.len() < TRIAL_LINES_MAX {
                    lines.push(format!("{}: {line}", level.as_str()));
                }
            }),
        };
        let runner = Runner::new(&self.host, config);
        let probe = async move {
            let probed = runner.probe().await;
            runner.rest();
            probed
        };
        let probed = self.host.workers().run(&share, probe).await;
        let probed = probed.map_err(Trouble::Host)?;
        probed.map_err(|fault| {
            let mut refused = ControlError::from(Trouble::Start(fault));
            let lines = said.lock();
            if !lines.is_empty() {
                refused.message += &format!("; it said: {}", lines.join("; "));
            }
            refused
        })
    }
}

/// Compaction would take dead letters away, and a record without a key could not become one.
fn check_not_compacted(broker: &Broker, dead_letters: Option<&str>) -> Result<(), ControlError> {
    let held = dead_letters.and_then(|topic| broker.partitions.get(topic, 0));
    match held {
        Some(held) if held.log.config().compact => {
            let message = format!(
                "{} cannot be the topic for dead letters: it is compacted",
                dead_letters.unwrap_or_default()
            );
            Err(ControlError::new(400, "bad_dead_letters", message)
                .hint("name another topic with --dlq, or leave it out for NAME.dlq"))
        }
        _ => Ok(()),
    }
}

/// The sinks and the topic for dead letters that are not there; the latter is marked. A name that no topic may have is refused
/// before any topic is made.
fn missing_topics(
    broker: &Broker,
    version: &TransformVersion,
) -> Result<Vec<(Arc<str>, bool)>, ControlError> {
    let image = broker.metadata.image();
    let dead_letters = version.dead_letters.iter().map(|topic| (topic, true));
    let topics = version.sinks.iter().map(|topic| (topic, false));
    let topics = topics.chain(dead_letters);
    let missing = topics.filter(|(topic, _)| image.topic(topic).is_none());
    let missing: Vec<_> = missing.map(|(topic, is)| (topic.clone(), is)).collect();
    for (topic, _) in &missing {
        let refuse = |message: String| {
            ControlError::new(400, "bad_topic", message)
                .hint("name another topic with --sink or --dlq; `tidemill topic list` shows all")
        };
        tidemill_metadata::check_topic_name(topic)
            .map_err(|fault| refuse(format!("cannot create {topic:?}: {fault}")))?;
        if topic::is_internal(topic) {
            return Err(refuse(format!("{topic} is internal")));
        }
        let is_other = |other: &&Arc<str>| *other != topic;
        let mut others = missing.iter().map(|(other, _)| other).filter(is_other);
        let among_them = others.find(|other| topic::collide(topic, other));
        let existing = topic::collides(broker, topic);
        if let Some(other) = existing.or_else(|| among_them.cloned()) {
            return Err(refuse(format!("topic {topic} collides with {other}")));
        }
    }
    Ok(missing)
}

/// Creates topics with the partitions and the retention of the source.
async fn create_topics(
    broker: &Broker,
    source: &str,
    missing: Vec<(Arc<str>, bool)>,
) -> Result<Vec<String>, ControlError> {
    let image = broker.metadata.image();
    let mut created = Vec::new();
    for (topic, is_dead_letters) in missing {
        let own = image.topic_configs(source);
        let kept = ["retention.ms", "retention.bytes", "max.message.bytes"];
        let mut configs: Vec<(Arc<str>, Arc<str>)> = kept
            .into_iter()
            .filter_map(|name| Some((name.into(), own.get(name)?.into())))
            .collect();
        let partition = broker.partitions.get(source, 0);
        if let (true, Some(partition)) = (is_dead_letters, partition) {
            let bytes_max = partition.log.config().max_message_bytes as i64;
            let bytes_max = (bytes_max + DEAD_LETTER_ROOM_BYTES).min(i64::from(i32::MAX));
            configs.retain(|(name, _)| **name != *"max.message.bytes");
            configs.push(("max.message.bytes".into(), bytes_max.to_string().into()));
        }
        if is_dead_letters {
            // Nobody has dealt with them yet, and an old record must not expire as soon as it has failed.
            configs.retain(|(name, _)| **name != *"retention.ms");
            configs.push(("retention.ms".into(), "-1".into()));
        }
        let count = image
            .topic(source)
            .map_or(1, |source| source.partition_count());
        match topic::create(broker, &topic, count, configs).await {
            Ok(TopicId(_)) => created.push(topic.to_string()),
            Err(ProposeError::Rejected(Rejection::TopicExists(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(created)
}

/// The host's name for it is the metadata's.
pub(super) fn metadata_carrier(carrier: tidemill_transforms::Carrier) -> Carrier {
    match carrier {
        tidemill_transforms::Carrier::CoreModule => Carrier::CoreModule,
        tidemill_transforms::Carrier::Component => Carrier::Component,
    }
}
