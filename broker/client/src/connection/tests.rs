use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidemill_protocol::api_versions::{ApiVersion, ApiVersionsResponse};
use tidemill_protocol::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use tidemill_protocol::metadata::MetadataRequest;
use tokio::sync::Notify;

use super::*;
use crate::fake::{FakeBroker, Received, Reply, quick};

/// Speaks ApiVersions well and leaves the rest to `script`.
async fn broker(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> FakeBroker {
    FakeBroker::start(move |request| match request.key() {
        ApiKey::API_VERSIONS => request.versions(),
        _ => script(request),
    })
    .await
}

fn beat(generation_id: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        generation_id,
        ..HeartbeatRequest::default()
    }
}

/// Answers with the generation as error code, so that answers can be told apart.
fn echo(request: &Received) -> Reply {
    let generation = request.request::<HeartbeatRequest>().generation_id;
    request.answer::<HeartbeatRequest>(&HeartbeatResponse {
        error_code: i16::try_from(generation).unwrap(),
        ..HeartbeatResponse::default()
    })
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_the_version_it_names() {
    let fake = FakeBroker::start(|request| {
        let version = request.header.request_api_version;
        let range = ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 1,
            ..ApiVersion::default()
        };
        let heartbeat = ApiVersion {
            api_key: 12,
            min_version: 0,
            max_version: 2,
            ..ApiVersion::default()
        };
        let response = ApiVersionsResponse {
            error_code: if version > 1 { 35 } else { 0 },
            api_keys: if version > 1 {
                vec![range]
            } else {
                vec![range, heartbeat]
            },
            ..ApiVersionsResponse::default()
        };
        let spoken = if version > 1 { 0 } else { version };
        let id = request.header.correlation_id;
        let frame = tidemill_protocol::encode_response::<ApiVersionsRequest>(id, spoken, &response);
        Reply::Bytes(frame.unwrap().to_bytes().to_vec())
    })
    .await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    assert_eq!(connection.version_of::<HeartbeatRequest>(None).unwrap(), 2);
    assert_eq!(
        connection.version_of::<HeartbeatRequest>(Some(1)).unwrap(),
        1
    );
    let error = connection.version_of::<MetadataRequest>(None).unwrap_err();
    assert!(
        matches!(error, ConnectionError::Unsupported { offered: None, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn pipelined_requests_get_their_own_answers() {
    let fake = broker(echo).await;
    let connection = Arc::new(Connection::open(&fake.address, quick()).await.unwrap());
    let sent = (0..200).map(|generation| {
        let connection = connection.clone();
        async move { connection.send(&beat(generation)).await.unwrap().error_code }
    });
    let answers = futures_util::future::join_all(sent).await;
    assert_eq!(answers, (0..200).collect::<Vec<i16>>());
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn in_flight_is_bounded() {
    let open = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = open.clone();
    let third = Arc::new(Notify::new());
    let at_third = third.clone();
    let fake = broker(move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) == 2 {
            at_third.notify_one();
        }
        Reply::Silence
    })
    .await;
    let config = ConnectionConfig {
        in_flight_max: 3,
        ..quick()
    };
    let connection = Arc::new(Connection::open(&fake.address, config).await.unwrap());
    let sent = (0..10).map(|generation| {
        let connection = connection.clone();
        async move { connection.send(&beat(generation)).await }
    });
    let all = tokio::spawn(futures_util::future::join_all(sent));
    third.notified().await;
    // The rest is not sent: it waits for a place until the oldest request's deadline closes all.
    for result in all.await.unwrap() {
        assert!(result.is_err());
    }
    assert_eq!(open.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_silent_broker_times_out_and_fails_what_waits_behind() {
    let fake = broker(|_| Reply::Silence).await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    let began = Instant::now();
    let (request, other) = (beat(1), beat(2));
    let (first, second) = tokio::join!(connection.send(&request), connection.send(&other));
    assert!(
        matches!(
            first,
            Err(ConnectionError::Timeout {
                api: "Heartbeat",
                ..
            })
        ),
        "{first:?}"
    );
    assert!(second.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    assert!(connection.is_closed());
    assert!(connection.send(&beat(3)).await.is_err());
}

#[tokio::test]
async fn time_that_the_broker_may_hold_a_request_is_added() {
    let fake = broker(|request| {
        std::thread::sleep(Duration::from_millis(400));
        echo(request)
    })
    .await;
    let config = ConnectionConfig {
        request_timeout: Duration::from_millis(100),
        ..quick()
    };
    let connection = Connection::open(&fake.address, config).await.unwrap();
    let options = CallOptions {
        held_by_broker: Duration::from_secs(5),
        ..CallOptions::default()
    };
    assert_eq!(
        connection
            .send_with(&beat(4), options)
            .await
            .unwrap()
            .error_code,
        4
    );
}

#[tokio::test]
async fn a_silent_listener_is_not_waited_for() {
    let fake = FakeBroker::start(|_| Reply::Silence).await;
    let error = Connection::open(&fake.address, quick()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectionError::Timeout {
                api: "ApiVersions",
                ..
            }
        ),
        "{error}"
    );
}

/// Sends one request to a broker that answers with `reply`, and returns the error.
async fn error_of(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> ConnectionError {
    let fake = broker(reply).await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    let error = connection.send(&beat(1)).await.unwrap_err();
    assert!(connection.is_closed() || matches!(error, ConnectionError::Decode { .. }));
    error
}

#[tokio::test]
async fn hostile_lengths_are_refused_before_anything_is_allocated() {
    for length in [i32::MAX, (1 << 20) + 1, 3, 0, -1, i32::MIN] {
        let error = error_of(move |_| Reply::Bytes(length.to_be_bytes().to_vec())).await;
        let ConnectionError::FrameLength {
            length: said,
            limit,
            ..
        } = error
        else {
            panic!("{length}: {error}")
        };
        assert_eq!((said, limit), (i64::from(length), 1 << 20));
    }
}

#[tokio::test]
async fn a_wrong_correlation_id_closes() {
    let error = error_of(|request| {
        let Reply::Bytes(mut frame) = echo(request) else {
            unreachable!()
        };
        frame[7] ^= 0x40;
        Reply::Bytes(frame)
    })
    .await;
    let ConnectionError::Correlation {
        expected: Some(expected),
        got,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(expected ^ 0x40, got);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_closes() {
    let fake = broker(|request| {
        let Reply::Bytes(mut frame) = echo(request) else {
            unreachable!()
        };
        let again = frame.clone();
        frame.extend(again);
        Reply::Bytes(frame)
    })
    .await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    let first = connection.send(&beat(1)).await;
    assert!(first.is_ok());
    // The second copy is read at the latest while the next request waits.
    assert!(matches!(
        connection.send(&beat(2)).await,
        Err(ConnectionError::Correlation { .. })
    ));
}

#[tokio::test]
async fn a_truncated_answer_is_an_error_at_every_length() {
    let whole = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = whole.clone();
    let fake = broker(move |request| {
        let Reply::Bytes(frame) = echo(request) else {
            unreachable!()
        };
        *keep.lock().unwrap() = frame.clone();
        Reply::Bytes(frame)
    })
    .await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    connection.send(&beat(0)).await.unwrap();
    let whole = whole.lock().unwrap().clone();
    for kept in 0..whole.len() {
        let frame = whole.clone();
        let error = error_of(move |_| Reply::Hangup(frame[..kept].to_vec())).await;
        let expected = match kept {
            0 => matches!(error, ConnectionError::Closed { .. }),
            _ => matches!(error, ConnectionError::Io { .. }),
        };
        assert!(expected, "{kept} of {} bytes: {error:?}", whole.len());
    }
}

#[tokio::test]
async fn a_body_that_does_not_decode_leaves_the_connection_usable() {
    let fake = broker(|request| {
        if request.request::<HeartbeatRequest>().generation_id == 1 {
            let mut frame = 5i32.to_be_bytes().to_vec();
            frame.extend(request.header.correlation_id.to_be_bytes());
            frame.push(0);
            return Reply::Bytes(frame);
        }
        echo(request)
    })
    .await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    let error = connection.send(&beat(1)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectionError::Decode {
                api: "Heartbeat",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(connection.send(&beat(2)).await.unwrap().error_code, 2);
}

#[tokio::test]
async fn a_dropped_call_does_not_disturb_the_others() {
    let fake = broker(echo).await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    for generation in 0..50 {
        let request = beat(generation);
        let mut call = Box::pin(connection.send(&request));
        // One poll queues the frame; then the call is gone.
        let poll_once = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)));
        assert!(poll_once.await.is_pending());
        drop(call);
        let next = connection.send(&beat(generation + 100)).await.unwrap();
        assert_eq!(next.error_code, i16::try_from(generation + 100).unwrap());
    }
}

#[tokio::test]
async fn closing_fails_what_is_pending() {
    let arrived = Arc::new(Notify::new());
    let at_arrival = arrived.clone();
    let fake = broker(move |_| {
        at_arrival.notify_one();
        Reply::Silence
    })
    .await;
    let config = ConnectionConfig {
        request_timeout: Duration::from_secs(60),
        ..quick()
    };
    let connection = Arc::new(Connection::open(&fake.address, config).await.unwrap());
    let sender = connection.clone();
    let pending = tokio::spawn(async move { sender.send(&beat(1)).await });
    arrived.notified().await;
    connection.close();
    let result = pending.await.unwrap();
    assert!(
        matches!(result, Err(ConnectionError::Closed { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let fake = broker(|request| request.metadata(5000)).await;
    let connection = Connection::open(&fake.address, quick()).await.unwrap();
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let response = connection.send(&request).await.unwrap();
    assert_eq!(response.topics[0].partitions.len(), 5000);
}
