//! What a store must be able to do, tried out.

use futures_util::future::join_all;
use tidemill_records::ObjectId;

use crate::error::StoreError;
use crate::keys;
use crate::tiered_store::TieredStore;

/// Writers that race for one key, and how often.
const RACERS: usize = 8;
const RACES: usize = 3;

/// Why a store cannot carry a tier.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Something failed on the way.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two conditional writes of one key were both told that they had created it.
    #[error(
        "it has no atomic conditional PUT (If-None-Match), so two clusters could both own it; use another store, or start with \
         --tier-sole-owner if nobody else will ever write there"
    )]
    NotAtomic,
}

impl TieredStore {
    /// Lets several writers create one key at the same time: exactly one may win.
    pub async fn probe_conditional_put(&self, random: u64) -> Result<(), ProbeError> {
        for race in 0..RACES {
            let key = keys::probe(ObjectId(u128::from(random) << 8 | race as u128));
            let races = (0..RACERS).map(|racer| {
                let (this, key) = (self.clone(), key.clone());
                let body = format!("probe {racer}").into_bytes();
                self.run(async move { this.inner.store.create(&key, body.into()).await })
            });
            let results = join_all(races).await;
            let (this, probe) = (self.clone(), key.clone());
            self.run(async move { this.inner.store.delete(&probe).await })
                .await?;
            let mut won = 0;
            for result in results {
                match result {
                    Ok(()) => won += 1,
                    Err(StoreError::Exists { .. }) => {}
                    // S3 may answer a race with 409 and ask to try again: that one has not won.
                    Err(error) if error.is_conflict() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if won > 1 {
                return Err(ProbeError::NotAtomic);
            }
        }
        Ok(())
    }
}
