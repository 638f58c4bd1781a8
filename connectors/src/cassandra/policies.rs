//! What the driver does for a request besides sending it once.
//!
//! All requests may be sent twice: reads, and writes that carry their timestamp.

use crate::options::Options;
use jobs::Diagnostic;
use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::policies::retry::{
    DefaultRetryPolicy, DowngradingConsistencyRetryPolicy, FallthroughRetryPolicy, RetryPolicy,
};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::Consistency;
use std::sync::Arc;
use std::time::Duration;

/// More replicas than any keyspace has.
const MOST: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    #[default]
    Usual,
    Never,
    Downgrade,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub retry: Retry,
    /// After how long another replica is asked as well, and how many of them.
    pub speculative: Option<(Duration, usize)>,
}

impl Policies {
    pub fn of(options: &Options<'_>) -> Result<Self, Diagnostic> {
        let retry = match options.one_of("retry.policy", &["default", "never", "downgrade_consistency"])? {
            Some("never") => Retry::Never,
            Some("downgrade_consistency") => Retry::Downgrade,
            _ => Retry::Usual,
        };
        let most = options.number_within("speculative.most", 1, MOST)?;
        let speculative = match (options.duration("speculative.after")?, most) {
            (Some(after), _) if after.is_zero() => {
                let wrong =
                    options.wrong("speculative.after", "option 'speculative.after' must be longer than nothing");
                return Err(wrong.help("write for example '50ms', above what most requests take"));
            }
            (Some(after), most) => Some((after, most.unwrap_or(1))),
            (None, Some(_)) => {
                let wrong =
                    options.wrong("speculative.most", "option 'speculative.most' comes without speculative.after");
                return Err(wrong.help("add speculative.after = '50ms'"));
            }
            (None, None) => None,
        };
        Ok(Self { retry, speculative })
    }

    /// How requests of a table are executed, at this consistency.
    pub fn profile(&self, session: &Session, consistency: Consistency) -> ExecutionProfileHandle {
        let retry: Arc<dyn RetryPolicy> = match self.retry {
            Retry::Usual => Arc::new(DefaultRetryPolicy::new()),
            Retry::Never => Arc::new(FallthroughRetryPolicy::new()),
            Retry::Downgrade => Arc::new(DowngradingConsistencyRetryPolicy::new()),
        };
        let speculative = self.speculative.map(|(retry_interval, max_retry_count)| {
            Arc::new(SimpleSpeculativeExecutionPolicy { max_retry_count, retry_interval }) as Arc<_>
        });
        let usual = session.get_default_execution_profile_handle().pointee_to_builder();
        usual
            .consistency(consistency)
            .retry_policy(retry)
            .speculative_execution_policy(speculative)
            .build()
            .into_handle()
    }
}
