use std::collections::BTreeSet;

use proptest::prelude::*;
use tidemill_records::{LeaderEpoch, PartitionId, TopicPartition};

use super::*;
use crate::codec::Reader;
use crate::command::{AssignmentFault, LabelFault};
use crate::image::{ConfigResource, PartitionImage, codec};
use crate::limits::*;
use crate::names::TopicNameFault;
use crate::testing::{self, History, create, form, register, set_topic_config, topic_id};

fn state(history: &History, partition: i32) -> PartitionImage {
    let name = TopicPartition::new("t", PartitionId(partition));
    history.image.partition(&name).expect("it exists").clone()
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

#[track_caller]
fn assert_state(p: &PartitionImage, leader: i32, epoch: i32, isr: &[i32], elr: &[i32]) {
    let found = (p.leader, p.leader_epoch, p.isr.to_vec(), p.elr.to_vec());
    assert_eq!(
        found,
        (NodeId(leader), LeaderEpoch(epoch), nodes(isr), nodes(elr))
    );
}

fn fence(history: &mut History, node: i32) {
    let epoch = history.epoch_of(node);
    history.ok(Command::FenceBroker {
        node: NodeId(node),
        epoch,
    });
}

fn unfence(history: &mut History, node: i32) {
    let epoch = history.epoch_of(node);
    history.ok(Command::UnfenceBroker {
        node: NodeId(node),
        epoch,
    });
}

#[test]
fn nothing_but_forming_is_allowed_before_the_cluster_is_formed() {
    let mut history = History {
        image: MetadataImage::empty(),
    };
    let rejection = history.run(register(1, 1)).expect_err("not formed");
    let (required, finalised) = (MetadataLevel::FIRST, MetadataLevel::UNFORMED);
    assert_eq!(
        rejection,
        Rejection::LevelTooLow {
            required,
            finalised
        }
    );
    assert_eq!(history.image.index(), 1, "a refused command still counts");
    history.ok(form());
    assert_eq!(history.image.cluster_id(), testing::CLUSTER);
    assert_eq!(history.run(form()), Err(Rejection::AlreadyFormed));
}

#[test]
fn a_topic_is_found_by_name_and_by_id_until_it_is_deleted() {
    let mut history = History::with_brokers(1);
    assert_eq!(
        history.ok(create("t", 7, &[&[1], &[1]])),
        Outcome::TopicCreated(topic_id(7))
    );
    let topic = history.image.topic("t").expect("by name").clone();
    assert_eq!(history.image.topic_by_id(topic_id(7)), Some(&topic));
    assert_eq!(topic.partition_count(), 2);
    assert_state(&state(&history, 1), 1, 0, &[1], &[]);
    history.ok(set_topic_config("t", "retention.ms", Some("5")));
    assert_eq!(
        history.image.topic_configs("t").get("retention.ms"),
        Some("5")
    );

    history.ok(Command::DeleteTopic { id: topic_id(7) });
    assert_eq!(history.image.topic("t"), None);
    assert_eq!(history.image.topic_by_id(topic_id(7)), None);
    assert!(
        history.image.topic_configs("t").is_empty(),
        "its configuration goes with it"
    );
    let gone = history.run(Command::DeleteTopic { id: topic_id(7) });
    assert_eq!(gone, Err(Rejection::UnknownTopic));
}

#[test]
fn a_topic_created_again_starts_above_its_last_leader_epoch() {
    let mut history = History::with_brokers(2);
    history.ok(create("t", 1, &[&[1, 2], &[2, 1]]));
    fence(&mut history, 1);
    unfence(&mut history, 1);
    assert_state(&state(&history, 0), 2, 1, &[2], &[]);
    history.ok(Command::DeleteTopic { id: topic_id(1) });
    history.ok(create("t", 2, &[&[1]]));
    assert_eq!(state(&history, 0).leader_epoch, LeaderEpoch(2));
    history.ok(create("other", 3, &[&[1]]));
    let other = history
        .image
        .topic("other")
        .expect("created")
        .leader_epoch_max();
    assert_eq!(other, LeaderEpoch(0), "another name starts at 0");
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let mut history = History::with_brokers(2);
    history.ok(create("t", 1, &[&[1]]));
    fence(&mut history, 2);
    let epoch = history.epoch_of(1);
    let fault = |fault| Rejection::Assignment {
        partition: PartitionId(0),
        fault,
    };
    let many: Vec<i32> = (0..33).collect();
    let with_configs = |key: &str, value: &str| Command::CreateTopic {
        name: "x".into(),
        id: topic_id(9),
        partitions: vec![nodes(&[1])],
        configs: vec![(key.into(), value.into())],
    };
    let add = |current, partitions| Command::CreatePartitions {
        id: topic_id(1),
        current,
        partitions,
    };
    let bad_broker = |node, change: fn(&mut Command)| {
        let mut command = register(node, 99);
        change(&mut command);
        command
    };
    let stale = BrokerEpoch(epoch.0 + 1);
    let long = "x".repeat(CONFIG_VALUE_BYTES_MAX + 1);
    let cases = [
        (create("t", 2, &[&[1]]), Rejection::TopicExists(topic_id(1))),
        (create("u", 1, &[&[1]]), Rejection::TopicIdTaken),
        (create("u", 0, &[&[1]]), Rejection::TopicIdTaken),
        (create("..", 2, &[&[1]]), TopicNameFault::Dots.into()),
        (create("u", 2, &[]), Rejection::PartitionCount(0)),
        (
            create("u", 2, &vec![&[1][..]; 10_001]),
            Rejection::PartitionCount(10_001),
        ),
        (create("u", 2, &[&[]]), fault(AssignmentFault::Count(0))),
        (create("u", 2, &[&many]), fault(AssignmentFault::Count(33))),
        (
            create("u", 2, &[&[1, 1]]),
            fault(AssignmentFault::Duplicate(NodeId(1))),
        ),
        (
            create("u", 2, &[&[1, 5]]),
            fault(AssignmentFault::UnknownBroker(NodeId(5))),
        ),
        (create("u", 2, &[&[2]]), fault(AssignmentFault::AllFenced)),
        (with_configs("", "v"), Rejection::ConfigTooLarge),
        (with_configs("k", &long), Rejection::ConfigTooLarge),
        (
            add(2, vec![nodes(&[1])]),
            Rejection::PartitionCountChanged(1),
        ),
        (add(1, vec![]), Rejection::PartitionCount(0)),
        (set_topic_config("nope", "k", None), Rejection::UnknownTopic),
        (
            Command::SetConfigs {
                resource: ConfigResource::Broker(NodeId(9)),
                changes: vec![],
            },
            Rejection::UnknownBroker(NodeId(9)),
        ),
        (
            Command::AllocateProducerIds {
                node: NodeId(1),
                epoch: stale,
            },
            Rejection::StaleBrokerEpoch(epoch),
        ),
        (
            Command::FenceBroker {
                node: NodeId(9),
                epoch,
            },
            Rejection::UnknownBroker(NodeId(9)),
        ),
        (register(-1, 1), Rejection::InvalidNodeId(NodeId(-1))),
        (
            bad_broker(1, |c| {
                let Command::RegisterBroker { listeners, .. } = c else {
                    unreachable!()
                };
                listeners.push(listeners[0].clone());
            }),
            LabelFault::Listeners.into(),
        ),
        (
            bad_broker(1, |c| {
                let Command::RegisterBroker { rack, .. } = c else {
                    unreachable!()
                };
                *rack = Some("".into());
            }),
            LabelFault::Bytes(0).into(),
        ),
    ];
    for (command, rejection) in cases {
        let before = MetadataImage {
            index: history.image.index + 1,
            ..history.image.clone()
        };
        let shown = format!("{command:?}");
        assert_eq!(history.run(command), Err(rejection), "{shown:.200}");
        assert_eq!(history.image, before, "{shown:.200}");
    }
}

#[test]
fn ten_thousand_partitions_are_one_command_and_share_their_replicas() {
    let mut history = History::with_brokers(1);
    let command = create("t", 1, &vec![&[1][..]; PARTITIONS_PER_COMMAND_MAX]);
    assert!(command.encode().len() < COMMAND_BYTES_MAX / 10);
    history.ok(command);
    assert!(std::sync::Arc::ptr_eq(
        &state(&history, 0).isr,
        &state(&history, 9_999).replicas
    ));
    history.ok(Command::CreatePartitions {
        id: topic_id(1),
        current: 10_000,
        partitions: vec![nodes(&[1]); 10],
    });
    assert_eq!(
        history.image.topic("t").expect("there").partition_count(),
        10_010
    );
    assert_state(&state(&history, 10_009), 1, 0, &[1], &[]);
}

#[test]
fn fencing_moves_leaders_and_the_last_in_sync_replica_stays_eligible() {
    let mut history = History::with_brokers(3);
    history.ok(create("t", 1, &[&[1, 2, 3]]));
    history.ok(set_topic_config("t", "min.insync.replicas", Some("2")));
    fence(&mut history, 1);
    assert_state(&state(&history, 0), 2, 1, &[2, 3], &[]);
    fence(&mut history, 2);
    assert_state(&state(&history, 0), 3, 2, &[3], &[2]);
    fence(&mut history, 3);
    assert_state(&state(&history, 0), -1, 3, &[], &[2, 3]);
    // Broker 1 left while the ISR was large enough: commits may have passed it by.
    unfence(&mut history, 1);
    assert_state(&state(&history, 0), -1, 3, &[], &[2, 3]);
    unfence(&mut history, 3);
    assert_state(&state(&history, 0), 3, 4, &[3], &[2]);
    assert_eq!(state(&history, 0).partition_epoch, 4);
    // With one in-sync replica enough, whoever is out of sync may lack what is committed.
    history.ok(set_topic_config("t", "min.insync.replicas", Some("1")));
    assert_state(&state(&history, 0), 3, 4, &[3], &[]);
}

#[test]
fn a_restart_takes_a_new_epoch_even_where_the_broker_leads_again() {
    let mut history = History::with_brokers(2);
    history.ok(create("t", 1, &[&[1], &[1, 2], &[2]]));
    let before = history.epoch_of(1);
    history.ok(register(1, 77));
    assert!(history.epoch_of(1) > before);
    assert_state(&state(&history, 0), 1, 1, &[1], &[]);
    assert_state(&state(&history, 1), 2, 1, &[2], &[]);
    assert_state(&state(&history, 2), 2, 0, &[2], &[]);
    // The same incarnation again is a retry.
    let (epoch, partition) = (history.epoch_of(1), state(&history, 0));
    assert_eq!(
        history.ok(register(1, 77)),
        Outcome::BrokerRegistered(epoch)
    );
    assert_eq!(state(&history, 0), partition);
}

#[test]
fn an_isr_is_changed_only_by_who_saw_the_latest_state() {
    let mut history = History::with_brokers(3);
    history.ok(create("t", 1, &[&[1, 2, 3]]));
    let member = |history: &History, node| (NodeId(node), history.epoch_of(node));
    let change = |history: &History, isr: &[i32], leader: Option<i32>, partition_epoch| {
        Command::ChangePartition {
            topic: topic_id(1),
            partition: PartitionId(0),
            leader_epoch: state(history, 0).leader_epoch,
            partition_epoch,
            isr: Some(isr.iter().map(|node| member(history, *node)).collect()),
            leader: leader.map(NodeId),
        }
    };
    let shrink = change(&history, &[1, 2], None, 0);
    let outcome = history.ok(shrink.clone());
    assert_state(&state(&history, 0), 1, 0, &[1, 2], &[]);
    assert_eq!(outcome, Outcome::PartitionChanged(state(&history, 0)));
    assert_eq!(history.run(shrink), Err(Rejection::StalePartitionEpoch(1)));

    let cases = [
        (change(&history, &[], None, 1), Rejection::InvalidIsr),
        (change(&history, &[1, 1], None, 1), Rejection::InvalidIsr),
        (
            change(&history, &[2], None, 1),
            Rejection::IneligibleLeader(NodeId(1)),
        ),
        (
            change(&history, &[1, 2], Some(3), 1),
            Rejection::IneligibleLeader(NodeId(3)),
        ),
    ];
    for (command, rejection) in cases {
        assert_eq!(history.run(command), Err(rejection));
    }
    let rejoin = change(&history, &[1, 2, 3], None, 1);
    fence(&mut history, 3);
    assert_eq!(
        history.run(rejoin),
        Err(Rejection::IneligibleReplica(NodeId(3)))
    );

    let hand_over = change(&history, &[1, 2], Some(2), 1);
    history.ok(hand_over.clone());
    assert_state(&state(&history, 0), 2, 1, &[1, 2], &[]);
    assert_eq!(history.run(hand_over), Err(Rejection::StaleLeaderEpoch));
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut history = History::with_brokers(1);
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let epoch = history.epoch_of(1);
        let command = Command::AllocateProducerIds {
            node: NodeId(1),
            epoch,
        };
        let Outcome::ProducerIds { first, count } = history.ok(command) else {
            panic!("a block was asked for")
        };
        assert!((first.0..first.0 + i64::from(count)).all(|id| seen.insert(id)));
    }
    assert_eq!(seen.len(), 3_000);
}

#[test]
fn a_level_is_finalised_only_when_every_broker_understands_it() {
    let mut history = History::with_brokers(1);
    let newer = |max| {
        let mut command = register(2, 2);
        let Command::RegisterBroker { levels, .. } = &mut command else {
            unreachable!()
        };
        levels.max = MetadataLevel(max);
        command
    };
    history.ok(newer(3));
    let raise = Command::SetLevel {
        level: MetadataLevel(2),
    };
    let blocked = history.run(raise.clone()).expect_err("broker 1 is too old");
    assert!(matches!(
        blocked,
        Rejection::UnsupportedLevel {
            broker: Some(NodeId(1)),
            ..
        }
    ));
    let mut upgraded = register(1, 11);
    let Command::RegisterBroker { levels, .. } = &mut upgraded else {
        unreachable!()
    };
    levels.max = MetadataLevel(2);
    history.ok(upgraded);
    history.ok(raise);
    assert_eq!(history.image.level(), MetadataLevel(2));
    let lower = Command::SetLevel {
        level: MetadataLevel::FIRST,
    };
    assert!(matches!(
        history.run(lower),
        Err(Rejection::UnsupportedLevel { broker: None, .. })
    ));
    let too_old = history
        .run(register(3, 3))
        .expect_err("it understands level 1 only");
    assert!(matches!(
        too_old,
        Rejection::UnsupportedLevel {
            broker: Some(NodeId(3)),
            ..
        }
    ));
}

#[test]
fn changes_name_what_differs_and_nothing_else() {
    let mut history = History::with_brokers(2);
    history.ok(create("a", 1, &[&[1]]));
    history.ok(create("b", 2, &[&[1]]));
    history.ok(create("c", 3, &[&[2]]));
    let older = history.image.clone();
    assert_eq!(older.changes_since(&older), Default::default());
    history.ok(Command::DeleteTopic { id: topic_id(1) });
    history.ok(Command::DeleteTopic { id: topic_id(2) });
    history.ok(create("b", 22, &[&[1]]));
    history.ok(create("d", 4, &[&[1]]));
    history.ok(set_topic_config("c", "k", Some("v")));
    fence(&mut history, 2);
    let changes = history.image.changes_since(&older);
    let names = |topics: &[std::sync::Arc<crate::TopicImage>]| {
        topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&changes.topics), ["b", "c", "d"]);
    assert_eq!(names(&changes.topics_deleted), ["a", "b"]);
    assert_eq!(changes.brokers, [NodeId(2)]);
    assert_eq!(changes.configs, [ConfigResource::Topic("c".into())]);
    assert!(changes.functions.is_empty() && changes.transforms.is_empty());
}

fn sensible_command() -> impl Strategy<Value = Command> {
    let node = 1..4i32;
    let topic = 1..5u128;
    let partitions = prop::collection::vec(Just(nodes(&[1, 2, 3])).prop_shuffle(), 1..4);
    let epoch = (0..40i64).prop_map(BrokerEpoch);
    let isr = prop::option::of(Just(nodes(&[1, 2, 3])).prop_shuffle());
    prop_oneof![
        (node.clone(), any::<u128>()).prop_map(|(node, incarnation)| register(node, incarnation)),
        (node.clone(), epoch.clone()).prop_map(|(node, epoch)| Command::FenceBroker {
            node: NodeId(node),
            epoch
        }),
        (node.clone(), epoch).prop_map(|(node, epoch)| Command::UnfenceBroker {
            node: NodeId(node),
            epoch
        }),
        (topic.clone(), partitions).prop_map(|(id, partitions)| Command::CreateTopic {
            name: format!("t{}", id % 3).into(),
            id: topic_id(id),
            partitions,
            configs: vec![("min.insync.replicas".into(), "2".into())],
        }),
        topic
            .clone()
            .prop_map(|id| Command::DeleteTopic { id: topic_id(id) }),
        (
            topic,
            0..3i32,
            0..3i32,
            0..4i32,
            isr,
            prop::option::of(node)
        )
            .prop_map(
                |(topic, partition, leader_epoch, partition_epoch, isr, leader)| {
                    Command::ChangePartition {
                        topic: topic_id(topic),
                        partition: PartitionId(partition),
                        leader_epoch: LeaderEpoch(leader_epoch),
                        partition_epoch,
                        isr: isr.map(|isr| {
                            isr.into_iter()
                                .map(|node| (node, BrokerEpoch(i64::from(node.0) + 1)))
                                .collect()
                        }),
                        leader: leader.map(NodeId),
                    }
                }
            ),
        testing::command(),
    ]
}

/// Invariants of replication.md, as far as they can be seen in one image.
fn check_invariants(image: &MetadataImage) -> Result<(), TestCaseError> {
    for topic in image.topics() {
        prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
        for (_, p) in topic.partitions() {
            let set: BTreeSet<_> = p.isr.iter().chain(p.elr.iter()).collect();
            prop_assert_eq!(
                set.len(),
                p.isr.len() + p.elr.len(),
                "ISR and ELR are disjoint sets"
            );
            prop_assert!(set.iter().all(|node| p.replicas.contains(node)));
            prop_assert!(
                p.isr.iter().all(|node| image.is_live(*node)),
                "no fenced broker in an ISR"
            );
            prop_assert!(!p.has_leader() || p.isr.contains(&p.leader));
            prop_assert!(p.has_leader() || p.isr.is_empty(), "an ISR has a leader");
            prop_assert!(
                !set.is_empty(),
                "somebody holds everything that is committed"
            );
            let min_isr = image.min_insync_replicas(&topic.name).min(p.replicas.len());
            prop_assert!(p.isr.len() < min_isr || p.elr.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_history_keeps_the_invariants_and_ends_alike(
        commands in prop::collection::vec(sensible_command(), 1..60),
    ) {
        let mut history = History::with_brokers(3);
        let mut replica = history.image.clone();
        let mut epochs = std::collections::BTreeMap::new();
        for command in commands {
            let command = Command::decode(&command.encode())?;
            let (image, here) = apply(&history.image, history.image.index() + 1, &command);
            let (twin, there) = apply(&replica, replica.index() + 1, &command);
            prop_assert_eq!(here, there);
            prop_assert_eq!(image.hash(), twin.hash());
            check_invariants(&image)?;
            for topic in image.topics() {
                let highest = topic.leader_epoch_max();
                let last = epochs.insert(topic.name.clone(), highest);
                prop_assert!(last <= Some(highest), "leader epochs never go down");
            }
            history.image = image;
            replica = twin;
        }
        let bytes = codec::encode(&replica);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(codec::decode(&mut reader)?, history.image);
        reader.end()?;
    }
}
