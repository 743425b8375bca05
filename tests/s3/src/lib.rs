//! An S3 server for tests that fails on demand.
//!
//! Real stores lose answers, repeat them, answer 503 in bursts, cut bodies and, some of them, do not
//! know an atomic conditional PUT. Servers that are made to store things do none of that when asked to.
//! This one keeps objects in memory, is atomic unless told otherwise, and takes a list of [`Faults`].
//!
//! In process it is an [`S3Double`]; as a process it is the binary `s3-double` with a control port.

#![allow(
    clippy::disallowed_methods,
    reason = "the double stands for a foreign server: it has a real clock, real files and real sockets"
)]

mod answer;
mod budget;
mod control;
mod exchange;
mod fault;
mod journal;
mod listen;
mod plan;
mod s3;
mod settings;
mod store;
mod tasks;

pub use fault::{ErrorAnswer, ErrorStatus, Fault, Faults, NotAnError, Rule, Seeded};
pub use journal::{Entry, LOG_ENTRIES_MAX, Requests};
pub use settings::{Settings, StartError};
pub use store::ObjectSummary;
pub use store::files::LoadError;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use s3s::auth::SimpleAuth;
use s3s::s3_error;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::{AwsNameValidation, NameValidation};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::budget::Budget;
use crate::control::Control;
use crate::exchange::Exchanges;
use crate::s3::Api;
use crate::s3::gate::Gate;
use crate::store::Store;
use crate::store::files::Files;
use crate::tasks::Tasks;

/// A running double. Dropping it ends it; [`S3Double::stop`] also waits until its ports are free.
#[derive(Debug)]
pub struct S3Double {
    control: Arc<Control>,
    tasks: Arc<Tasks>,
    servers: JoinSet<()>,
    s3_address: SocketAddr,
    control_address: SocketAddr,
}

impl S3Double {
    /// Listens on 127.0.0.1, on two ports. Must be called in a tokio runtime with timers.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let budget = Budget::new(settings.memory_bytes_max);
        let files = settings.dir.as_deref().map(Files::open).transpose();
        let store = files.and_then(|files| Store::open(Arc::clone(&budget), files));
        let store = Arc::new(store.map_err(StartError::Load)?);
        create_buckets(&store, &settings.buckets)?;
        let (s3, s3_address) = listen(settings.port).await?;
        let (control_listener, control_address) = listen(0).await?;
        let tasks = Arc::new(Tasks::default());
        let control = Arc::new(Control {
            plan: Arc::default(),
            journal: Arc::default(),
            store,
            is_down: Arc::new(AtomicBool::new(false)),
        });
        let exchanges = Arc::new(Exchanges {
            service: service(&settings, &control, &tasks),
            journal: Arc::clone(&control.journal),
            budget,
            tasks: Arc::clone(&tasks),
            is_down: Arc::clone(&control.is_down),
            object_bytes_max: settings.object_bytes_max,
        });
        let is_down = Arc::clone(&control.is_down);
        let mut servers = JoinSet::new();
        servers.spawn(listen::serve_s3(
            s3,
            settings.connections_max,
            is_down,
            exchanges,
        ));
        servers.spawn(listen::serve_control(
            control_listener,
            Arc::clone(&control),
        ));
        Ok(Self {
            control,
            tasks,
            servers,
            s3_address,
            control_address,
        })
    }

    /// Where S3 is served.
    pub fn s3_address(&self) -> SocketAddr {
        self.s3_address
    }

    /// Where the control port is.
    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Replaces all faults; the counters of their rules start anew.
    pub fn set_faults(&self, faults: Faults) {
        self.control.plan.replace(faults);
    }

    /// While down, new connections are closed at once, and open ones at their next request.
    pub fn set_down(&self, is_down: bool) {
        self.control.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Counts of requests since the start or the last reset.
    pub fn requests(&self) -> Requests {
        self.control.journal.requests()
    }

    /// The last [`LOG_ENTRIES_MAX`] requests, oldest first.
    pub fn log(&self) -> Vec<Entry> {
        self.control.journal.log()
    }

    /// Starts counts and log anew.
    pub fn reset_requests(&self) {
        self.control.journal.reset();
    }

    /// The objects whose key starts with `prefix`, in order.
    pub fn objects(&self, prefix: &str) -> Vec<ObjectSummary> {
        self.control.store.summaries(prefix)
    }

    /// Ends the double; PUTs that are late on purpose never take effect.
    pub async fn stop(mut self) {
        self.servers.shutdown().await;
        self.tasks.stop().await;
    }
}

fn create_buckets(store: &Store, buckets: &[String]) -> Result<(), StartError> {
    for bucket in buckets {
        if !AwsNameValidation::new().validate_bucket_name(bucket) {
            let refusal = s3_error!(InvalidBucketName, "{bucket} is no name for a bucket");
            return Err(StartError::Bucket(refusal));
        }
        if store.check_bucket(bucket).is_err() {
            store.create_bucket(bucket).map_err(StartError::Bucket)?;
        }
    }
    Ok(())
}

async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let refuse = |error| StartError::Listen(port, error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((listener, address))
}

fn service(settings: &Settings, control: &Control, tasks: &Arc<Tasks>) -> S3Service {
    let api = Api {
        store: Arc::clone(&control.store),
        tasks: Arc::clone(tasks),
    };
    let mut builder = S3ServiceBuilder::new(api);
    builder.set_auth(SimpleAuth::from_single(
        settings.access_key.as_str(),
        settings.secret_key.as_str(),
    ));
    let plan = Arc::clone(&control.plan);
    builder.set_access(Gate {
        plan,
        accept_unsigned: settings.accept_unsigned,
    });
    builder.build()
}
