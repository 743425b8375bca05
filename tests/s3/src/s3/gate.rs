//! The gate before every operation: who may pass, and which fault goes with the request.
//!
//! s3s asks it once it has verified the signature and knows the operation, before anything happens.

use std::sync::{Arc, OnceLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Result, s3_error};

use crate::fault::Fault;
use crate::plan::Plan;

/// Lets requests through, and draws their faults.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) plan: Arc<Plan>,
    pub(crate) accept_unsigned: bool,
}

/// A request whose operation is known.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) op: String,
    /// "" where the operation is not on one object.
    pub(crate) key: String,
    pub(crate) fault: Option<Fault>,
}

/// Carries what the gate found out, in the request's extensions, to the operation and to the exchange.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<OnceLock<Admitted>>);

impl Slot {
    /// None until the gate has seen the request, and for ever if s3s turned it away before.
    pub(crate) fn admitted(&self) -> Option<&Admitted> {
        self.0.get()
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let op = cx.s3_op().name().to_owned();
        let key = cx
            .s3_path()
            .as_object()
            .map_or("", |(_, key)| key)
            .to_owned();
        let may_pass = self.accept_unsigned || cx.credentials().is_some();
        let fault = if may_pass {
            self.plan.draw(&op, &key)
        } else {
            None
        };
        let verdict = match &fault {
            _ if !may_pass => Err(s3_error!(AccessDenied, "the request is not signed")),
            Some(Fault::Status(answer)) => Err(answer.to_error()),
            // The exchange never sends this answer; it only keeps the operation from happening.
            Some(Fault::Hang { .. }) => Err(s3_error!(RequestTimeout)),
            _ => Ok(()),
        };
        if let Some(slot) = cx.extensions_mut().get::<Slot>() {
            slot.0.get_or_init(|| Admitted { op, key, fault });
        }
        verdict
    }
}
