//! Random histories of one group, with what must hold after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidemill_protocol::ErrorCode;

use super::rig::{Answer, Client, Rig};
use crate::group::classic::{
    ClassicGroup, GroupState, JoinReply, LeavingMember, SyncReply, SyncRequest,
};

const CLIENTS: usize = 5;

#[derive(Debug, Clone)]
enum Event {
    Join {
        client: usize,
        forget_id: bool,
        changed: bool,
    },
    Sync {
        client: usize,
        stale: bool,
    },
    Heartbeat {
        client: usize,
        stale: bool,
    },
    Leave {
        client: usize,
    },
    Pass {
        ms: u64,
    },
    Store {
        fails: bool,
    },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..CLIENTS;
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        8 => (client.clone(), rarely(), rarely()).prop_map(|(client, forget_id, changed)| {
            Event::Join { client, forget_id, changed }
        }),
        6 => (client.clone(), rarely()).prop_map(|(client, stale)| Event::Sync { client, stale }),
        3 => (client.clone(), rarely())
            .prop_map(|(client, stale)| Event::Heartbeat { client, stale }),
        1 => client.prop_map(|client| Event::Leave { client }),
        4 => (0..12_000_u64).prop_map(|ms| Event::Pass { ms }),
        6 => prop::bool::weighted(0.15).prop_map(|fails| Event::Store { fails }),
        1 => Just(Event::Restart),
    ]
}

/// What a client knows; clients 3 and 4 are static members.
#[derive(Default)]
struct Known {
    member_id: String,
    generation: i32,
    is_leader: bool,
    members: Vec<String>,
}

/// The world around the group.
struct World {
    rig: Rig,
    clients: Vec<Known>,
    joins: Vec<(usize, Answer<JoinReply>)>,
    syncs: Vec<(usize, i32, Answer<SyncReply>)>,
    asked: usize,
    answered: usize,
    /// (generation, share) to the client that works on it. A restart may bring a generation's number
    /// back, but only of one whose shares were never handed out.
    owners: BTreeMap<(i32, String), usize>,
    /// Clients that were told to lead a generation.
    leaders: BTreeMap<i32, BTreeSet<usize>>,
    last_generation: i32,
}

impl World {
    fn new() -> Self {
        Self {
            rig: Rig::new(),
            clients: (0..CLIENTS).map(|_| Known::default()).collect(),
            joins: Vec::new(),
            syncs: Vec::new(),
            asked: 0,
            answered: 0,
            owners: BTreeMap::new(),
            leaders: BTreeMap::new(),
            last_generation: 0,
        }
    }

    fn client(&self, index: usize, changed: bool) -> Client {
        let client = Client::new(&format!("c{index}"));
        let client = if index >= 3 {
            client.instance(&format!("i{index}"))
        } else {
            client
        };
        let client = if index == 0 { client.old() } else { client };
        let client = if index == 4 {
            client.skips_assignment()
        } else {
            client
        };
        if changed {
            client.metadata("changed")
        } else {
            client
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Join {
                client,
                forget_id,
                changed,
            } => {
                if forget_id {
                    self.clients[client].member_id.clear();
                }
                let joining = self
                    .client(client, changed)
                    .with_id(&self.clients[client].member_id);
                let answer = self.rig.join(&joining);
                self.asked += 1;
                self.joins.push((client, answer));
            }
            Event::Sync { client, stale } => self.sync(client, stale),
            Event::Heartbeat { client, stale } => {
                let known = &self.clients[client];
                let generation = known.generation - i32::from(stale);
                let (id, is_member) = (known.member_id.clone(), !known.member_id.is_empty());
                let outcome = self.rig.heartbeat(&id, generation);
                assert!(is_member || outcome == Err(ErrorCode::UnknownMemberId));
            }
            Event::Leave { client } => {
                let member_id = self.clients[client].member_id.as_str().into();
                let leaving = LeavingMember {
                    member_id,
                    group_instance_id: None,
                    reason: "".into(),
                };
                self.rig.leave(&[leaving]);
            }
            Event::Pass { ms } => self.rig.advance(Duration::from_millis(ms)),
            Event::Store { fails } => {
                if self.rig.stores_waiting() > 0 {
                    let failure = Err(ErrorCode::NotEnoughReplicas);
                    self.rig.store(if fails { failure } else { Ok(()) });
                }
            }
            Event::Restart => self.restart(),
        }
        self.collect();
        self.check();
    }

    fn sync(&mut self, client: usize, stale: bool) {
        let known = &self.clients[client];
        let share = |id: &String| {
            (
                id.as_str().into(),
                format!("share {id} by {}", known.member_id).into(),
            )
        };
        let assignments = if known.is_leader {
            known.members.iter().map(share).collect()
        } else {
            BTreeMap::new()
        };
        let generation = known.generation - i32::from(stale);
        let request = SyncRequest {
            member_id: known.member_id.as_str().into(),
            group_instance_id: None,
            generation,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments,
        };
        let answer = self.rig.sync_request(request);
        self.asked += 1;
        self.syncs.push((client, generation, answer));
    }

    /// The coordinator moves: the new one knows what the log has.
    fn restart(&mut self) {
        if self.rig.has_stored() {
            let next = self.rig.reload();
            self.rig.retire();
            self.rig = next;
            self.last_generation = self.rig.group.generation;
            // A generation that was not stored did not begin.
            self.leaders
                .retain(|generation, _| *generation <= self.last_generation);
        }
    }

    fn collect(&mut self) {
        for (client, mut answer) in std::mem::take(&mut self.joins) {
            match answer.poll() {
                None => self.joins.push((client, answer)),
                Some(reply) => self.joined(client, reply),
            }
        }
        for (client, generation, mut answer) in std::mem::take(&mut self.syncs) {
            match answer.poll() {
                None => self.syncs.push((client, generation, answer)),
                Some(reply) => {
                    self.answered += 1;
                    if let Ok(synced) = reply {
                        self.synced(client, generation, &synced.assignment);
                    }
                }
            }
        }
    }

    fn joined(&mut self, client: usize, reply: JoinReply) {
        self.answered += 1;
        let known = &mut self.clients[client];
        match reply {
            Ok(joined) => {
                known.member_id = joined.member_id.to_string();
                known.generation = joined.generation;
                known.is_leader = joined.leader == joined.member_id && !joined.skip_assignment;
                let ids = joined
                    .members
                    .iter()
                    .map(|member| member.member_id.to_string());
                known.members = ids.collect();
                if known.is_leader {
                    let leaders = self.leaders.entry(joined.generation).or_default();
                    leaders.insert(client);
                    assert_eq!(
                        leaders.len(),
                        1,
                        "two leaders of generation {}",
                        joined.generation
                    );
                }
            }
            Err(refusal) => match refusal.code {
                ErrorCode::MemberIdRequired => known.member_id = refusal.member_id.to_string(),
                ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                    known.member_id.clear();
                }
                _ => {}
            },
        }
    }

    /// Within a generation every share has one owner, and it is the leader's word that says which.
    fn synced(&mut self, client: usize, generation: i32, assignment: &[u8]) {
        let share = String::from_utf8(assignment.to_vec()).expect("shares are text");
        if share.is_empty() {
            return;
        }
        let owner = *self
            .owners
            .entry((generation, share.clone()))
            .or_insert(client);
        assert_eq!(
            owner, client,
            "generation {generation}: {share:?} has two owners"
        );
    }

    fn check(&mut self) {
        let generation = self.rig.group.generation;
        assert!(generation >= self.last_generation, "a generation went back");
        self.last_generation = generation;
        let waiting = self.joins.len() + self.syncs.len();
        assert_eq!(
            self.asked,
            self.answered + waiting,
            "every request has one answer"
        );
    }
}

impl ClassicGroup {
    /// What holds between any two events.
    pub(super) fn check(&self) {
        let members = &self.members;
        match &self.leader {
            Some(leader) => assert!(members.contains_key(leader), "the leader is a member"),
            None => assert!(members.is_empty(), "members have a leader"),
        }
        match self.state {
            GroupState::Empty => assert!(members.is_empty()),
            GroupState::CompletingRebalance | GroupState::Stable => {
                let protocol = self
                    .protocol_name
                    .as_deref()
                    .expect("a generation has a protocol");
                assert!(!members.is_empty());
                assert!(
                    members
                        .values()
                        .all(|member| member.terms.protocol(protocol).is_some())
                );
            }
            GroupState::PreparingRebalance => {
                assert!(members.values().all(|member| !member.is_awaiting_sync()));
                assert!(self.join_timer.is_some(), "a rebalance ends by itself");
            }
            GroupState::Dead => {}
        }
        if self.state == GroupState::CompletingRebalance {
            assert!(members.values().all(|member| !member.is_awaiting_join()));
        }
        if self.state == GroupState::Stable {
            assert!(members.values().all(|member| !member.is_awaiting_sync()));
        }
        for (instance, id) in &self.static_members {
            assert_eq!(members[id].group_instance_id.as_ref(), Some(instance));
        }
        let is_static = members.values().filter(|member| member.is_static()).count();
        assert_eq!(is_static, self.static_members.len());
        assert!(self.pending_sync.iter().all(|id| members.contains_key(id)));
        assert!(self.pending.keys().all(|id| !members.contains_key(id)));
        let mut support = BTreeMap::new();
        for protocol in members.values().flat_map(|member| &member.terms.protocols) {
            *support.entry(protocol.name.clone()).or_insert(0) += 1;
        }
        assert_eq!(support, self.support);
        let size: usize = members
            .iter()
            .map(|(id, member)| member.size_bytes(id))
            .sum();
        let pending: usize = self
            .pending
            .keys()
            .map(|id| super::super::pending_size_bytes(id))
            .sum();
        assert_eq!(self.size_bytes, self.id.len() + size + pending);
        let next = self.next_deadline();
        assert!(next.is_none() || self.wake_at <= next, "no timer is missed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_the_promises(events in prop::collection::vec(event(), 1..150)) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
        }
        // Left alone, everything ends: sessions run out, and nobody waits any more.
        world.rig.store_all();
        for _ in 0..20 {
            world.rig.advance(Duration::from_secs(60));
            world.rig.store_all();
        }
        world.collect();
        world.check();
        prop_assert_eq!(world.rig.group.state(), GroupState::Empty);
        prop_assert_eq!(world.asked, world.answered);
    }
}
