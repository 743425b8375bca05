//! What happens to fields that a version lacks, and to versions that an API lacks.

use bytes::Bytes;
use tidemill_protocol::create_topics::CreateTopicsResponse;
use tidemill_protocol::delete_groups::{DeletableGroupResult, DeleteGroupsResponse};
use tidemill_protocol::describe_log_dirs::{DescribeLogDirsResponse, DescribeLogDirsResult};
use tidemill_protocol::fetch::{FetchRequest, ForgottenTopic, ReplicaState};
use tidemill_protocol::metadata::MetadataRequest;
use tidemill_protocol::{
    APIS, ApiKey, DecodeProblem, Decoder, EncodeError, Encoder, Message, RequestHeader, Str,
    api_info, decode_response, encode_request, encode_response, request_header_version,
    response_header_version,
};

#[test]
fn ignorable_fields_are_dropped() {
    let request = FetchRequest {
        rack_id: Str::from("a"),
        ..Default::default()
    };
    let bytes = request.encode_to_bytes(10).unwrap();
    assert_eq!(
        FetchRequest::decode_exact(bytes, 10).unwrap(),
        FetchRequest::default()
    );
    let bytes = request.encode_to_bytes(11).unwrap();
    assert_eq!(FetchRequest::decode_exact(bytes, 11).unwrap(), request);
}

#[test]
fn other_fields_are_refused() {
    let refused = |request: &FetchRequest, version| match request.encode_to_bytes(version) {
        Err(EncodeError::NotInVersion {
            part: "FetchRequest",
            field,
            ..
        }) => field,
        other => panic!("{other:?}"),
    };
    let forgotten_topics_data = vec![ForgottenTopic::default()];
    let request = FetchRequest {
        forgotten_topics_data,
        ..Default::default()
    };
    assert_eq!(refused(&request, 6), "forgotten_topics_data");
    assert!(request.encode_to_bytes(7).is_ok());
    let replica_state = ReplicaState {
        replica_id: 1,
        ..Default::default()
    };
    let request = FetchRequest {
        replica_state,
        ..Default::default()
    };
    assert_eq!(refused(&request, 14), "replica_state");
    assert!(request.encode_to_bytes(15).is_ok());
    let request = FetchRequest {
        replica_id: 1,
        ..Default::default()
    };
    assert_eq!(refused(&request, 15), "replica_id");
    assert!(request.encode_to_bytes(14).is_ok());
    let unknown_tagged_fields = vec![(7, Bytes::new())];
    let request = FetchRequest {
        unknown_tagged_fields,
        ..Default::default()
    };
    assert_eq!(refused(&request, 11), "unknown_tagged_fields");
    assert!(request.encode_to_bytes(12).is_ok());
}

#[test]
fn null_only_where_the_version_allows_it() {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let error = request.encode_to_bytes(0).unwrap_err();
    let (part, field) = ("MetadataRequest", "topics");
    assert_eq!(
        error,
        EncodeError::UnexpectedNull {
            part,
            field,
            version: 0
        }
    );
    let bytes = request.encode_to_bytes(1).unwrap();
    let error = MetadataRequest::decode_exact(bytes, 0).unwrap_err();
    assert_eq!(error.problem, DecodeProblem::UnexpectedNull);
}

#[test]
fn versions_outside_the_range_are_refused() {
    for version in [-1, 3, 19, i16::MIN, i16::MAX] {
        let error = FetchRequest::decode_exact(Bytes::new(), version).unwrap_err();
        let message = "FetchRequest";
        assert_eq!(
            error.problem,
            DecodeProblem::UnsupportedVersion { message, version }
        );
        let error = FetchRequest::default()
            .encode_to_bytes(version)
            .unwrap_err();
        assert_eq!(error, EncodeError::UnsupportedVersion { message, version });
    }
}

#[test]
fn header_versions() {
    assert_eq!(request_header_version(ApiKey::PRODUCE, 0), Some(1));
    assert_eq!(request_header_version(ApiKey::PRODUCE, 8), Some(1));
    assert_eq!(request_header_version(ApiKey::PRODUCE, 9), Some(2));
    assert_eq!(response_header_version(ApiKey::PRODUCE, 8), Some(0));
    assert_eq!(response_header_version(ApiKey::PRODUCE, 9), Some(1));
    assert_eq!(request_header_version(ApiKey::API_VERSIONS, 3), Some(2));
    assert_eq!(request_header_version(ApiKey::API_VERSIONS, 99), Some(2));
    assert_eq!(response_header_version(ApiKey::API_VERSIONS, 4), Some(0));
    assert_eq!(request_header_version(ApiKey(999), 0), None);
    assert_eq!(response_header_version(ApiKey(999), 0), None);
}

#[test]
fn a_request_header_with_an_unsupported_version_can_be_read() {
    let header = RequestHeader::new(ApiKey::API_VERSIONS, 99, 5, Some(Str::from("new")));
    let mut encoder = Encoder::new();
    header.encode(&mut encoder).unwrap();
    let mut decoder = Decoder::new(encoder.into_bytes());
    assert_eq!(RequestHeader::decode(&mut decoder), Ok(header));
}

#[test]
fn a_request_header_with_an_unknown_key_cannot_be_read() {
    let mut decoder = Decoder::new(Bytes::from_static(&[3, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff]));
    let error = RequestHeader::decode(&mut decoder).unwrap_err();
    assert_eq!(error.problem, DecodeProblem::UnknownApiKey(999));
}

#[test]
fn whole_frames() {
    let request = FetchRequest {
        max_wait_ms: 500,
        ..Default::default()
    };
    let frame = encode_request(7, Some(Str::from("me")), 12, &request)
        .unwrap()
        .to_bytes();
    assert_eq!(
        frame.len(),
        4 + i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize
    );
    let mut decoder = Decoder::new(frame.slice(4..));
    let header = RequestHeader::decode(&mut decoder).unwrap();
    assert_eq!(
        header,
        RequestHeader::new(ApiKey::FETCH, 12, 7, Some(Str::from("me")))
    );
    assert_eq!(FetchRequest::decode(&mut decoder, 12).unwrap(), request);
    assert_eq!(decoder.finish(), Ok(()));

    type Request = tidemill_protocol::create_topics::CreateTopicsRequest;
    let response = CreateTopicsResponse {
        throttle_time_ms: 3,
        ..Default::default()
    };
    let frame = encode_response::<Request>(9, 5, &response)
        .unwrap()
        .to_bytes();
    let (header, decoded) = decode_response::<Request>(frame.slice(4..), 5).unwrap();
    assert_eq!((header.correlation_id, decoded), (9, response));
}

/// The two versions that are newer than Kafka 4.2, byte by byte: neither `kafka-protocol` nor Kafka's
/// jar of 4.2 can be asked.
#[test]
fn versions_newer_than_the_oracles() {
    let result = DeletableGroupResult {
        group_id: Str::from("g"),
        error_code: 68,
        error_message: Some(Str::from("no")),
        ..Default::default()
    };
    let response = DeleteGroupsResponse {
        results: vec![result],
        ..Default::default()
    };
    let bytes = b"\0\0\0\0\x02\x02g\0\x44\x03no\0\0";
    assert_eq!(response.encode_to_bytes(3).unwrap(), &bytes[..]);
    let result = DescribeLogDirsResult {
        log_dir: Str::from("/d"),
        total_bytes: 5,
        is_cordoned: true,
        ..Default::default()
    };
    let response = DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    };
    let bytes =
        b"\0\0\0\0\0\0\x02\0\0\x03/d\x01\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0";
    assert_eq!(response.encode_to_bytes(5).unwrap(), &bytes[..]);
}

#[test]
fn the_table_is_sorted_and_found_by_key() {
    assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
    for api in APIS {
        assert_eq!(api_info(api.key), Some(api));
    }
    assert_eq!(api_info(ApiKey::LEADER_AND_ISR), None);
}

/// Issue 2 names these; what a schema file is lost for cannot be served.
#[test]
fn the_promised_apis_are_there() {
    let keys = [
        0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 32, 37, 42, 44, 60, 75,
    ];
    for key in keys {
        assert!(api_info(ApiKey(key)).is_some(), "{}", ApiKey(key));
    }
}
