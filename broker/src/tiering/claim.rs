//! Who owns the tier. Each life of a cluster has an incarnation, and a claim in the bucket that nobody can write twice.
//!
//! A cluster that was restored from the bucket claims the next incarnation; the one before sees that claim and keeps its hands
//! off from then on.

use std::sync::atomic::Ordering;

use tidemill_metadata::{Command, Metadata, MetadataLog, ProposeError};
use tidemill_tiered_store::{Claim, OpenError, ProbeError, StoreError, TierUrl};
use uuid::Uuid;

use super::Tier;
use crate::broker::Broker;
use crate::random::Random;

/// Why a broker cannot use its tier.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// The cluster has data in a tier and was started without one.
    #[error(
        "this cluster has a tier, which may hold its older records; start with the same --tier-url"
    )]
    Missing,
    /// A tier that a restart would lose.
    #[error(
        "memory:// is lost at a restart, and the records that were trimmed with it; for trying things out add --dev"
    )]
    Volatile,
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store refuses what a tier needs.
    #[error("cannot use the tier {url}: {source}{}", .source.hint().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Store {
        /// The tier.
        url: TierUrl,
        /// What happened.
        source: StoreError,
    },
    /// Two writers could both win.
    #[error("cannot use the tier {url}: {source}")]
    Probe {
        /// The tier.
        url: TierUrl,
        /// What happened.
        source: ProbeError,
    },
    /// Another cluster owns the prefix.
    #[error(
        "the tier {url} belongs to the cluster {owner}; give this one a prefix of its own with --tier-url"
    )]
    Foreign {
        /// The tier.
        url: TierUrl,
        /// Whose it is.
        owner: Uuid,
    },
    /// The cluster's claim is not there.
    #[error(
        "the tier {url} has no claim of this cluster: it is not the one that its records are in; check --tier-url"
    )]
    OtherTier {
        /// The tier.
        url: TierUrl,
    },
    /// A later life of the cluster owns it.
    #[error(
        "the cluster was restored elsewhere as incarnation {newer}, which owns the tier {url} now; this one must not run"
    )]
    Superseded {
        /// The tier.
        url: TierUrl,
        /// The newer incarnation.
        newer: u64,
    },
    /// The metadata does not take the claim.
    #[error("cannot note the claim of the tier: {0}")]
    Metadata(#[from] ProposeError),
}

impl TierError {
    /// Whether a broker may start all the same and try again. One that has had its tier before serves what is on its disk, whatever
    /// the store says; one that begins with it is told at once what it was given wrong.
    fn may_pass(&self, has_tier: bool) -> bool {
        matches!(self, Self::Store { source, .. } if has_tier || source.is_outage())
    }
}

impl Tier {
    /// Claims the tier or finds it claimed. A store that cannot be reached does not keep a broker from starting: what is on its
    /// disk can be served.
    pub(super) async fn claim_at_start(
        &self,
        metadata: &Metadata,
        random: &Random,
    ) -> Result<(), TierError> {
        match self.claim(metadata, random).await {
            Ok(()) => Ok(()),
            Err(error) if error.may_pass(metadata.image().tier_incarnation() > 0) => {
                self.counts.failed(&error);
                tracing::error!("starting without the tier, which is tried again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tries again what failed at start.
    pub(super) async fn claim_again(&self, broker: &Broker) -> bool {
        match self.claim(&broker.metadata, &broker.random).await {
            Ok(()) => {
                self.counts.succeeded();
                tracing::info!("the tier can be used again");
                true
            }
            Err(error) => {
                self.counts.failed(&error);
                false
            }
        }
    }

    async fn claim(&self, metadata: &Metadata, random: &Random) -> Result<(), TierError> {
        let image = metadata.image();
        let url = self.url();
        let store_error = |source| TierError::Store {
            url: self.url().clone(),
            source,
        };
        let known = image.tier_incarnation();
        let incarnation = known.max(1);
        let found = self
            .store
            .claim_of(incarnation)
            .await
            .map_err(store_error)?;
        let claim = match found {
            Some(claim) => claim,
            None if known > 0 => return Err(TierError::OtherTier { url: url.clone() }),
            None => {
                let probed = self.store.probe_conditional_put(random.next_u64()).await;
                match probed {
                    Ok(()) => {}
                    Err(ProbeError::NotAtomic) if self.config.sole_owner => {}
                    Err(ProbeError::Store(source)) => return Err(store_error(source)),
                    Err(source) => {
                        return Err(TierError::Probe {
                            url: url.clone(),
                            source,
                        });
                    }
                }
                let claim = Claim {
                    cluster: image.cluster_id(),
                    incarnation,
                    id: random.next_uuid(),
                };
                self.store.claim(claim).await.map_err(store_error)?
            }
        };
        if claim.cluster != image.cluster_id() {
            return Err(TierError::Foreign {
                url: url.clone(),
                owner: claim.cluster,
            });
        }
        self.check_not_superseded(incarnation).await?;
        if known == 0 {
            metadata.propose(Command::ClaimTier { incarnation }).await?;
        }
        self.is_claimed.store(true, Ordering::Release);
        Ok(())
    }

    async fn check_not_superseded(&self, incarnation: u64) -> Result<(), TierError> {
        let newer = incarnation + 1;
        match self.store.claim_of(newer).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(TierError::Superseded {
                url: self.url().clone(),
                newer,
            }),
            Err(source) => Err(TierError::Store {
                url: self.url().clone(),
                source,
            }),
        }
    }

    /// Whether the cluster still owns the tier: asked before anything is deleted, here or there.
    pub(super) async fn still_owns(&self, broker: &Broker) -> bool {
        let incarnation = broker.metadata.image().tier_incarnation();
        match self.check_not_superseded(incarnation).await {
            Ok(()) => {
                self.counts.succeeded();
                true
            }
            Err(error) => {
                if matches!(error, TierError::Superseded { .. }) {
                    self.is_claimed.store(false, Ordering::Release);
                }
                self.counts.failed(&error);
                false
            }
        }
    }

    pub(super) fn url(&self) -> &TierUrl {
        self.config.url.as_ref().expect("a tier has an address")
    }
}
