//! Configuration commands.

use std::sync::Arc;

use crate::command::{ConfigChange, Outcome, Rejection};
use crate::image::{ConfigResource, Configs, MIN_INSYNC_REPLICAS, MetadataImage};
use crate::limits::{CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIGS_PER_RESOURCE_MAX};

use super::{brokers, election};

pub(super) fn set(
    image: &mut MetadataImage,
    resource: &ConfigResource,
    changes: &[ConfigChange],
) -> Result<Outcome, Rejection> {
    match resource {
        ConfigResource::Topic(name) => {
            image.topic(name).ok_or(Rejection::UnknownTopic)?;
        }
        ConfigResource::Broker(node) => {
            brokers::known(image, *node)?;
        }
        ConfigResource::DefaultBroker => {}
    }
    change(
        image,
        resource,
        changes.iter().map(|(key, value)| (key, value.as_ref())),
    )?;
    if changes.iter().any(|(key, _)| &**key == MIN_INSYNC_REPLICAS) {
        election::forget_needless_elr(image, resource);
    }
    Ok(Outcome::Done)
}

/// Changes the keys of a resource that is known to exist.
pub(super) fn change<'a>(
    image: &mut MetadataImage,
    resource: &ConfigResource,
    changes: impl ExactSizeIterator<Item = (&'a Arc<str>, Option<&'a Arc<str>>)>,
) -> Result<(), Rejection> {
    if changes.len() > CONFIGS_PER_RESOURCE_MAX {
        return Err(Rejection::ConfigTooLarge);
    }
    let mut configs: Configs = image.configs_of(resource);
    for (key, value) in changes {
        let key_fits = (1..=CONFIG_KEY_BYTES_MAX).contains(&key.len());
        if !key_fits || value.is_some_and(|value| value.len() > CONFIG_VALUE_BYTES_MAX) {
            return Err(Rejection::ConfigTooLarge);
        }
        configs.set(Arc::clone(key), value.cloned());
    }
    if configs.len() > CONFIGS_PER_RESOURCE_MAX {
        return Err(Rejection::ConfigTooLarge);
    }
    if configs.is_empty() {
        image.configs.remove_mut(resource);
    } else {
        image.configs.insert_mut(resource.clone(), configs);
    }
    Ok(())
}
