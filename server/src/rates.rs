//! How often one identity may call this server.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use niks3_protocol::server_config::LimitsSection;

/// Identities come and go with the jobs of a CI: from so many on, those are forgotten that did not call lately.
const REMEMBERED: usize = 10_000;

/// The calls of each identity.
#[derive(Debug, Default)]
pub struct Rates(Option<RateLimiter<String, HashMapStateStore<String>, DefaultClock>>);

impl Rates {
    /// As the configuration says.
    pub fn new(limits: &LimitsSection) -> Self {
        let rate = NonZeroU32::new(limits.calls_per_second).zip(NonZeroU32::new(limits.calls_burst));
        Self(rate.map(|(rate, burst)| RateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst))))
    }

    /// Notes a call, or says how long to wait before it.
    pub fn check(&self, identity: &str) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(&identity.to_owned()).map_err(|early| early.wait_time_from(limiter.clock().now()))
    }
}
