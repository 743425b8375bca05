use proptest::prelude::*;

use super::*;
use crate::image::{ConfigResource, Listener, Prepare};
use crate::level::LevelRange;
use crate::testing;
use tidemill_records::{EpochStart, MaxTimestamp};
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
    assert_golden(cases);
}

/// As above, for the commands of the object tier. Extents, pages and names have their length in front.
#[test]
fn the_bytes_of_the_tier_stay_as_they_are() {
    const ID: &str = "000102030405060708090a0b0c0d0e0f";
    const OBJECT: &str = "101112131415161718191a1b1c1d1e1f";
    const HASH: &str = "0123456789abcdef";
    let topic = TopicId(Uuid::from_u128(0x000102030405060708090a0b0c0d0e0f));
    let (partition, leader_epoch) = (PartitionId(1), LeaderEpoch(3));
    let prepare = Prepare {
        topic,
        partition,
        leader_epoch,
    };
    let object = ObjectId(0x101112131415161718191a1b1c1d1e1f);
    let data = RemoteObject::Data(object);
    let (base, end, hash) = (Offset(1_000), Offset(1_500), 0x0123456789abcdef);
    let page_name = RemoteObject::Page {
        topic,
        partition,
        first: base,
        hash,
    };
    let (place, data_name) = (format!("{ID}0206"), format!("1100{OBJECT}"));
    let page_name_bytes = format!("1c01{ID}02d00f{HASH}");
    let epoch = |epoch, start| EpochStart {
        epoch: LeaderEpoch(epoch),
        start: Offset(start),
    };
    let extent = Extent {
        base,
        end,
        object,
        position: 24,
        length: 1 << 20,
        footer_length: 400,
        footer_crc: 0xdead_beef,
        newest: MaxTimestamp {
            timestamp: -1,
            offset: base,
        },
        epochs: vec![epoch(2, 1_000), epoch(3, 1_200)],
    };
    // 39 bytes: offsets, object, position and lengths, CRC, newest, epochs.
    let extent_bytes = format!("27d00fe807{OBJECT}3080808001a006efbeadde0100040400069003");
    let page = PageRef {
        base,
        end,
        hash,
        extents: 2,
        data_bytes: 300,
        length: 90,
        newest: MaxTimestamp {
            timestamp: 50,
            offset: Offset(1_499),
        },
        last_epoch: leader_epoch,
    };
    // 21 bytes: offsets, hash, how many, lengths, newest, epoch.
    let page_bytes = format!("15d00fe807{HASH}04d804b40164e60706");
    let cases = [
        (
            Command::ClaimTier { incarnation: 300 },
            "0c01ac02".to_owned(),
        ),
        (
            Command::PrepareObject {
                object: data,
                prepare,
            },
            format!("0d01{data_name}{place}"),
        ),
        (
            Command::PrepareObject {
                object: page_name,
                prepare,
            },
            format!("0d01{page_name_bytes}{place}"),
        ),
        (
            Command::ReplaceExtents(ExtentReplacement {
                topic,
                partition,
                leader_epoch,
                expected_end: base,
                remove: vec![ObjectId(u128::MAX)],
                add: vec![extent],
            }),
            format!("0e01{place}d00f01{}01{extent_bytes}", "ff".repeat(16)),
        ),
        (
            Command::SealPage(PageSeal {
                topic,
                partition,
                leader_epoch,
                generation: 200,
                page,
                replaces: Some(0x0102_0304_0506_0708),
                dropped: vec![ObjectId(u128::MAX)],
                moved: 300,
            }),
            format!(
                "0f01{place}c801{page_bytes}01010203040506070801{}ac02",
                "ff".repeat(16)
            ),
        ),
        (
            Command::AdvanceLogStart {
                topic,
                partition,
                leader_epoch,
                start: base,
            },
            format!("1001{place}d00f"),
        ),
        (
            Command::ExpirePrepares {
                objects: vec![data, page_name],
            },
            format!("110102{data_name}{page_name_bytes}"),
        ),
        (
            Command::ForgetGarbage {
                objects: vec![data],
            },
            format!("120101{data_name}"),
        ),
    ];
    assert_golden(cases);
}

/// As above, for functions and transforms.
#[test]
fn the_bytes_of_transforms_stay_as_they_are() {
    use crate::image::{ArtifactChunks, Carrier, FunctionId, FunctionImage};
    use crate::testing::transforms::deployment;

    const ID: &str = "000102030405060708090a0b0c0d0e0f";
    let topic = TopicId(Uuid::from_u128(0x000102030405060708090a0b0c0d0e0f));
    let id = FunctionId([7; 32]);
    let hash = "07".repeat(32);
    let function = FunctionImage {
        id,
        label: "f".into(),
        size_bytes: 300,
        carrier: Carrier::Component,
        chunks: ArtifactChunks {
            topic,
            first: Offset(1_000),
            count: 3,
        },
        uploaded_at_ms: 50,
    };
    let mut deployed = deployment("x", "a", &["b", "c"]);
    deployed.id = topic.0;
    deployed.version.number = 300;
    deployed.version.function = id;
    deployed.version.config = vec![("k".into(), "v".into())];
    deployed.version.deployed_at_ms = 50;
    deployed.origin.topic = topic;
    deployed.origin.generation = 2;
    deployed.origin.offsets = vec![Offset(0), Offset(1_000)];
    deployed.expected = Some(300);
    let name = || "x".into();
    let version =
        format!("ac02{hash} 02 0162 0163 01 0464656164 01 016b0176 00 03 64 80808020 e807 80808004 904e 64 64")
            .replace(' ', "");
    let cases = [
        (
            Command::AddFunction(function),
            format!("1301{hash}0166ac0201{ID}d00f0364"),
        ),
        (Command::DeleteFunction { id }, format!("1401{hash}")),
        (
            Command::DeployTransform(deployed),
            format!("15010178{ID}0161{version}02{ID}0200d00f01ac02"),
        ),
        (
            Command::SelectVersion {
                name: name(),
                number: 300,
            },
            "16010178ac02".to_owned(),
        ),
        (
            Command::PauseTransform {
                name: name(),
                is_paused: true,
            },
            "1701017801".to_owned(),
        ),
        (
            Command::RewindTransform {
                name: name(),
                generation: 300,
                topic,
                offsets: vec![Offset(1_000)],
            },
            format!("18010178ac02{ID}01d00f"),
        ),
        (
            Command::DeleteTransform { name: name() },
            "19010178".to_owned(),
        ),
    ];
    assert_golden(cases);
}

#[track_caller]
fn assert_golden(cases: impl IntoIterator<Item = (Command, String)>) {
    for (command, golden) in cases {
        let hex: String = command
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, golden, "{command:?}");
    }
}
