//! The mail server as spans and metrics call it, and its metrics by their labels. Knows none of their names.

#[cfg(any(feature = "tracing", feature = "metrics"))]
use std::sync::Arc;
#[cfg(feature = "metrics")]
use std::sync::{PoisonError, RwLock};

#[cfg(feature = "metrics")]
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata};

/// The mail server, as spans and metrics call it; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    pub(super) address: Arc<str>,
    #[cfg(feature = "tracing")]
    pub(super) port: u16,
    #[cfg(feature = "metrics")]
    keys: Arc<RwLock<Vec<Arc<Key>>>>,
}

impl Server {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self {
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            address: host.into(),
            #[cfg(feature = "tracing")]
            port,
            #[cfg(feature = "metrics")]
            keys: Arc::default(),
        }
    }
}

/// Names and values of the labels that a metric has besides the server's address.
#[cfg(feature = "metrics")]
type Labels<'a> = &'a [(&'static str, &'static str)];

#[cfg(feature = "metrics")]
static METADATA: Metadata<'static> = Metadata::new("smtp_oauth", Level::INFO, Some(module_path!()));

#[cfg(feature = "metrics")]
impl Server {
    pub(super) fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter {
        let key = self.key(name, labels);
        metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(super) fn gauge(&self, name: &'static str, labels: Labels<'_>) -> Gauge {
        let key = self.key(name, labels);
        metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    pub(super) fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram {
        let key = self.key(name, labels);
        metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }

    /// Returns a metric's key, which is made when it is first needed.
    ///
    /// The macros of `metrics` make one for each record, several allocations for each message, even where no recorder is
    /// installed. Handles are not kept: a recorder may be installed later, and tests install their own for a thread.
    fn key(&self, name: &'static str, labels: Labels<'_>) -> Arc<Key> {
        // Labels are names that stand in this crate, so there are a few dozen keys at most.
        let find = |keys: &[Arc<Key>]| keys.iter().find(|key| is_key(key, name, labels)).cloned();
        let known = find(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        known.unwrap_or_else(|| {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            find(&keys).unwrap_or_else(|| {
                let address = Label::new("server_address", self.address.clone());
                let labels = labels.iter().map(|(name, value)| Label::from_static_parts(name, value));
                let key =
                    Arc::new(Key::from_parts(name, [address].into_iter().chain(labels).collect::<Vec<_>>()));
                keys.push(key.clone());
                key
            })
        })
    }
}

#[cfg(feature = "metrics")]
fn is_key(key: &Key, name: &str, labels: Labels<'_>) -> bool {
    key.name() == name
        && key.labels().skip(1).map(|label| (label.key(), label.value())).eq(labels.iter().copied())
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    const LABELS: Labels<'static> = &[("outcome", "accepted"), ("error_type", "")];

    #[test]
    fn a_metric_that_was_recorded_before_costs_no_allocation() {
        let server = Server::new("smtp.office365.com", 587);
        let record = || {
            server.counter("submissions", LABELS).increment(1);
            server.histogram("duration", &[]).record(0.5);
            server.gauge("connections", &[("state", "idle")]).increment(1);
        };
        assert_ne!(allocation_counter::measure(record).count_total, 0);
        assert_eq!(allocation_counter::measure(record).count_total, 0);
    }

    #[test]
    fn keys_differ_by_name_and_by_each_label() {
        let server = Server::new("smtp.office365.com", 587);
        let cases: [(_, Labels<'_>); 5] = [
            ("submissions", LABELS),
            ("submissions", &[("outcome", "accepted"), ("error_type", "tls")]),
            ("submissions", &[("outcome", "accepted")]),
            ("submissions", &[]),
            ("recipients", LABELS),
        ];
        for (name, labels) in cases.iter().chain(&cases) {
            let key = server.key(name, labels);
            let told: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
            assert_eq!(key.name(), *name);
            assert_eq!(told, [&[("server_address", "smtp.office365.com")], *labels].concat());
        }
        assert_eq!(server.keys.read().unwrap().len(), cases.len());
    }
}
