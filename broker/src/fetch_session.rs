//! Fetch sessions (KIP-227): a consumer names its partitions once and then sends only what changed, and is
//! answered only with partitions that have something new.
//!
//! The cache has a fixed number of slots. A new session may push out one that has been unused for two
//! minutes, or a smaller one that is as old; else the consumer is served without a session, which costs it
//! only larger requests. A session of very many partitions is not kept: what strangers make us remember is
//! bounded.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_protocol::fetch::{FetchRequest, FetchTopic};
use tidemill_protocol::{ErrorCode, Str};
use uuid::Uuid;

/// A session must have been idle this long before another may take its slot.
const EVICT_AFTER: Duration = Duration::from_secs(120);
/// Sessions of more partitions than this are not kept.
const PARTITIONS_MAX: usize = 20_000;
/// `session_id` of a fetch without a session.
const NO_SESSION: i32 = 0;
/// `session_epoch` that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// `session_epoch` that ends a session, or was never part of one.
const FINAL_EPOCH: i32 = -1;

/// A partition as fetch names it: by topic id from version 13, by name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FetchKey {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// What a consumer asks of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchWanted {
    pub(crate) key: FetchKey,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) bytes_max: i32,
}

/// What the consumer was last told of one partition; unchanged and empty means: leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    pub(crate) error_code: i16,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
}

#[derive(Debug)]
struct Cached {
    wanted: FetchWanted,
    /// None until the consumer has been answered about it once.
    told: Option<Told>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    /// In the order of service: a partition that returned data goes to the end, so that none starves.
    order: BTreeMap<u64, Cached>,
    position: HashMap<FetchKey, u64>,
    next_position: u64,
}

/// How a fetch is to be answered.
#[derive(Debug, Clone)]
pub(crate) enum FetchContext {
    /// All partitions of the request, all answered.
    Sessionless(Vec<FetchWanted>),
    /// All partitions of the request, all answered, and a session begins.
    New {
        id: i32,
        wanted: Vec<FetchWanted>,
        session: SessionHandle,
    },
    /// The session's partitions; only what changed is answered.
    Incremental {
        id: i32,
        wanted: Vec<FetchWanted>,
        session: SessionHandle,
    },
}

/// A session outside the cache's lock.
#[derive(Debug, Clone)]
pub(crate) struct SessionHandle(Arc<Mutex<Session>>);

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    created_at: Duration,
    used_at: Duration,
    partitions: usize,
}

#[derive(Debug, Default)]
struct Slots {
    by_id: HashMap<i32, Slot>,
    evictions: u64,
}

/// All sessions of this broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: Mutex<Slots>,
    slots_max: usize,
}

impl FetchContext {
    /// Partitions to read, in order of service.
    pub(crate) fn wanted(&self) -> &[FetchWanted] {
        match self {
            Self::Sessionless(wanted)
            | Self::New { wanted, .. }
            | Self::Incremental { wanted, .. } => wanted,
        }
    }

    /// The session id of the answer.
    pub(crate) fn session_id(&self) -> i32 {
        match self {
            Self::Sessionless(_) => NO_SESSION,
            Self::New { id, .. } | Self::Incremental { id, .. } => *id,
        }
    }

    /// Must the answer carry this partition? Remembers that it was told.
    pub(crate) fn include(&self, key: &FetchKey, told: Told, has_records: bool) -> bool {
        match self {
            Self::Sessionless(_) => true,
            Self::New { session, .. } => {
                session.0.lock().tell(key, told, has_records);
                true
            }
            Self::Incremental { session, .. } => session.0.lock().tell(key, told, has_records),
        }
    }
}

impl Session {
    fn put(&mut self, mut wanted: FetchWanted) {
        if let Some(cached) = self
            .position
            .get(&wanted.key)
            .and_then(|at| self.order.get_mut(at))
        {
            cached.wanted = wanted;
            return;
        }
        // A name is a view into its request's frame, which must not live as long as the session.
        wanted.key.topic = wanted.key.topic.detached();
        self.position.insert(wanted.key.clone(), self.next_position);
        self.order
            .insert(self.next_position, Cached { wanted, told: None });
        self.next_position += 1;
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(at) = self.position.remove(key) {
            self.order.remove(&at);
        }
    }

    fn wanted(&self) -> Vec<FetchWanted> {
        self.order
            .values()
            .map(|cached| cached.wanted.clone())
            .collect()
    }

    fn tell(&mut self, key: &FetchKey, told: Told, has_records: bool) -> bool {
        let Some(at) = self.position.get_mut(key) else {
            return true;
        };
        let Some(cached) = self.order.get_mut(at) else {
            return true;
        };
        let is_news = has_records || told.error_code != 0 || cached.told != Some(told);
        // An error is told every time until it is gone, as in Kafka.
        cached.told = (told.error_code == 0).then_some(told);
        if has_records {
            let cached = self.order.remove(at).expect("it was found above");
            *at = self.next_position;
            self.order.insert(self.next_position, cached);
            self.next_position += 1;
        }
        is_news
    }
}

impl FetchSessions {
    pub(crate) fn new(slots_max: usize) -> Self {
        Self {
            slots: Mutex::default(),
            slots_max,
        }
    }

    /// Sessions now, and sessions evicted so far.
    pub(crate) fn figures(&self) -> (usize, u64) {
        let slots = self.slots.lock();
        (slots.by_id.len(), slots.evictions)
    }

    /// Finds out what a request means.
    pub(crate) fn begin(
        &self,
        request: &FetchRequest,
        by_id: bool,
        now: Duration,
        random_id: impl FnMut() -> i32,
    ) -> Result<FetchContext, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        match epoch {
            FINAL_EPOCH | INITIAL_EPOCH => {
                self.slots.lock().by_id.remove(&id);
                let wanted = wanted_of(&request.topics);
                if epoch == FINAL_EPOCH || wanted.is_empty() {
                    return Ok(FetchContext::Sessionless(wanted));
                }
                Ok(self.create(wanted, by_id, now, random_id))
            }
            _ => self.resume(request, by_id, now),
        }
    }

    fn create(
        &self,
        wanted: Vec<FetchWanted>,
        by_id: bool,
        now: Duration,
        mut random_id: impl FnMut() -> i32,
    ) -> FetchContext {
        let mut slots = self.slots.lock();
        let is_full = slots.by_id.len() >= self.slots_max;
        if wanted.len() > PARTITIONS_MAX || (is_full && !slots.evict(wanted.len(), now)) {
            return FetchContext::Sessionless(wanted);
        }
        let id = loop {
            let id = random_id() & i32::MAX;
            if id != NO_SESSION && !slots.by_id.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: 1,
            by_id,
            order: BTreeMap::new(),
            position: HashMap::new(),
            next_position: 0,
        };
        wanted
            .iter()
            .cloned()
            .for_each(|wanted| session.put(wanted));
        let session = Arc::new(Mutex::new(session));
        let slot = Slot {
            session: session.clone(),
            created_at: now,
            used_at: now,
            partitions: wanted.len(),
        };
        slots.by_id.insert(id, slot);
        FetchContext::New {
            id,
            wanted,
            session: SessionHandle(session),
        }
    }

    fn resume(
        &self,
        request: &FetchRequest,
        by_id: bool,
        now: Duration,
    ) -> Result<FetchContext, ErrorCode> {
        let id = request.session_id;
        let mut slots = self.slots.lock();
        let slot = slots
            .by_id
            .get_mut(&id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let handle = slot.session.clone();
        let mut session = handle.lock();
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.epoch = if session.epoch == i32::MAX {
            1
        } else {
            session.epoch + 1
        };
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                let (topic, topic_id) = (topic.topic.clone(), topic.topic_id);
                session.forget(&FetchKey {
                    topic,
                    topic_id,
                    partition: *partition,
                });
            }
        }
        wanted_of(&request.topics)
            .into_iter()
            .for_each(|wanted| session.put(wanted));
        let wanted = session.wanted();
        slot.used_at = now;
        slot.partitions = wanted.len();
        drop(session);
        if wanted.is_empty() || wanted.len() > PARTITIONS_MAX {
            slots.by_id.remove(&id);
            return Ok(FetchContext::Sessionless(wanted));
        }
        Ok(FetchContext::Incremental {
            id,
            wanted,
            session: SessionHandle(handle),
        })
    }
}

impl Slots {
    /// Frees a slot for a session of so many partitions: one that is long unused goes first, else the
    /// smallest of the old ones if it is smaller than the new one.
    fn evict(&mut self, partitions: usize, now: Duration) -> bool {
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(id, slot)| (slot.used_at, **id));
        let is_stale = |slot: &Slot| now.saturating_sub(slot.used_at) >= EVICT_AFTER;
        let is_old = |slot: &Slot| now.saturating_sub(slot.created_at) >= EVICT_AFTER;
        let stale = oldest.filter(|(_, slot)| is_stale(slot));
        let smaller = || {
            let old = self.by_id.iter().filter(|(_, slot)| is_old(slot));
            old.min_by_key(|(id, slot)| (slot.partitions, **id))
                .filter(|(_, slot)| slot.partitions < partitions)
        };
        let Some(id) = stale.or_else(smaller).map(|(id, _)| *id) else {
            return false;
        };
        self.by_id.remove(&id);
        self.evictions += 1;
        true
    }
}

/// The partitions of a request, each once: as in Kafka the last one counts.
fn wanted_of(topics: &[FetchTopic]) -> Vec<FetchWanted> {
    let mut wanted: Vec<FetchWanted> = Vec::new();
    let mut places = HashMap::new();
    for topic in topics {
        for partition in &topic.partitions {
            let key = FetchKey {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
            };
            let one = FetchWanted {
                key,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                fetch_offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
            };
            match places.entry(one.key.clone()) {
                Entry::Occupied(at) => wanted[*at.get()] = one,
                Entry::Vacant(place) => {
                    place.insert(wanted.len());
                    wanted.push(one);
                }
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_protocol::fetch::{FetchPartition, ForgottenTopic};

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: "t".into(),
            partitions: partitions.iter().map(partition).collect(),
            ..Default::default()
        };
        let topics = if partitions.is_empty() {
            Vec::new()
        } else {
            vec![topic]
        };
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics,
            ..Default::default()
        }
    }

    fn begin(sessions: &FetchSessions, request: &FetchRequest, at_s: u64) -> FetchContext {
        try_begin(sessions, request, at_s).unwrap()
    }

    fn try_begin(
        sessions: &FetchSessions,
        request: &FetchRequest,
        at_s: u64,
    ) -> Result<FetchContext, ErrorCode> {
        let mut ids = 100 + at_s as i32;
        sessions.begin(request, false, Duration::from_secs(at_s), || {
            ids += 1;
            ids
        })
    }

    fn key(partition: i32) -> FetchKey {
        FetchKey {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partition,
        }
    }

    fn offsets(context: &FetchContext) -> Vec<(i32, i64)> {
        context
            .wanted()
            .iter()
            .map(|w| (w.key.partition, w.fetch_offset))
            .collect()
    }

    #[test]
    fn a_session_remembers_what_the_consumer_does_not_repeat() {
        let sessions = FetchSessions::new(10);
        let id = begin(&sessions, &request(0, 0, &[(0, 5), (1, 6)]), 0).session_id();
        assert_ne!(id, 0);
        let second = begin(&sessions, &request(id, 1, &[(1, 9)]), 1);
        assert_eq!(offsets(&second), [(0, 5), (1, 9)]);
        let mut third = request(id, 2, &[]);
        third.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![0],
            ..Default::default()
        }];
        assert_eq!(offsets(&begin(&sessions, &third, 2)), [(1, 9)]);
    }

    #[test]
    fn a_partition_that_is_named_twice_is_wanted_once() {
        let sessions = FetchSessions::new(10);
        let wanted = [(0, 5), (1, 6), (0, 7)];
        let sessionless = begin(&sessions, &request(0, -1, &wanted), 0);
        assert_eq!(offsets(&sessionless), [(0, 7), (1, 6)]);
        let first = begin(&sessions, &request(0, 0, &wanted), 0);
        assert_eq!(offsets(&first), [(0, 7), (1, 6)]);
    }

    #[test]
    fn only_what_changed_is_told_and_who_had_records_goes_last() {
        let sessions = FetchSessions::new(10);
        let first = begin(&sessions, &request(0, 0, &[(0, 0), (1, 0)]), 0);
        let told = Told {
            high_watermark: 3,
            ..Told::default()
        };
        assert!(first.include(&key(0), told, true));
        assert!(first.include(&key(1), told, false));
        let id = first.session_id();
        let second = begin(&sessions, &request(id, 1, &[]), 1);
        assert_eq!(offsets(&second), [(1, 0), (0, 0)]);
        assert!(!second.include(&key(0), told, false));
        assert!(second.include(
            &key(1),
            Told {
                high_watermark: 4,
                ..told
            },
            false
        ));
        let error = Told {
            error_code: 3,
            ..told
        };
        assert!(second.include(&key(1), error, false));
        assert!(
            second.include(&key(1), error, false),
            "an error is repeated"
        );
    }

    #[test]
    fn wrong_ids_epochs_and_kinds_are_refused() {
        let sessions = FetchSessions::new(10);
        let id = begin(&sessions, &request(0, 0, &[(0, 0)]), 0).session_id();
        let refusal = |request: &FetchRequest| try_begin(&sessions, request, 1).err();
        assert_eq!(
            refusal(&request(id + 1, 1, &[])),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(
            refusal(&request(id, 2, &[])),
            Some(ErrorCode::InvalidFetchSessionEpoch)
        );
        let by_id = sessions.begin(&request(id, 1, &[]), true, Duration::ZERO, || 1);
        assert_eq!(by_id.err(), Some(ErrorCode::FetchSessionTopicIdError));
        // The final epoch ends it.
        begin(&sessions, &request(id, -1, &[]), 2);
        assert_eq!(
            refusal(&request(id, 1, &[])),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn the_number_of_sessions_is_bounded_and_stale_ones_go_first() {
        let sessions = FetchSessions::new(2);
        let first = begin(&sessions, &request(0, 0, &[(0, 0)]), 0).session_id();
        let second = begin(&sessions, &request(0, 0, &[(0, 0)]), 1).session_id();
        assert_eq!(
            begin(&sessions, &request(0, 0, &[(0, 0)]), 60).session_id(),
            0,
            "both are fresh"
        );
        begin(&sessions, &request(second, 1, &[]), 61);
        assert_ne!(
            begin(&sessions, &request(0, 0, &[(0, 0)]), 125).session_id(),
            0
        );
        let gone = try_begin(&sessions, &request(first, 1, &[]), 126).err();
        assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(sessions.figures(), (2, 1));
        // The second is old and smaller than this one.
        assert_ne!(
            begin(&sessions, &request(0, 0, &[(0, 0), (1, 0)]), 127).session_id(),
            0
        );
    }
}
