use parking_lot::Mutex;
use tidemill_protocol::fetch::{FetchRequest, FetchResponse};
use tidemill_protocol::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use tidemill_protocol::heartbeat::HeartbeatResponse;
use tidemill_protocol::join_group::JoinGroupResponseMember;
use tidemill_protocol::leave_group::LeaveGroupResponse;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use tidemill_protocol::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use tidemill_protocol::sync_group::SyncGroupResponse;

use super::*;
use crate::fake::{FakeBroker, Received, Reply};

/// A coordinator of one group with one member, which a test can push into a rebalance.
#[derive(Debug, Default)]
struct Coordinator {
    generation: i32,
    /// Members that take part beside ours, and never sync.
    others: Vec<Str>,
    rebalancing: bool,
    forgotten: bool,
    committed: BTreeMap<i32, i64>,
    left: Vec<Str>,
    joins_without_id: usize,
    assignments: BTreeMap<Str, Vec<TopicPartition>>,
}

impl Coordinator {
    fn check(&self, generation: i32, member: &Str) -> ErrorCode {
        if self.forgotten || *member != "member-1" {
            ErrorCode::UnknownMemberId
        } else if generation != self.generation {
            ErrorCode::IllegalGeneration
        } else if self.rebalancing {
            ErrorCode::RebalanceInProgress
        } else {
            ErrorCode::None
        }
    }

    fn join(&mut self, request: &Received) -> Reply {
        let join: JoinGroupRequest = request.request();
        let mut response = JoinGroupResponse::default();
        if join.member_id.is_empty() {
            self.joins_without_id += 1;
            self.forgotten = false;
            response.error_code = ErrorCode::MemberIdRequired.code();
            response.member_id = Str::from("member-1");
            return request.answer::<JoinGroupRequest>(&response);
        }
        if self.forgotten {
            response.error_code = ErrorCode::UnknownMemberId.code();
            return request.answer::<JoinGroupRequest>(&response);
        }
        self.rebalancing = false;
        self.generation += 1;
        let metadata = join.protocols[0].metadata.clone();
        let members = std::iter::once(&join.member_id).chain(&self.others);
        response.generation_id = self.generation;
        response.protocol_name = Some(join.protocols[0].name.clone());
        response.leader = join.member_id.clone();
        response.members = members
            .map(|member| JoinGroupResponseMember {
                member_id: member.clone(),
                metadata: metadata.clone(),
                ..JoinGroupResponseMember::default()
            })
            .collect();
        response.member_id = join.member_id;
        request.answer::<JoinGroupRequest>(&response)
    }

    fn sync(&mut self, request: &Received) -> Reply {
        let sync: SyncGroupRequest = request.request();
        let mut response = SyncGroupResponse {
            error_code: self.check(sync.generation_id, &sync.member_id).code(),
            ..SyncGroupResponse::default()
        };
        for given in sync.assignments {
            if given.member_id == sync.member_id {
                response.assignment = given.assignment.clone();
            }
            self.assignments
                .insert(given.member_id, assigned(&given.assignment));
        }
        request.answer::<SyncGroupRequest>(&response)
    }

    fn commit(&mut self, request: &Received) -> Reply {
        let commit: OffsetCommitRequest = request.request();
        let code = self.check(commit.generation_id_or_member_epoch, &commit.member_id);
        let topics = commit.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                if code == ErrorCode::None {
                    self.committed
                        .insert(partition.partition_index, partition.committed_offset);
                }
                OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                    ..OffsetCommitResponsePartition::default()
                }
            });
            OffsetCommitResponseTopic {
                partitions: partitions.collect(),
                name: topic.name.clone(),
                ..OffsetCommitResponseTopic::default()
            }
        });
        let topics = topics.collect();
        request.answer::<OffsetCommitRequest>(&OffsetCommitResponse {
            topics,
            ..OffsetCommitResponse::default()
        })
    }

    fn fetch_offsets(&self, request: &Received) -> Reply {
        let partitions =
            self.committed
                .iter()
                .map(|(index, offset)| OffsetFetchResponsePartition {
                    partition_index: *index,
                    committed_offset: *offset,
                    ..OffsetFetchResponsePartition::default()
                });
        let topic = OffsetFetchResponseTopic {
            name: Str::from("t"),
            partitions: partitions.collect(),
            ..OffsetFetchResponseTopic::default()
        };
        request.answer::<OffsetFetchRequest>(&OffsetFetchResponse {
            topics: vec![topic],
            ..OffsetFetchResponse::default()
        })
    }

    fn answer(&mut self, request: &Received) -> Reply {
        match request.key() {
            ApiKey::API_VERSIONS => request.versions(),
            ApiKey::METADATA => request.metadata(4),
            ApiKey::FIND_COORDINATOR => {
                request.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
                    node_id: 1,
                    host: Str::from("127.0.0.1"),
                    port: i32::from(request.port),
                    ..FindCoordinatorResponse::default()
                })
            }
            ApiKey::JOIN_GROUP => self.join(request),
            ApiKey::SYNC_GROUP => self.sync(request),
            ApiKey::HEARTBEAT => {
                let beat: HeartbeatRequest = request.request();
                request.answer::<HeartbeatRequest>(&HeartbeatResponse {
                    error_code: self.check(beat.generation_id, &beat.member_id).code(),
                    ..HeartbeatResponse::default()
                })
            }
            ApiKey::OFFSET_COMMIT => self.commit(request),
            ApiKey::OFFSET_FETCH => self.fetch_offsets(request),
            ApiKey::LEAVE_GROUP => {
                let leave: LeaveGroupRequest = request.request();
                self.left
                    .extend(leave.members.into_iter().map(|member| member.member_id));
                request.answer::<LeaveGroupRequest>(&LeaveGroupResponse::default())
            }
            ApiKey::LIST_OFFSETS => start_offsets(request),
            ApiKey::FETCH => request.answer::<FetchRequest>(&FetchResponse::default()),
            other => panic!("{other}"),
        }
    }
}

/// Every log begins at 100.
fn start_offsets(request: &Received) -> Reply {
    let topics = request
        .request::<ListOffsetsRequest>()
        .topics
        .into_iter()
        .map(|topic| {
            let partitions =
                topic
                    .partitions
                    .iter()
                    .map(|partition| ListOffsetsPartitionResponse {
                        partition_index: partition.partition_index,
                        offset: 100,
                        ..ListOffsetsPartitionResponse::default()
                    });
            ListOffsetsTopicResponse {
                partitions: partitions.collect(),
                name: topic.name.clone(),
                ..ListOffsetsTopicResponse::default()
            }
        });
    let topics = topics.collect();
    request.answer::<ListOffsetsRequest>(&ListOffsetsResponse {
        topics,
        ..Default::default()
    })
}

async fn start() -> (FakeBroker, Arc<Mutex<Coordinator>>, GroupConsumer) {
    let coordinator = Arc::new(Mutex::new(Coordinator::default()));
    let serving = coordinator.clone();
    let fake = FakeBroker::start(move |request| serving.lock().answer(request)).await;
    let config = GroupConfig {
        heartbeat_interval: Duration::from_millis(10),
        ..GroupConfig::new("g", vec!["t".to_owned()])
    };
    let consumer = GroupConsumer::new(fake.client(), config);
    (fake, coordinator, consumer)
}

/// Polls until the consumer is in generation `wanted`.
async fn join_generation(consumer: &mut GroupConsumer, wanted: i32) {
    let joined = async {
        while consumer.generation() != Some(wanted) {
            consumer.poll().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), joined)
        .await
        .expect("the rebalance comes");
}

fn offsets(pairs: &[(i32, i64)]) -> BTreeMap<TopicPartition, Offset> {
    let pairs = pairs.iter().map(|(partition, offset)| {
        (
            TopicPartition::new("t", PartitionId(*partition)),
            Offset(*offset),
        )
    });
    pairs.collect()
}

#[tokio::test]
async fn a_newcomer_takes_its_id_reads_everything_from_the_start_and_leaves() {
    let (_fake, coordinator, mut consumer) = start().await;
    join_generation(&mut consumer, 1).await;
    assert_eq!(
        consumer.positions(),
        offsets(&[(0, 100), (1, 100), (2, 100), (3, 100)])
    );
    assert_eq!(coordinator.lock().joins_without_id, 1);
    consumer.leave().await.unwrap();
    assert_eq!(coordinator.lock().left, ["member-1"]);
}

#[tokio::test]
async fn a_rebalance_is_noticed_by_heartbeat_and_goes_on_at_the_commit() {
    let (_fake, coordinator, mut consumer) = start().await;
    join_generation(&mut consumer, 1).await;
    assert!(consumer.commit(&offsets(&[(1, 150)])).await.unwrap());
    {
        let mut coordinator = coordinator.lock();
        coordinator.rebalancing = true;
        coordinator.others = vec![Str::from("member-0")];
    }
    join_generation(&mut consumer, 2).await;
    // Two members share four partitions; ours is second by its id.
    assert_eq!(consumer.positions(), offsets(&[(2, 100), (3, 100)]));
    assert_eq!(
        coordinator.lock().assignments[&Str::from("member-0")].len(),
        2
    );
    {
        let mut coordinator = coordinator.lock();
        coordinator.rebalancing = true;
        coordinator.others.clear();
    }
    join_generation(&mut consumer, 3).await;
    assert_eq!(
        consumer.positions(),
        offsets(&[(0, 100), (1, 150), (2, 100), (3, 100)])
    );
    assert_eq!(coordinator.lock().joins_without_id, 1);
}

#[tokio::test]
async fn a_commit_after_the_generation_ended_says_so() {
    let (_fake, coordinator, mut consumer) = start().await;
    join_generation(&mut consumer, 1).await;
    coordinator.lock().generation = 8;
    assert!(!consumer.commit(&offsets(&[(1, 150)])).await.unwrap());
    assert!(coordinator.lock().committed.is_empty());
    assert_eq!(consumer.generation(), None);
    join_generation(&mut consumer, 9).await;
}

#[tokio::test]
async fn a_forgotten_member_asks_for_a_new_id() {
    let (_fake, coordinator, mut consumer) = start().await;
    join_generation(&mut consumer, 1).await;
    coordinator.lock().forgotten = true;
    join_generation(&mut consumer, 2).await;
    assert_eq!(coordinator.lock().joins_without_id, 2);
}
