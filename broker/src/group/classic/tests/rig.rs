//! Drives one group by hand: events, time, and the log's answers.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::consumer_offsets::GroupMetadataValue;
use tidemill_protocol::consumer_protocol_subscription::ConsumerProtocolSubscription;
use tidemill_protocol::{ErrorCode, decode_versioned, encode_versioned};
use tokio::sync::oneshot;

use crate::config::GroupConfig;
use crate::group::classic::{
    AfterStore, ClassicGroup, JoinReply, JoinRequest, LeavingMember, Protocol, SyncReply,
    SyncRequest, Terms, Turn,
};
use crate::group::log::CoordinatorRecord;

pub(super) const START_MS: i64 = 1_700_000_000_000;

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a consumer with these topics sends as metadata.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    let subscription = ConsumerProtocolSubscription {
        topics,
        ..Default::default()
    };
    encode_versioned(&subscription, 1).expect("a valid subscription")
}

/// The assignment that [`Rig::make_stable`] gives a member.
pub(super) fn assignment_of(member_id: &str) -> Bytes {
    Bytes::from(format!("work of {member_id}"))
}

/// A client and what it says when it joins.
#[derive(Debug, Clone)]
pub(super) struct Client {
    name: String,
    member_id: String,
    instance: Option<String>,
    protocol_type: String,
    protocols: Vec<String>,
    metadata: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    is_old: bool,
    skips_assignment: bool,
}

impl Client {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            member_id: String::new(),
            instance: None,
            protocol_type: "consumer".to_owned(),
            protocols: vec!["range".to_owned()],
            metadata: subscription(&[]),
            session_timeout: seconds(10),
            rebalance_timeout: seconds(30),
            is_old: false,
            skips_assignment: false,
        }
    }

    /// It does not know MEMBER_ID_REQUIRED.
    pub(super) fn old(mut self) -> Self {
        self.is_old = true;
        self
    }

    pub(super) fn with_id(mut self, member_id: &str) -> Self {
        self.member_id = member_id.to_owned();
        self
    }

    pub(super) fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    pub(super) fn protocol_type(mut self, protocol_type: &str) -> Self {
        self.protocol_type = protocol_type.to_owned();
        self
    }

    pub(super) fn protocols(mut self, names: &[&str]) -> Self {
        self.protocols = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(super) fn metadata(self, metadata: &str) -> Self {
        self.subscription(Bytes::copy_from_slice(metadata.as_bytes()))
    }

    pub(super) fn subscription(mut self, metadata: Bytes) -> Self {
        self.metadata = metadata;
        self
    }

    pub(super) fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    pub(super) fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// It knows that a leader may have to skip the assignment.
    pub(super) fn skips_assignment(mut self) -> Self {
        self.skips_assignment = true;
        self
    }

    fn request(&self, new_member_id: String) -> JoinRequest {
        let protocol = |name: &String| Protocol {
            name: name.as_str().into(),
            metadata: self.metadata.clone(),
        };
        JoinRequest {
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Into::into),
            client_id: self.name.as_str().into(),
            client_host: "/127.0.0.1".into(),
            protocol_type: self.protocol_type.as_str().into(),
            terms: Terms {
                session_timeout: self.session_timeout,
                rebalance_timeout: self.rebalance_timeout,
                protocols: self.protocols.iter().map(protocol).collect(),
            },
            new_member_id: new_member_id.into(),
            requires_known_member_id: !self.is_old,
            supports_skipping_assignment: self.skips_assignment,
            reason: "test".into(),
        }
    }
}

/// The other end of a request.
#[derive(Debug)]
pub(super) struct Answer<T>(oneshot::Receiver<T>);

impl<T: Debug> Answer<T> {
    /// The answer, which must be there.
    pub(super) fn now(mut self) -> T {
        self.0.try_recv().expect("the request has been answered")
    }

    /// The answer, if it is there; a request that was dropped unanswered fails the test.
    pub(super) fn poll(&mut self) -> Option<T> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => panic!("a request was never answered"),
        }
    }
}

/// Whether the request still waits.
pub(super) fn is_parked<T>(answer: &Answer<T>) -> bool {
    answer.0.is_empty() && !answer.0.is_terminated()
}

/// One group, the time, and records that wait to be stored.
pub(super) struct Rig {
    pub(super) group: ClassicGroup,
    pub(super) settings: GroupConfig,
    pub(super) now: Duration,
    stores: VecDeque<(CoordinatorRecord, AfterStore)>,
    last_record: Option<CoordinatorRecord>,
    ids: usize,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            group: ClassicGroup::new("group".into(), START_MS),
            settings: GroupConfig::default(),
            now: Duration::ZERO,
            stores: VecDeque::new(),
            last_record: None,
            ids: 0,
        }
    }

    fn event<R>(&mut self, act: impl FnOnce(&mut ClassicGroup, &mut Turn<'_>) -> R) -> R {
        let now_ms = START_MS + i64::try_from(self.now.as_millis()).expect("tests are short");
        let mut turn = Turn::new(self.now, now_ms, &self.settings);
        let outcome = act(&mut self.group, &mut turn);
        self.stores.extend(turn.stores);
        self.group.check();
        outcome
    }

    pub(super) fn join(&mut self, client: &Client) -> Answer<JoinReply> {
        self.ids += 1;
        let request = client.request(format!("{}-{}", client.name, self.ids));
        let (reply, answer) = oneshot::channel();
        self.event(|group, turn| group.join(turn, request, reply));
        Answer(answer)
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &str)],
    ) -> Answer<SyncReply> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let assignments = assignments
            .iter()
            .map(|(id, text)| ((*id).into(), bytes(text)));
        self.sync_request(SyncRequest {
            member_id: member_id.into(),
            group_instance_id: None,
            generation,
            protocol_type: None,
            protocol_name: None,
            assignments: assignments.collect(),
        })
    }

    pub(super) fn sync_as(
        &mut self,
        member_id: &str,
        generation: i32,
        protocol_type: Option<&str>,
        protocol_name: Option<&str>,
    ) -> Answer<SyncReply> {
        self.sync_request(SyncRequest {
            member_id: member_id.into(),
            group_instance_id: None,
            generation,
            protocol_type: protocol_type.map(Into::into),
            protocol_name: protocol_name.map(Into::into),
            assignments: Default::default(),
        })
    }

    pub(super) fn sync_request(&mut self, request: SyncRequest) -> Answer<SyncReply> {
        let (reply, answer) = oneshot::channel();
        self.event(|group, turn| group.sync(turn, request, reply));
        Answer(answer)
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), ErrorCode> {
        self.heartbeat_as(member_id, None, generation)
    }

    pub(super) fn heartbeat_as(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.event(|group, turn| group.heartbeat(turn, member_id, instance, generation))
    }

    pub(super) fn leave(&mut self, leaving: &[LeavingMember]) -> Vec<Result<(), ErrorCode>> {
        self.event(|group, turn| group.leave(turn, leaving))
    }

    pub(super) fn keep_alive_by_commit(&mut self, member_id: &str) {
        self.event(|group, turn| group.keep_alive_by_commit(turn, member_id));
    }

    pub(super) fn retire(&mut self) {
        self.event(|group, turn| group.retire(turn));
    }

    /// Lets time pass, in steps in which every timer fires when it is due.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.group.wake_at()
            && at <= end
        {
            self.now = self.now.max(at);
            self.event(|group, turn| group.on_time(turn));
            if self.group.wake_at().is_some_and(|next| next <= self.now) {
                self.now += Duration::from_millis(1);
            }
        }
        self.now = self.now.max(end);
        self.event(|group, turn| group.on_time(turn));
    }

    pub(super) fn stores_waiting(&self) -> usize {
        self.stores.len()
    }

    /// The log answers the oldest record that waits.
    pub(super) fn store(&mut self, outcome: Result<(), ErrorCode>) {
        let (record, after) = self.stores.pop_front().expect("a record waits");
        if outcome.is_ok() {
            self.last_record = Some(record);
        }
        self.event(|group, turn| group.stored(turn, after, outcome));
    }

    pub(super) fn store_all(&mut self) {
        while !self.stores.is_empty() {
            self.store(Ok(()));
        }
    }

    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.group.members().map(|(id, _)| id.clone()).collect()
    }

    /// Takes the clients through the join phase of an empty group; gives their member ids in order. The
    /// first one leads.
    pub(super) fn completing(&mut self, clients: &[Client]) -> Vec<Arc<str>> {
        let answers: Vec<_> = clients
            .iter()
            .map(|client| self.join(&client.clone().old()))
            .collect();
        self.advance(seconds(3 * clients.len() as u64));
        answers
            .into_iter()
            .map(|answer| answer.now().expect("joined").member_id)
            .collect()
    }

    /// Hands every member its assignment.
    pub(super) fn make_stable(&mut self, ids: &[Arc<str>]) {
        let texts: Vec<_> = ids.iter().map(|id| format!("work of {id}")).collect();
        let assignments: Vec<_> = ids
            .iter()
            .zip(&texts)
            .map(|(id, text)| (&**id, &**text))
            .collect();
        let generation = self.group.generation;
        let leader = self.sync(&ids[0], generation, &assignments);
        let followers: Vec<_> = ids[1..]
            .iter()
            .map(|id| self.sync(id, generation, &[]))
            .collect();
        self.store(Ok(()));
        for (answer, id) in std::iter::once(leader).chain(followers).zip(ids) {
            assert_eq!(answer.now().expect("synced").assignment, assignment_of(id));
        }
    }

    pub(super) fn stable(&mut self, clients: &[Client]) -> Vec<Arc<str>> {
        let ids = self.completing(clients);
        self.make_stable(&ids);
        ids
    }

    /// Lets a client join an empty group; gives the generation that it gets.
    pub(super) fn generation_of_next(&mut self, client: &Client) -> i32 {
        let answer = self.join(&client.clone().old());
        self.advance(seconds(3));
        answer.now().expect("joined").generation
    }

    pub(super) fn has_stored(&self) -> bool {
        self.last_record.is_some()
    }

    /// The group as its last durable record brings it back, at the same time.
    pub(super) fn reload(&self) -> Self {
        let record = self.last_record.clone().expect("something was stored");
        let value = record.value.expect("not a tombstone");
        let (_, value) = decode_versioned::<GroupMetadataValue>(value).expect("our own record");
        let group = ClassicGroup::from_record("group".into(), &value).expect("our own record");
        let mut rig = Self {
            group,
            settings: self.settings.clone(),
            now: self.now,
            stores: VecDeque::new(),
            last_record: None,
            ids: self.ids,
        };
        rig.event(|group, turn| group.resume(turn));
        rig
    }
}
