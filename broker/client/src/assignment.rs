//! What consumers tell each other through the coordinator: subscriptions, assignments, and the range rule.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_protocol::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use tidemill_protocol::consumer_protocol_subscription::ConsumerProtocolSubscription;
use tidemill_protocol::{Decoder, Message, Str, encode_versioned, split_prefix};
use tidemill_records::{PartitionId, TopicPartition};

/// Kafka's range assignor: each topic's partitions are cut into even runs, in the order of the member ids;
/// the first members get one more where it does not divide.
pub(crate) fn range_assignment(
    members: &BTreeMap<Str, Vec<String>>,
    partitions: &BTreeMap<String, Vec<PartitionId>>,
) -> BTreeMap<Str, Vec<TopicPartition>> {
    let mut assignment: BTreeMap<Str, Vec<TopicPartition>> = members
        .keys()
        .map(|member| (member.clone(), Vec::new()))
        .collect();
    for (topic, partitions) in partitions {
        let subscribers: Vec<&Str> = members
            .iter()
            .filter(|(_, topics)| topics.contains(topic))
            .map(|(member, _)| member)
            .collect();
        if subscribers.is_empty() {
            continue;
        }
        let (each, over) = (
            partitions.len() / subscribers.len(),
            partitions.len() % subscribers.len(),
        );
        let mut rest = partitions.as_slice();
        for (at, member) in subscribers.into_iter().enumerate() {
            let (run, after) = rest.split_at(each + usize::from(at < over));
            rest = after;
            let run = run
                .iter()
                .map(|id| TopicPartition::new(topic.as_str(), *id));
            assignment.entry(member.clone()).or_default().extend(run);
        }
    }
    assignment
}

/// The version in which subscriptions and assignments are written: any member understands it.
const WRITTEN_VERSION: i16 = 0;

pub(crate) fn encode_subscription(subscription: &ConsumerProtocolSubscription) -> Bytes {
    encode_versioned(subscription, WRITTEN_VERSION)
        .expect("topic names that the broker took fit the format")
}

pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut assignment = ConsumerProtocolAssignment::default();
    for id in partitions {
        let topics = &mut assignment.assigned_partitions;
        match topics.last_mut().filter(|last| *last.topic == *id.topic) {
            Some(topic) => topic.partitions.push(id.partition.0),
            None => topics.push(AssignedTopic {
                topic: Str::from(&*id.topic),
                partitions: vec![id.partition.0],
            }),
        }
    }
    encode_versioned(&assignment, WRITTEN_VERSION)
        .expect("topic names that the broker took fit the format")
}

/// The topics in another member's subscription; none when it is not a consumer's.
pub(crate) fn subscribed(metadata: &Bytes) -> Vec<String> {
    let subscription = decode_newest::<ConsumerProtocolSubscription>(metadata);
    let topics = subscription
        .map(|subscription| subscription.topics)
        .unwrap_or_default();
    topics.into_iter().map(String::from).collect()
}

/// The partitions in an assignment; none when it is not a consumer's.
pub(crate) fn assigned(assignment: &Bytes) -> Vec<TopicPartition> {
    let assignment = decode_newest::<ConsumerProtocolAssignment>(assignment);
    let topics = assignment
        .map(|decoded| decoded.assigned_partitions)
        .unwrap_or_default();
    let partitions = topics.iter().flat_map(|topic| {
        let ids = topic.partitions.iter().map(|id| PartitionId(*id));
        ids.map(|id| TopicPartition::new(&*topic.topic, id))
    });
    partitions.collect()
}

/// Reads a layout behind its version. A newer version than ours only has more at its end.
fn decode_newest<M: Message>(bytes: &Bytes) -> Option<M> {
    let (version, rest) = split_prefix(bytes.clone()).ok()?;
    M::decode(&mut Decoder::new(rest), version.min(M::MAX_VERSION)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(members: &[(&str, &[&str])], topics: &[(&str, i32)]) -> Vec<(String, Vec<String>)> {
        let members = members.iter().map(|(member, topics)| {
            (
                Str::from(*member),
                topics.iter().map(|topic| (*topic).to_owned()).collect(),
            )
        });
        let topics = topics
            .iter()
            .map(|(topic, count)| ((*topic).to_owned(), (0..*count).map(PartitionId).collect()));
        let assignment = range_assignment(&members.collect(), &topics.collect()).into_iter();
        assignment
            .map(|(member, ids)| {
                (
                    member.to_string(),
                    ids.iter().map(ToString::to_string).collect(),
                )
            })
            .collect()
    }

    fn expect(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let pairs = pairs.iter().map(|(member, ids)| {
            (
                (*member).to_owned(),
                ids.iter().map(|id| (*id).to_owned()).collect(),
            )
        });
        pairs.collect()
    }

    #[test]
    fn ranges_are_even_runs_with_the_surplus_in_front() {
        assert_eq!(
            range(&[("a", &["t"]), ("b", &["t"]), ("c", &["t"])], &[("t", 7)]),
            expect(&[
                ("a", &["t-0", "t-1", "t-2"]),
                ("b", &["t-3", "t-4"]),
                ("c", &["t-5", "t-6"])
            ])
        );
    }

    #[test]
    fn topics_are_cut_one_by_one_among_their_subscribers() {
        assert_eq!(
            range(&[("a", &["t", "u"]), ("b", &["u"])], &[("t", 1), ("u", 3)]),
            expect(&[("a", &["t-0", "u-0", "u-1"]), ("b", &["u-2"])])
        );
    }

    #[test]
    fn more_members_than_partitions_leaves_some_without() {
        assert_eq!(
            range(&[("a", &["t"]), ("b", &["t"])], &[("t", 1)]),
            expect(&[("a", &["t-0"]), ("b", &[])])
        );
    }

    #[test]
    fn what_is_written_is_read_and_what_is_foreign_is_nothing() {
        let partitions: Vec<TopicPartition> = [("t", 0), ("t", 5), ("u", 1)]
            .map(|(t, p)| TopicPartition::new(t, PartitionId(p)))
            .into();
        assert_eq!(assigned(&encode_assignment(&partitions)), partitions);
        let subscription = ConsumerProtocolSubscription {
            topics: vec![Str::from("t"), Str::from("u")],
            ..ConsumerProtocolSubscription::default()
        };
        let newer = encode_versioned(&subscription, 3).unwrap();
        assert_eq!(subscribed(&newer), ["t", "u"]);
        for foreign in [&b""[..], b"\0", b"\0\x01\x7f\xff\xff\xff", b"connect"] {
            assert!(assigned(&Bytes::copy_from_slice(foreign)).is_empty());
            assert!(subscribed(&Bytes::copy_from_slice(foreign)).is_empty());
        }
    }
}
