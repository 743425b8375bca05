//! Topics that come and go, grow, change their config, and lose their oldest records.

use std::rc::Rc;
use std::time::Duration;

use tidemill_client::{Acks, Client, ClientError, ConfigResource, NewTopic};
use tidemill_protocol::ErrorCode;
use tidemill_records::{
    Compression, Headers, Offset, PartitionId, RecordBatchBuilder, TopicPartition,
};
use turmoil::Sim;

use super::history::Presence;
use super::lanes::{self, KEPT, PARTITIONS, TRIMMED};
use super::stage::{Now, Shared, client};
use crate::choices::Choices;
use crate::clock::wall_ms;

/// Topics that come and go.
pub(super) const PASSING: [&str; 2] = ["passing-a", "passing-b"];
/// A topic that gets more partitions.
pub(super) const GROWING: &str = "growing";
/// A config of [`KEPT`] that is only ever raised. It has no effect.
pub(super) const RAISED: &str = "delete.retention.ms";
/// More would only take time.
const PARTITIONS_MAX: i64 = 12;

const CALL_MAX: Duration = Duration::from_secs(20);

/// Registers the clients.
pub(super) fn start(sim: &mut Sim<'_>, shared: &Rc<Shared>, choices: &mut Choices) {
    sim.client("maker", make_topics(shared.clone(), choices.fork()));
    for topic in PASSING {
        sim.client(topic, come_and_go(topic, shared.clone(), choices.fork()));
    }
    sim.client("trimmer", trim(shared.clone(), choices.fork()));
    sim.client("changer", change(shared.clone(), choices.fork()));
}

async fn pause(choices: &mut Choices, ms_max: u64) {
    tokio::time::sleep(Duration::from_millis(choices.below(ms_max))).await;
}

/// Makes the topics that stay, once.
async fn make_topics(shared: Rc<Shared>, mut choices: Choices) -> turmoil::Result {
    shared.until(Now::Working).await;
    let mut topics = lanes::topics(&mut choices);
    topics.push(NewTopic {
        partitions: Some(1),
        ..NewTopic::new(GROWING)
    });
    for topic in topics {
        while !create(&topic).await? {
            pause(&mut choices, 50).await;
        }
        shared
            .history_mut()
            .topics
            .entry(topic.name)
            .or_default()
            .state = Presence::Present;
    }
    let count = &mut shared.history_mut().partition_count;
    count.try_out(1);
    count.ack(1);
    Ok(())
}

/// True once the topic is there; false when nobody has answered.
async fn create(topic: &NewTopic) -> turmoil::Result<bool> {
    match client(CALL_MAX).create_topic(topic).await {
        Ok(()) => Ok(true),
        // An earlier attempt whose answer was lost.
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(true),
        Err(error) if may_come_again(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the broker was only away.
fn may_come_again(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Deadline { .. } | ClientError::Connection(_)
    ) || error.is_unreachable()
}

async fn come_and_go(
    name: &'static str,
    shared: Rc<Shared>,
    mut choices: Choices,
) -> turmoil::Result {
    shared
        .history_mut()
        .topics
        .entry(name.to_owned())
        .or_default();
    let topic = |shared: &Rc<Shared>, change: &dyn Fn(&mut super::history::Topic)| {
        change(
            shared
                .history_mut()
                .topics
                .get_mut(name)
                .expect("made above"),
        );
    };
    for incarnation in 1.. {
        shared.until(Now::Working).await;
        pause(&mut choices, 200).await;
        shared.until(Now::Working).await;
        topic(&shared, &|topic| {
            (topic.state, topic.incarnation, topic.acked) = (Presence::Unknown, incarnation, 0)
        });
        let new = NewTopic {
            partitions: Some(choices.between(1, 2) as i32),
            ..NewTopic::new(name)
        };
        while !create(&new).await? {
            pause(&mut choices, 50).await;
        }
        topic(&shared, &|topic| {
            (topic.state, topic.created) = (Presence::Present, topic.created + 1)
        });
        for _ in 0..choices.below(4) {
            shared.until(Now::Working).await;
            if produce(name, incarnation).await? {
                topic(&shared, &|topic| topic.acked += 1);
            }
            pause(&mut choices, 100).await;
        }
        shared.until(Now::Working).await;
        topic(&shared, &|topic| topic.state = Presence::Unknown);
        while !delete(name).await? {
            pause(&mut choices, 50).await;
        }
        topic(&shared, &|topic| {
            (topic.state, topic.deleted) = (Presence::Absent, topic.deleted + 1)
        });
    }
    Ok(())
}

async fn produce(name: &str, incarnation: u64) -> turmoil::Result<bool> {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    builder.push(
        wall_ms(),
        None,
        Some(incarnation.to_string().as_bytes()),
        &Headers::default(),
    );
    let partition = TopicPartition::new(name, PartitionId(0));
    match client(CALL_MAX)
        .produce(&partition, &builder.build()?, Acks::All)
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if may_come_again(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn delete(name: &str) -> turmoil::Result<bool> {
    match client(CALL_MAX).delete_topic(name).await {
        // Unknown: an earlier attempt whose answer was lost.
        Ok(()) | Err(ClientError::UnknownTopic { .. }) => Ok(true),
        Err(error) if may_come_again(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the oldest records of a topic.
async fn trim(shared: Rc<Shared>, mut choices: Choices) -> turmoil::Result {
    let client = client(CALL_MAX);
    loop {
        shared.until(Now::Working).await;
        pause(&mut choices, 150).await;
        let partition = TopicPartition::new(
            TRIMMED,
            PartitionId(choices.below(PARTITIONS as u64) as i32),
        );
        let (from, to) = {
            let mut history = shared.history_mut();
            let log = history.log(&partition);
            (log.deleted_below, log.end_seen)
        };
        if from >= to {
            continue;
        }
        let before = from + 1 + choices.below((to - from) as u64) as i64;
        match client.delete_records(&partition, Offset(before)).await {
            Ok(_) => {
                let mut history = shared.history_mut();
                let log = history.log(&partition);
                log.deleted_below = log.deleted_below.max(before);
            }
            Err(error) if may_come_again(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Raises a config, and the number of partitions of a topic.
async fn change(shared: Rc<Shared>, mut choices: Choices) -> turmoil::Result {
    let client: Client = client(CALL_MAX);
    for step in 1.. {
        shared.until(Now::Working).await;
        pause(&mut choices, 150).await;
        shared.until(Now::Working).await;
        if shared
            .history()
            .topics
            .get(GROWING)
            .is_none_or(|topic| topic.state != Presence::Present)
        {
            continue;
        }
        if choices.percent(70) {
            let value = 1_000_000 + step;
            shared.history_mut().config.try_out(value);
            let changes = [(RAISED.to_owned(), Some(value.to_string()))];
            match client
                .alter_configs(&ConfigResource::Topic(KEPT.to_owned()), &changes)
                .await
            {
                Ok(()) => shared.history_mut().config.ack(value),
                Err(error) if may_come_again(&error) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            let count = shared.history().partition_count.acks as i64 + 1;
            if count > PARTITIONS_MAX {
                continue;
            }
            shared.history_mut().partition_count.try_out(count);
            match client.create_partitions(GROWING, count as i32).await {
                Ok(()) => shared.history_mut().partition_count.ack(count),
                // It has so many already: an earlier attempt whose answer was lost.
                Err(error) if error.code() == Some(ErrorCode::InvalidPartitions) => {
                    shared.history_mut().partition_count.ack(count);
                }
                Err(error) if may_come_again(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
