//! Selectors, compiled against a resource: which stored objects a list or watch is about.

use std::sync::Arc;

use api::Status;
use api::selector::{FieldSelector, LabelSelector};
use kinds::Strategy;
use store::cache::Snapshot;
use store::{Key, KeyPrefix};

use super::object::Stored;
use super::options::ListOptions;
use super::resource::Endpoint;

/// What a field term compares.
#[derive(Debug)]
enum Field {
    Name,
    Namespace,
    /// A field of the strategy, by its place.
    Selectable(usize),
}

#[derive(Debug)]
struct Term {
    field: Field,
    value: String,
    equal: bool,
}

/// Which objects are asked for: where they are, and what they have to be like. Its `Debug` says all of it: watches
/// that look alike are one class.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// All candidates are below this.
    pub(crate) scope: KeyPrefix,
    /// The only candidate, when there can be but one.
    pub(crate) single: Option<Key>,
    /// All candidates have this value of the field by which the collection is indexed.
    indexed: Option<String>,
    labels: LabelSelector,
    terms: Vec<Term>,
}

impl Matcher {
    /// Compiles the selectors of a request on a namespace (or all), and on a name when the path has one.
    pub(crate) fn new(endpoint: &Endpoint, namespace: &str, name: &str, options: &ListOptions) -> Result<Self, Status> {
        let collection = &endpoint.collection;
        let terms = terms(endpoint, &options.fields)?;
        let exact = options.fields.exact("metadata.name");
        if !name.is_empty() && !options.fields.is_everything() && exact != Some(name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        let name = if name.is_empty() { exact.unwrap_or("") } else { name };
        let selected =
            options.fields.exact("metadata.namespace").filter(|_| namespace.is_empty() && collection.namespaced);
        let namespace = selected.unwrap_or(namespace);
        let scoped = !collection.namespaced || !namespace.is_empty();
        let single = if scoped && !name.is_empty() { collection.key(namespace, name).ok() } else { None };
        let mut terms = terms;
        if single.is_none() && !name.is_empty() && exact.is_none() {
            terms.push(Term { field: Field::Name, value: name.to_owned(), equal: true });
        }
        let scope = collection.scope(namespace).unwrap_or_else(|_| collection.prefix.clone());
        let indexed =
            collection.strategy.indexed_field().and_then(|field| value_of(collection.strategy, field, &terms));
        Ok(Self { scope, single, indexed, labels: options.labels.clone(), terms })
    }

    /// Nothing is selected by labels or fields.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.terms.is_empty()
    }

    /// Everything in a snapshot that may match, in key order: see [`Snapshot::range`].
    pub(crate) fn candidates<'s>(
        &self,
        snapshot: &'s Snapshot<Stored>,
        start: Option<&str>,
    ) -> Box<dyn Iterator<Item = (&'s Key, &'s Arc<Stored>)> + 's> {
        match &self.indexed {
            Some(value) => Box::new(snapshot.indexed(value, &self.scope, start)),
            None => Box::new(snapshot.range(&self.scope, start)),
        }
    }

    /// The key is one that is asked about.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        match &self.single {
            Some(single) => single == key,
            None => self.scope.contains(key),
        }
    }

    /// The object is one that is asked for; its key is covered.
    pub(crate) fn matches(&self, endpoint: &Endpoint, key: &Key, object: &Stored) -> bool {
        let field = |term: &Term| match term.field {
            Field::Name => key.name() == term.value,
            Field::Namespace => namespace_of(endpoint, key) == term.value,
            Field::Selectable(place) => object.field(endpoint.collection.strategy, place) == term.value,
        };
        self.terms.iter().all(|term| field(term) == term.equal)
            && (self.labels.is_everything() || self.labels.matches(|key| object.label(key)))
    }
}

/// What a field has to be equal to. What has no value is not in the index.
fn value_of(strategy: &dyn Strategy, field: &str, terms: &[Term]) -> Option<String> {
    let place = strategy.selectable_fields().iter().position(|own| *own == field)?;
    let is_asked = |term: &&Term| term.equal && matches!(term.field, Field::Selectable(own) if own == place);
    terms.iter().find(is_asked).map(|term| term.value.clone()).filter(|value| !value.is_empty())
}

/// The namespace in an object's key; empty at cluster scope.
pub(crate) fn namespace_of<'a>(endpoint: &Endpoint, key: &'a Key) -> &'a str {
    if !endpoint.collection.namespaced {
        return "";
    }
    key.segments().rev().nth(1).unwrap_or("")
}

fn terms(endpoint: &Endpoint, selector: &FieldSelector) -> Result<Vec<Term>, Status> {
    let (strategy, namespaced) = (endpoint.collection.strategy, endpoint.collection.namespaced);
    let selectable = strategy.selectable_fields();
    // A kind that says by what it is selected leaves out what it has not, as upstream's conversions of field labels do.
    let by_namespace = selectable.is_empty() || (namespaced && strategy.selects_namespace());
    let compile = |term: &api::selector::FieldTerm| {
        let served = term.field.as_str();
        let stored = endpoint.conversion.map_or(Some(served), |conversion| conversion.field(served));
        let field = match stored.ok_or_else(|| unknown_field(endpoint, served))? {
            "metadata.name" => Field::Name,
            "metadata.namespace" if by_namespace => Field::Namespace,
            other => {
                let place = selectable.iter().position(|own| *own == other);
                Field::Selectable(place.ok_or_else(|| unknown_field(endpoint, &term.field))?)
            }
        };
        Ok(Term { field, value: term.value.clone(), equal: term.equal })
    };
    selector.terms().iter().map(compile).collect()
}

fn unknown_field(endpoint: &Endpoint, field: &str) -> Status {
    Status::bad_request(endpoint.collection.strategy.unknown_field(field))
}
