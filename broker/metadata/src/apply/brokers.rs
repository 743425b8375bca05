//! Registering, fencing and unfencing brokers.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_records::NodeId;

use super::{check_level, election};
use crate::command::{Command, LabelFault, Outcome, Rejection};
use crate::image::{BrokerEpoch, BrokerImage, Listener, MetadataImage};
use crate::limits::{LABEL_BYTES_MAX, LISTENERS_MAX};

pub(super) fn known(image: &MetadataImage, node: NodeId) -> Result<&BrokerImage, Rejection> {
    image.broker(node).ok_or(Rejection::UnknownBroker(node))
}

/// The broker, if `epoch` is its registration.
pub(super) fn current(
    image: &MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
) -> Result<&BrokerImage, Rejection> {
    let broker = known(image, node)?;
    if broker.epoch != epoch {
        return Err(Rejection::StaleBrokerEpoch(broker.epoch));
    }
    Ok(broker)
}

pub(super) fn register(image: &mut MetadataImage, command: &Command) -> Result<Outcome, Rejection> {
    let Command::RegisterBroker {
        node,
        incarnation,
        directory,
        rack,
        listeners,
        levels,
        fenced,
    } = command
    else {
        unreachable!("only registrations come here");
    };
    let node = *node;
    if node.0 < 0 {
        return Err(Rejection::InvalidNodeId(node));
    }
    check_labels(rack.as_deref(), listeners)?;
    check_level(node, *levels, image.level)?;
    let before = image.broker(node).cloned();
    let again = before
        .as_ref()
        .filter(|before| before.incarnation == *incarnation);
    let new_epoch = BrokerEpoch(i64::try_from(image.index).expect("indexes are counted up from 0"));
    let epoch = again.map_or(new_epoch, |before| before.epoch);
    let broker = BrokerImage {
        id: node,
        incarnation: *incarnation,
        directory: *directory,
        epoch,
        fenced: again.map_or(*fenced, |before| before.fenced),
        rack: rack.clone(),
        listeners: listeners.as_slice().into(),
        levels: *levels,
    };
    image.brokers.insert_mut(node, Arc::new(broker));
    if again.is_none() {
        let was_live = before.is_some_and(|before| !before.fenced);
        match (was_live, *fenced) {
            (true, true) => election::fence(image, node),
            (true, false) => election::restart(image, node),
            (false, false) => election::unfence(image, node),
            (false, true) => {}
        }
    }
    Ok(Outcome::BrokerRegistered(epoch))
}

pub(super) fn set_fenced(
    image: &mut MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    fenced: bool,
) -> Result<Outcome, Rejection> {
    let broker = current(image, node, epoch)?;
    if broker.fenced != fenced {
        let broker = BrokerImage {
            fenced,
            ..broker.clone()
        };
        image.brokers.insert_mut(node, Arc::new(broker));
        if fenced {
            election::fence(image, node);
        } else {
            election::unfence(image, node);
        }
    }
    Ok(Outcome::Done)
}

fn check_labels(rack: Option<&str>, listeners: &[Listener]) -> Result<(), LabelFault> {
    let names: BTreeSet<_> = listeners.iter().map(|listener| &listener.name).collect();
    if names.len() != listeners.len() || !(1..=LISTENERS_MAX).contains(&names.len()) {
        return Err(LabelFault::Listeners);
    }
    let hosts = listeners.iter().map(|listener| &listener.host);
    let labels = names.into_iter().chain(hosts).map(|label| label.len());
    match labels
        .chain(rack.map(str::len))
        .find(|len| !(1..=LABEL_BYTES_MAX).contains(len))
    {
        Some(bytes) => Err(LabelFault::Bytes(bytes)),
        None => Ok(()),
    }
}
