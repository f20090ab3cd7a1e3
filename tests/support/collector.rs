//! Keeps what the crate tells `tracing`: every span with its end, every event, at every level.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry, Scope};

pub type Fields = BTreeMap<&'static str, String>;

#[derive(Clone, Debug)]
pub struct SpanTold {
    pub name: &'static str,
    pub level: Level,
    pub target: &'static str,
    pub fields: Fields,
    pub parent: Option<&'static str>,
    pub follows: Vec<&'static str>,
    pub is_closed: bool,
}

#[derive(Clone, Debug)]
pub struct EventTold {
    pub name: &'static str,
    pub level: Level,
    pub target: &'static str,
    pub fields: Fields,
    pub message: String,
    /// The names of the spans it came in, from the outermost.
    pub within: Vec<&'static str>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<SpanTold>,
    open: HashMap<u64, usize>,
    events: Vec<EventTold>,
}

/// Clones share what they keep.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Kept>>);

impl Collector {
    /// Collects what is told on this thread, until the guard is dropped.
    pub fn install() -> (Self, DefaultGuard) {
        let collector = Self::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(collector.clone()));
        (collector, guard)
    }

    pub fn spans(&self) -> Vec<SpanTold> {
        self.0.lock().unwrap().spans.clone()
    }

    pub fn events(&self) -> Vec<EventTold> {
        self.0.lock().unwrap().events.clone()
    }

    pub fn span(&self, name: &str) -> SpanTold {
        let spans = self.spans();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span `{name}` among {spans:#?}")).clone()
    }

    /// Returns the events of this level and of worse ones.
    pub fn at_least(&self, level: Level) -> Vec<EventTold> {
        self.events().into_iter().filter(|event| event.level <= level).collect()
    }

    pub fn open_spans(&self) -> Vec<&'static str> {
        self.spans().iter().filter(|span| !span.is_closed).map(|span| span.name).collect()
    }
}

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("smtp_oauth")
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        let metadata = attributes.metadata();
        let parent = context.span(id).and_then(|span| span.parent().map(|parent| parent.name()));
        let mut kept = self.0.lock().unwrap();
        let number = kept.spans.len();
        kept.open.insert(id.into_u64(), number);
        kept.spans.push(SpanTold {
            name: metadata.name(),
            level: *metadata.level(),
            target: metadata.target(),
            fields,
            parent,
            follows: Vec::new(),
            is_closed: false,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut kept = self.0.lock().unwrap();
        let number = kept.open[&id.into_u64()];
        values.record(&mut Reader(&mut kept.spans[number].fields));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let followed = context.span(follows).unwrap().name();
        let mut kept = self.0.lock().unwrap();
        let number = kept.open[&id.into_u64()];
        kept.spans[number].follows.push(followed);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        let message = fields.remove("message").unwrap_or_default();
        let scope = context.event_scope(event).into_iter().flat_map(Scope::from_root);
        let within = scope.map(|span| span.name()).collect();
        let metadata = event.metadata();
        self.0.lock().unwrap().events.push(EventTold {
            name: metadata.name(),
            level: *metadata.level(),
            target: metadata.target(),
            fields,
            message,
            within,
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut kept = self.0.lock().unwrap();
        let number = kept.open.remove(&id.into_u64()).unwrap();
        kept.spans[number].is_closed = true;
    }
}
