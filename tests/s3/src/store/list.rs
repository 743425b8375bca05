//! One page of a listing, as ListObjectsV2 gives it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::object::Object;

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    pub(crate) delimiter: Option<String>,
    /// Keys up to and with this one are left out.
    pub(crate) start_after: String,
    /// The last item of the page before; items up to and with it are left out.
    pub(crate) token: String,
    pub(crate) items_max: usize,
}

/// A key, or what several keys have in common up to a delimiter.
#[derive(Debug)]
pub(crate) enum Item {
    Object(String, Arc<Object>),
    CommonPrefix(String),
}

/// The answer.
#[derive(Debug)]
pub(crate) struct Page {
    /// In order of their names.
    pub(crate) items: Vec<Item>,
    pub(crate) is_truncated: bool,
}

impl Item {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::CommonPrefix(name) => name,
        }
    }
}

pub(super) fn page(objects: &BTreeMap<String, Arc<Object>>, query: &Query) -> Page {
    let first = query
        .prefix
        .as_str()
        .max(&query.start_after)
        .max(&query.token);
    let mut items: Vec<Item> = Vec::new();
    let keys = objects.range::<str, _>((Bound::Included(first), Bound::Unbounded));
    for (key, object) in keys.take_while(|(key, _)| key.starts_with(&query.prefix)) {
        let item = item(key, object, query);
        let is_before = *key <= query.start_after && !query.start_after.is_empty();
        let is_on_page_before = item.name() <= query.token.as_str() && !query.token.is_empty();
        let is_known = items.last().is_some_and(|last| last.name() == item.name());
        if is_before || is_on_page_before || is_known {
            continue;
        }
        if items.len() == query.items_max {
            return Page {
                items,
                is_truncated: query.items_max > 0,
            };
        }
        items.push(item);
    }
    Page {
        items,
        is_truncated: false,
    }
}

fn item(key: &str, object: &Arc<Object>, query: &Query) -> Item {
    let rest = &key[query.prefix.len()..];
    let common = query
        .delimiter
        .as_ref()
        .and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
    match common {
        Some(len) => Item::CommonPrefix(key[..query.prefix.len() + len].to_owned()),
        None => Item::Object(key.to_owned(), Arc::clone(object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::store::object::{Attributes, etag};
    use bytes::Bytes;
    use s3s::dto::Checksum;

    fn objects(keys: &[&str]) -> BTreeMap<String, Arc<Object>> {
        let budget = Budget::new(0);
        let object = |_| {
            let charge = budget.charge(0).unwrap();
            let body = Bytes::new();
            Object::new(
                body,
                etag(b""),
                Attributes::default(),
                Checksum::default(),
                charge,
            )
        };
        keys.iter()
            .map(|key| ((*key).to_owned(), Arc::new(object(key))))
            .collect()
    }

    /// All pages, with names of each.
    fn pages(keys: &[&str], mut query: Query) -> Vec<Vec<String>> {
        let objects = objects(keys);
        let mut pages = Vec::new();
        loop {
            let page = page(&objects, &query);
            let names: Vec<_> = page
                .items
                .iter()
                .map(|item| item.name().to_owned())
                .collect();
            query.token = names.last().cloned().unwrap_or_default();
            pages.push(names);
            if !page.is_truncated {
                return pages;
            }
        }
    }

    #[test]
    fn prefix_and_pages() {
        let query = Query {
            prefix: "a/".into(),
            items_max: 2,
            ..Query::default()
        };
        let found = pages(&["a", "a/1", "a/2", "a/3", "b/1"], query);
        assert_eq!(found, [vec!["a/1", "a/2"], vec!["a/3"]]);
    }

    #[test]
    fn start_after() {
        let query = Query {
            start_after: "a/2".into(),
            items_max: 9,
            ..Query::default()
        };
        assert_eq!(
            pages(&["a/1", "a/2", "a/3", "b/1"], query),
            [vec!["a/3", "b/1"]]
        );
    }

    #[test]
    fn delimiter() {
        let delimiter = Some("/".to_owned());
        let query = Query {
            delimiter,
            items_max: 1,
            ..Query::default()
        };
        let found = pages(&["a-x", "a/1", "a/2", "b", "c/1"], query);
        assert_eq!(found, [["a-x"], ["a/"], ["b"], ["c/"]]);
    }

    #[test]
    fn no_keys_wanted() {
        let query = Query::default();
        assert_eq!(pages(&["a"], query), [Vec::<String>::new()]);
    }
}
