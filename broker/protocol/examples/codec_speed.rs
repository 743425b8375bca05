//! Prints what decoding and encoding cost: `cargo run --release -p tidemill-protocol --example
//! codec_speed`. The bar: a Produce request with 10 partitions decodes in under 1.5 µs.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use tidemill_protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use tidemill_protocol::metadata::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use tidemill_protocol::{Message, Records, Str, encode_response};

const ROUNDS: usize = 15;

fn main() {
    for partitions in [1, 10, 100] {
        let request = produce_request(partitions);
        decode::<ProduceRequest>(&format!("Produce v9 request, {partitions}"), &request, 9);
        decode::<ProduceRequest>(&format!("Produce v13 request, {partitions}"), &request, 13);
        let request = fetch_request(partitions);
        decode::<FetchRequest>(&format!("Fetch v12 request, {partitions}"), &request, 12);
        let response = produce_response(partitions);
        encode(&format!("Produce v9 response, {partitions}"), || {
            encode_response::<ProduceRequest>(1, 9, &response)
                .expect("encodes")
                .len
        });
        let response = fetch_response(partitions);
        encode(&format!("Fetch v12 response, {partitions}"), || {
            encode_response::<FetchRequest>(1, 12, &response)
                .expect("encodes")
                .len
        });
    }
    decode::<MetadataResponse>("Metadata v12 response, 1000", &metadata_response(1000), 12);
}

/// Median over the rounds of the nanoseconds that one call takes.
fn nanoseconds(mut call: impl FnMut()) -> f64 {
    let calls = 2000;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn decode<M: Message>(name: &str, message: &M, version: i16) {
    let bytes = message.encode_to_bytes(version).expect("encodes");
    // As a connection has it: a slice of a buffer that somebody else holds, too.
    let frame = Bytes::from(bytes.to_vec());
    let took = nanoseconds(|| {
        black_box(M::decode_exact(black_box(frame.clone()), version).expect("decodes"));
    });
    println!("decode {name:34} {took:9.0} ns  {:8} bytes", frame.len());
}

fn encode(name: &str, mut call: impl FnMut() -> usize) {
    let mut length = 0;
    let took = nanoseconds(|| length = black_box(call()));
    println!("encode {name:34} {took:9.0} ns  {length:8} bytes");
}

fn produce_request(partitions: i32) -> ProduceRequest {
    let partition = |index| PartitionProduceData {
        index,
        records: Some(Records::from(Bytes::from(vec![7; 1024]))),
        ..Default::default()
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            // A topic's name up to v12, its id from v13 on; both may be dropped.
            name: Str::from("flights"),
            topic_id: uuid::Uuid::from_u128(1),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn produce_response(partitions: i32) -> ProduceResponse {
    let partition = |index| PartitionProduceResponse {
        index,
        base_offset: 1_000_000,
        log_start_offset: 0,
        ..Default::default()
    };
    ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: Str::from("flights"),
            partition_responses: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch_request(partitions: i32) -> FetchRequest {
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1_000_000,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: Str::from("flights"),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch_response(partitions: i32) -> FetchResponse {
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        log_start_offset: 0,
        records: Some(Records::from(Bytes::from(vec![7; 16 * 1024]))),
        ..Default::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: Str::from("flights"),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn metadata_response(partitions: i32) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    MetadataResponse {
        topics: vec![MetadataResponseTopic {
            name: Some(Str::from("flights")),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
