//! Get and list: from the watch cache, at the revision that the request asks for.

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status};
use store::cache::Snapshot;

use super::call::{Call, ListMeta};
use super::errors;
use super::matcher::Matcher;
use super::object::Stored;
use super::options::{ListOptions, VersionMatch, parse_revision};
use super::page::Token;
use super::write::Written;
use crate::answer::Response;

/// How long a read waits for a revision that has not been reached yet.
const FRESH_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(3) };

const LIST_EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. \
    You can start a new list without the continue parameter, or use the continue token in this response to retrieve \
    the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that \
    were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl Call<'_> {
    /// The object of this request's path, as new as the request asks for.
    pub(crate) async fn find(&self) -> Result<Written, Status> {
        let collection = self.collection();
        let key = collection.key(&self.path.namespace, &self.path.name)?;
        let version = self.context.param("resourceVersion").unwrap_or("");
        let found = match version {
            // Any version will do for "0", and the newest is as near.
            "" | "0" => return self.load(&key).await?.ok_or_else(|| self.not_found(&self.path.name)),
            other => self.not_older_than(self.get_revision(other)?).await?,
        };
        let object = found.get(&key).ok_or_else(|| self.not_found(&self.path.name))?;
        Ok(Written { raw: object.raw.clone(), revision: object.revision })
    }

    /// GET of a collection.
    pub(crate) async fn list_collection(&self) -> Result<Response, Status> {
        let options = ListOptions::read(self.context, false)?;
        let matcher = Matcher::new(self.endpoint, &self.path.namespace, &self.path.name, &options)?;
        let (meta, items) = self.select(&options, &matcher).await?;
        self.list(&meta, items)
    }

    /// One page of what is asked for.
    pub(crate) async fn select(
        &self,
        options: &ListOptions,
        matcher: &Matcher,
    ) -> Result<(ListMeta, Vec<Arc<Stored>>), Status> {
        if let Some(token) = continue_token(options)? {
            let snapshot = self.continued(&token).await?;
            return Ok(self.page(&snapshot, options, matcher, Some(&token.start)));
        }
        let snapshot = self.snapshot_for(options).await?;
        Ok(self.page(&snapshot, options, matcher, None))
    }

    /// `resourceVersion` of a GET. Upstream's cache refuses it without a class; it keeps none of what ages.
    fn get_revision(&self, text: &str) -> Result<u64, Status> {
        parse_revision(text).map_err(|error| match self.collection().hooks.ttl() {
            Some(_) => Status::bad_request(format!("invalid resource version: {error}")),
            None => Status::new(Reason::Unknown(500), error),
        })
    }

    async fn snapshot_for(&self, options: &ListOptions) -> Result<Snapshot<Stored>, Status> {
        let revision = options.revision()?;
        let legacy_exact = options.version_match == VersionMatch::Unset && options.limit > 0 && revision > 0;
        if options.version_match == VersionMatch::Exact || legacy_exact {
            return self.exactly(revision).await;
        }
        match options.resource_version.as_str() {
            "" => self.newest().await,
            "0" => Ok(self.collection().cache.snapshot()),
            _ => self.not_older_than(revision).await,
        }
    }

    /// What the store has now.
    pub(crate) async fn newest(&self) -> Result<Snapshot<Stored>, Status> {
        let revision = self.registry.store.revision().await.map_err(|error| errors::read(&error))?;
        self.not_older_than(revision).await
    }

    pub(crate) async fn not_older_than(&self, revision: u64) -> Result<Snapshot<Stored>, Status> {
        let waited = self.collection().cache.wait_for(revision, FRESH_TIMEOUT).await;
        waited.map_err(|error| errors::too_large(revision, error.current))
    }

    async fn exactly(&self, revision: u64) -> Result<Snapshot<Stored>, Status> {
        self.not_older_than(revision).await?;
        self.collection().cache.snapshot_at(revision).map_err(|error| match error {
            store::Error::Compacted { .. } => Status::expired(LIST_EXPIRED),
            other => errors::read(&other),
        })
    }

    async fn continued(&self, token: &Token) -> Result<Snapshot<Stored>, Status> {
        let Some(revision) = token.revision() else { return self.newest().await };
        self.not_older_than(revision).await?;
        self.collection().cache.snapshot_at(revision).map_err(|error| match error {
            store::Error::Compacted { .. } => {
                let mut status = Status::expired(CONTINUE_EXPIRED);
                status.continue_token = Some(Token::from(token.start.clone(), None).encode());
                status
            }
            other => errors::read(&other),
        })
    }

    fn page(
        &self,
        snapshot: &Snapshot<Stored>,
        options: &ListOptions,
        matcher: &Matcher,
        start: Option<&str>,
    ) -> (ListMeta, Vec<Arc<Stored>>) {
        let mut meta = ListMeta { revision: snapshot.revision(), ..ListMeta::default() };
        if let Some(key) = &matcher.single {
            let found = snapshot.get(key).filter(|object| matcher.matches(self.endpoint, key, object));
            return (meta, found.into_iter().cloned().collect());
        }
        // The cache ignores a limit at any version, as upstream's does.
        let limit = if options.resource_version == "0" { 0 } else { options.limit };
        let mut items = Vec::new();
        let mut candidates = matcher.candidates(snapshot, start);
        while let Some((key, object)) = candidates.next() {
            if !matcher.matches(self.endpoint, key, object) {
                continue;
            }
            items.push(object.clone());
            if limit > 0 && items.len() == limit {
                let remaining = candidates.count() as u64;
                let suffix = key.suffix(&matcher.scope).unwrap_or_default();
                if remaining > 0 {
                    meta.continue_token = Some(Token::after(suffix, Some(snapshot.revision())).encode());
                    meta.remaining = matcher.is_everything().then_some(remaining);
                }
                break;
            }
        }
        (meta, items)
    }
}

fn continue_token(options: &ListOptions) -> Result<Option<Token>, Status> {
    if options.continue_token.is_empty() {
        return Ok(None);
    }
    let token = Token::decode(&options.continue_token)?;
    if !matches!(options.resource_version.as_str(), "" | "0") {
        let message = "specifying resource version is not allowed when using continue";
        return Err(Status::new(Reason::BadRequest, message));
    }
    Ok(Some(token))
}
