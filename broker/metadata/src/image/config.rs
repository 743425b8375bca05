//! Configuration that differs from the defaults, per resource. Which keys exist and what they mean is
//! the broker's business; here they are text.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_records::NodeId;

/// What a configuration belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic by name.
    Topic(Arc<str>),
    /// One broker.
    Broker(NodeId),
    /// Every broker that has no value of its own.
    DefaultBroker,
}

/// The keys that one resource sets, in order. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configs {
    values: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

impl Configs {
    /// The value of `key`, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| &**value)
    }

    /// All keys that are set, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many keys are set.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no key is set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(crate) fn set(&mut self, key: Arc<str>, value: Option<Arc<str>>) {
        let values = Arc::make_mut(&mut self.values);
        match value {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
}
