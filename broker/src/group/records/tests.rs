//! The bytes are what Kafka 4.2's own serializer makes of the same values.

use proptest::prelude::*;
use tidemill_protocol::consumer_offsets::MemberMetadata;
use uuid::Uuid;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits")
    };
    digits.map(byte).collect()
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: 42,
        leader_epoch: LeaderEpoch(7),
        metadata: "note".into(),
        committed_at_ms: 1_700_000_000_000,
        expires_at_ms: None,
        topic_id: Uuid::nil(),
    }
}

const OFFSET_KEY_BYTES: &str = "00010001670007666c696768747300000003";

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let expires_at_ms = Some(1_700_000_001_000);
    let topic_id = Uuid::from_u64_pair(1, 2);
    let cases = [
        (
            committed(),
            "0003000000000000002a0000000700046e6f74650000018bcfe56800",
        ),
        (
            CommittedOffset {
                expires_at_ms,
                leader_epoch: LeaderEpoch::NONE,
                ..committed()
            },
            "0001000000000000002a00046e6f74650000018bcfe568000000018bcfe56be8",
        ),
        (
            CommittedOffset {
                topic_id,
                ..committed()
            },
            "0004000000000000002a00000007056e6f74650000018bcfe5680001001000000000000000010000000000000002",
        ),
    ];
    for (committed, value) in cases {
        let record = offset("g", "flights", PartitionId(3), &committed);
        assert_eq!(hex(&record.key), OFFSET_KEY_BYTES);
        assert_eq!(
            hex(record.value.as_deref().expect("not a tombstone")),
            value
        );
        let stored = Stored::Offset {
            group: "g".into(),
            topic: "flights".into(),
            partition: PartitionId(3),
            committed: Some(committed),
        };
        assert_eq!(read(record), Ok(stored));
    }
    let tombstone = offset_tombstone("g", "flights", PartitionId(3));
    assert_eq!(
        (&*hex(&tombstone.key), tombstone.value),
        (OFFSET_KEY_BYTES, None)
    );
}

fn value() -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        current_state_timestamp: 1_700_000_000_000,
        members: vec![MemberMetadata {
            member_id: "m-1".into(),
            group_instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout: 30_000,
            session_timeout: 10_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn groups_are_written_as_kafka_writes_them() {
    let empty = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 6,
        protocol: None,
        leader: None,
        current_state_timestamp: 1_700_000_000_000,
        ..Default::default()
    };
    let cases = [
        (
            value(),
            "00030008636f6e73756d657200000005000572616e676500036d2d310000018bcfe568000000000100036d\
             2d31000169000163000a2f3132372e302e302e3100007530000027100000000201020000000103",
        ),
        (
            empty,
            "00030008636f6e73756d657200000006ffffffff0000018bcfe5680000000000",
        ),
    ];
    for (value, bytes) in cases {
        let record = group("g", &value);
        assert_eq!(hex(&record.key), "0002000167");
        assert_eq!(
            hex(record.value.as_deref().expect("not a tombstone")),
            bytes
        );
        assert_eq!(
            read(record),
            Ok(Stored::Group {
                group: "g".into(),
                value: Some(value)
            })
        );
    }
    let tombstone = group_tombstone("g");
    assert_eq!(
        (&*hex(&tombstone.key), tombstone.value),
        ("0002000167", None)
    );
}

#[test]
fn groups_of_other_versions_are_read() {
    let newest = "000409636f6e73756d6572000000050672616e6765046d2d310000018bcfe5680002046d2d31026902630b2f\
         3132372e302e302e31000075300000271003010202030000";
    let oldest = "00000008636f6e73756d657200000005000572616e676500036d2d310000000100036d2d3100016300\
                  022f68000027100000000201020000000103";
    let read_value = |bytes: &str| {
        let record = CoordinatorRecord {
            key: unhex("0002000167"),
            value: Some(unhex(bytes)),
        };
        match read(record) {
            Ok(Stored::Group {
                value: Some(value), ..
            }) => value,
            other => panic!("not a group: {other:?}"),
        }
    };
    assert_eq!(read_value(newest), value());
    let old = read_value(oldest);
    assert_eq!((old.generation, old.current_state_timestamp), (5, -1));
    assert_eq!(
        (
            old.members[0].rebalance_timeout,
            &old.members[0].group_instance_id
        ),
        (-1, &None)
    );
}

#[test]
fn keys_of_very_old_brokers_are_read() {
    let mut record = offset("g", "flights", PartitionId(3), &committed());
    let expected = read(record.clone());
    record.key = unhex(&OFFSET_KEY_BYTES.replacen("0001", "0000", 1));
    assert_eq!(read(record), expected);
}

proptest! {
    #[test]
    fn every_offset_comes_back(
        group in "\\PC{0,40}",
        topic in "[a-zA-Z0-9._-]{1,249}",
        partition in 0..i32::MAX,
        offset in any::<i64>(),
        epoch in -1..i32::MAX,
        metadata in "\\PC{0,100}",
        committed_at_ms in any::<i64>(),
        topic_id in prop_oneof![Just(0), any::<u128>()],
        expires_at_ms in prop::option::of(0..i64::MAX),
    ) {
        // The layout with an expiry has no room for epoch and topic id, in Kafka too.
        let is_plain = expires_at_ms.is_none();
        let committed = CommittedOffset {
            offset,
            leader_epoch: if is_plain { LeaderEpoch(epoch) } else { LeaderEpoch::NONE },
            metadata: metadata.into(),
            committed_at_ms,
            expires_at_ms,
            topic_id: if is_plain { Uuid::from_u128(topic_id) } else { Uuid::nil() },
        };
        let partition = PartitionId(partition);
        let record = super::offset(&group, &topic, partition, &committed);
        let (group, topic) = (group.as_str().into(), topic.as_str().into());
        let stored = Stored::Offset { group, topic, partition, committed: Some(committed) };
        prop_assert_eq!(read(record), Ok(stored));
    }

    #[test]
    fn no_bytes_make_it_panic(
        key in prop::collection::vec(any::<u8>(), 0..60),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..120)),
        kind in 0..4_i16,
    ) {
        let key = [&kind.to_be_bytes()[..], &key].concat().into();
        if let Ok(Stored::Group { group, value: Some(value) }) =
            read(CoordinatorRecord { key, value: value.map(Bytes::from) })
        {
            drop(super::super::classic::ClassicGroup::from_record(group, &value));
        }
    }
}
