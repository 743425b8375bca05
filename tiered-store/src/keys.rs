//! Names of objects in the bucket, below the prefix of `--tier-url`. They are derived from ids, never stored.
//!
//! ```text
//! claims/<incarnation:020>
//! probes/<ulid>
//! <cluster>/pages/<topic-id>/<partition>/<first:020>-<hash:016x>
//! <cluster>/data/<ulid>.obj
//! ```

use object_store::path::Path;
use tidemill_records::{ObjectId, RemoteObject};
use uuid::Uuid;

/// The claim of an incarnation.
pub(crate) fn claim(incarnation: u64) -> Path {
    Path::from(format!("claims/{incarnation:020}"))
}

/// Where those are.
pub(crate) fn probes() -> Path {
    Path::from("probes")
}

/// An object that is written and deleted again to see whether that is possible.
pub(crate) fn probe(id: ObjectId) -> Path {
    Path::from(format!("probes/{id}"))
}

/// An object of a cluster.
pub(crate) fn object(cluster: Uuid, object: &RemoteObject) -> Path {
    let cluster = cluster.simple();
    match object {
        RemoteObject::Data(id) => Path::from(format!("{cluster}/data/{id}.obj")),
        RemoteObject::Page {
            topic,
            partition,
            first,
            hash,
        } => {
            let (topic, first) = (topic.0.simple(), first.0);
            Path::from(format!(
                "{cluster}/pages/{topic}/{partition}/{first:020}-{hash:016x}"
            ))
        }
    }
}
