//! Producer ids for idempotent producers, out of blocks that the metadata log hands out.

use std::ops::Range;

use tidemill_metadata::{Command, MetadataLog, Outcome, ProposeError};
use tidemill_records::ProducerId;
use tokio::sync::Mutex;

use crate::broker::Broker;

/// The unused rest of this broker's block. What is left at a restart is never given out (KIP-730).
#[derive(Debug, Default)]
pub(crate) struct ProducerIds(Mutex<Range<i64>>);

impl ProducerIds {
    /// An id that nobody else ever gets.
    pub(crate) async fn next(&self, broker: &Broker) -> Result<ProducerId, ProposeError> {
        // Held over the proposal on purpose: who comes meanwhile wants the same new block.
        let mut block = self.0.lock().await;
        if let Some(id) = block.next() {
            return Ok(ProducerId(id));
        }
        let command = Command::AllocateProducerIds {
            node: broker.node(),
            epoch: broker.epoch,
        };
        let outcome = broker.metadata.propose(command).await?;
        if let Outcome::ProducerIds { first, count } = outcome {
            *block = first.0..first.0 + i64::from(count);
        }
        Ok(ProducerId(block.next().expect("a block is never empty")))
    }
}
