//! How many bytes the double may hold.
//!
//! A test that loops must not take the machine with it, so every body is charged to one account from
//! its arrival until the object that it became is gone.

use std::sync::Arc;

use hyper::StatusCode;
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode};

/// The account.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: u64,
    bytes_used: Mutex<u64>,
}

/// Bytes taken from a budget; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes_used: Mutex::new(0),
        })
    }

    /// Takes `bytes`, or refuses with status 507 and the code `StorageFull`.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, S3Error> {
        let mut used = self.bytes_used.lock();
        match used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max) {
            Some(sum) => *used = sum,
            None => return Err(self.full(*used, bytes)),
        }
        Ok(Charge {
            budget: Arc::clone(self),
            bytes,
        })
    }

    fn full(&self, used: u64, wanted: u64) -> S3Error {
        let message = format!(
            "the double holds {used} of at most {} bytes and cannot take {wanted} more: delete \
             objects or raise Settings::memory_bytes_max (--memory-bytes-max)",
            self.bytes_max
        );
        let code = S3ErrorCode::Custom("StorageFull".into());
        let mut error = S3Error::with_message(code, message);
        error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
        error
    }
}

impl Charge {
    /// Takes `bytes` more into this charge.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), S3Error> {
        let mut more = self.budget.charge(bytes)?;
        self.bytes += std::mem::take(&mut more.bytes);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.budget.bytes_used.lock() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_come_back_when_dropped() {
        let budget = Budget::new(10);
        let mut charge = budget.charge(6).unwrap();
        charge.grow(4).unwrap();
        let refusal = budget.charge(1).unwrap_err();
        assert_eq!(refusal.code().as_str(), "StorageFull");
        drop(charge);
        assert!(budget.charge(10).is_ok());
    }
}
