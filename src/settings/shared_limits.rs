//! Where settings keep the sending limits of a fleet together. Counts nothing.

use std::path::Path;

#[cfg(feature = "redis")]
use secrecy::SecretString;

#[cfg(feature = "redis")]
use super::secret;
#[cfg(feature = "redis")]
use crate::config::ConfigProblem;
use crate::config::Keys;
#[cfg(feature = "redis")]
use crate::redis_server::RedisServer;

/// Where a fleet of processes keeps the sending limits of the mailbox together.
///
/// [`Settings`](crate::Settings) names the key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SharedLimitsSettings {
    /// A Redis server; see [`RedisLimits`](crate::RedisLimits).
    #[cfg(feature = "redis")]
    #[non_exhaustive]
    Redis {
        /// The server, with user and password.
        url: SecretString,
    },
}

impl SharedLimitsSettings {
    /// Reads the table `shared_limits`; `None` when there is none, or it has a problem.
    pub(super) fn read(root: &mut Keys<'_>, directory: &Path) -> Option<Self> {
        const KEY: &str = "shared_limits";
        let mut keys = Keys::new(root.table(KEY)?);
        keys.require(
            "redis",
            "enter the URL of the Redis server, such as rediss://user:password@host:port/0",
        );
        let settings = Self::read_redis(&mut keys, directory);
        root.add_within(KEY, keys.finish());
        settings
    }

    #[cfg(feature = "redis")]
    fn read_redis(keys: &mut Keys<'_>, directory: &Path) -> Option<Self> {
        let url = secret::read(keys, "redis", directory)?;
        let opened = RedisServer::open(&url);
        let opened = opened.map_err(|error| ConfigProblem::new("redis", error.to_string()));
        keys.accept(opened).map(|_| Self::Redis { url })
    }

    #[cfg(not(feature = "redis"))]
    fn read_redis(keys: &mut Keys<'_>, _directory: &Path) -> Option<Self> {
        keys.refuse("redis", super::NO_REDIS);
        None
    }
}
