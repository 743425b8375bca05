use proptest::prelude::*;

use super::*;
use crate::image::{ConfigResource, Listener};
use crate::level::LevelRange;
use crate::testing;
use uuid::Uuid;

proptest! {
    #[test]
    fn every_command_comes_back(command in testing::command()) {
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn a_cut_command_is_refused(command in testing::command(), cut in any::<prop::sample::Index>()) {
        let bytes = command.encode();
        prop_assert!(Command::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::decode(&bytes);
    }
}

#[test]
fn what_a_later_release_wrote_is_named() {
    let kind = Command::decode(&[99, 1]).expect_err("no such kind");
    assert_eq!(
        kind,
        DecodeError::Newer {
            what: "metadata command",
            kind: 99,
            version: 1
        }
    );
    let version = Command::decode(&[5, 2]).expect_err("no such version");
    assert_eq!(
        version,
        DecodeError::Newer {
            what: "metadata command",
            kind: 5,
            version: 2
        }
    );
}

/// These bytes are in logs and snapshots out there: a change here breaks every existing data directory.
#[test]
fn the_bytes_stay_as_they_are() {
    let id = Uuid::from_u128(0x000102030405060708090a0b0c0d0e0f);
    let topic = TopicId(id);
    let (node, epoch) = (NodeId(3), BrokerEpoch(200));
    let levels = LevelRange {
        min: MetadataLevel(1),
        max: MetadataLevel(2),
    };
    const ID: &str = "000102030405060708090a0b0c0d0e0f";
    let cases = [
        (
            Command::FormCluster {
                cluster_id: id,
                level: MetadataLevel(1),
            },
            format!("0101{ID}01"),
        ),
        (
            Command::RegisterBroker {
                node,
                incarnation: id,
                directory: id,
                rack: Some("r1".into()),
                listeners: vec![Listener {
                    name: "P".into(),
                    host: "h".into(),
                    port: 9092,
                }],
                levels,
                fenced: true,
            },
            format!("020106{ID}{ID}0102723101015001688447010201"),
        ),
        (
            Command::FenceBroker { node, epoch },
            "0301069003".to_owned(),
        ),
        (
            Command::UnfenceBroker { node, epoch },
            "0401069003".to_owned(),
        ),
        (
            Command::CreateTopic {
                name: "t".into(),
                id: topic,
                partitions: vec![vec![NodeId(1), NodeId(2)], vec![NodeId(2)]],
                configs: vec![("a".into(), "b".into())],
            },
            format!("05010174{ID}0202020401040101610162"),
        ),
        (Command::DeleteTopic { id: topic }, format!("0601{ID}")),
        (
            Command::CreatePartitions {
                id: topic,
                current: 2,
                partitions: vec![vec![NodeId(0)]],
            },
            format!("0701{ID}04010100"),
        ),
        (
            Command::SetConfigs {
                resource: ConfigResource::Topic("t".into()),
                changes: vec![("a".into(), Some("b".into())), ("c".into(), None)],
            },
            "0801000174020161010162016300".to_owned(),
        ),
        (
            Command::SetConfigs {
                resource: ConfigResource::Broker(node),
                changes: vec![],
            },
            "0801010600".to_owned(),
        ),
        (
            Command::SetConfigs {
                resource: ConfigResource::DefaultBroker,
                changes: vec![],
            },
            "08010200".to_owned(),
        ),
        (
            Command::AllocateProducerIds { node, epoch },
            "0901069003".to_owned(),
        ),
        (
            Command::SetLevel {
                level: MetadataLevel(300),
            },
            "0a01ac02".to_owned(),
        ),
        (
            Command::ChangePartition {
                topic,
                partition: PartitionId(1),
                leader_epoch: LeaderEpoch(-1),
                partition_epoch: 5,
                isr: Some(vec![(node, epoch)]),
                leader: None,
            },
            format!("0b01{ID}02010a010106900300"),
        ),
    ];
    for (command, golden) in cases {
        let hex: String = command
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, golden, "{command:?}");
    }
}
