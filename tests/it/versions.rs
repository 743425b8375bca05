//! Which APIs and versions are served, and how that is said.

use tidemill_protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidemill_protocol::{ApiKey, Request};
use tidemill_protocol::{Decoder, ErrorCode, Message, ResponseHeader};
use tidemill_tests::TestBroker;

/// Keys and versions that this broker promises (Kafka's own ranges in 4.x).
const PROMISED: &[(i16, i16, i16)] = &[
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (33, 0, 2),
    (35, 1, 5),
    (37, 0, 3),
    (42, 0, 3),
    (44, 0, 1),
    (47, 0, 0),
    (60, 0, 2),
    (75, 0, 0),
];

#[tokio::test]
async fn exactly_the_promised_ranges_are_announced() {
    let broker = TestBroker::start().await;
    let served = broker.wire().await.served().await;
    let served: Vec<_> = served
        .into_iter()
        .map(|(key, (min, max))| (key, min, max))
        .collect();
    assert_eq!(served, PROMISED);
}

/// A client that is newer than we are gets the list in version 0, with error 35, and comes down.
#[tokio::test]
async fn an_unknown_version_of_the_question_is_answered_in_version_0() {
    let broker = TestBroker::start().await;
    for version in [5i16, 99, i16::MAX, -1] {
        let mut wire = broker.wire().await;
        // Key, version, correlation id, a null client id, no tags; what follows is of a version to come.
        let mut frame = Vec::new();
        frame.extend(18i16.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(77i32.to_be_bytes());
        frame.extend([0xff, 0xff, 0, 1, 2, 3]);
        let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
        bytes.extend(frame);
        wire.write(&bytes).await;
        let answer = wire.read_frame().await.expect("an answer");
        let mut decoder = Decoder::new(answer);
        let header = ResponseHeader::decode(&mut decoder, ApiKey::API_VERSIONS, 0).unwrap();
        let response = ApiVersionsResponse::decode(&mut decoder, 0).unwrap();
        decoder.finish().unwrap();
        assert_eq!(header.correlation_id, 77);
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
        assert_eq!(response.error_code, 35);
        let own = response
            .api_keys
            .iter()
            .find(|key| key.api_key == 18)
            .unwrap();
        assert_eq!((own.min_version, own.max_version), (0, 4));
        // The connection goes on.
        assert!(!wire.served().await.is_empty());
    }
}

/// In no version does the answer carry a flexible header: the client does not know yet what we speak.
#[tokio::test]
async fn every_version_of_the_question_is_answered() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let request = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".into(),
        client_software_version: "4.2.0".into(),
        ..Default::default()
    };
    for version in ApiVersionsRequest::MIN_VERSION..=ApiVersionsRequest::MAX_VERSION {
        let mut request = request.clone();
        if version < 3 {
            request = ApiVersionsRequest::default();
        }
        let answer = wire.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.api_keys.len(), PROMISED.len());
        let has_features = !answer.finalized_features.is_empty();
        assert_eq!(has_features, version >= 3, "features from version 3 on");
    }
}

#[tokio::test]
async fn a_client_without_a_proper_name_is_told_so() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let request = ApiVersionsRequest {
        client_software_name: "no good".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let answer = wire.call(4, &request).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(<ApiVersionsRequest as Request>::KEY.0, 18);
}
