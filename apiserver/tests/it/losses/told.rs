//! What writers and watchers were told, and whether all of it is true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::client::{Client, Lost};
use super::{PATH, PATIENCE, PAUSE};

/// The name of the object that is created when everything else is done.
pub(super) const LAST: &str = "last";
/// Of so many objects one is deleted again.
const DELETED_OF: usize = 3;
/// Between objects of one writer, so that the machine has time for everybody.
const PACE: Duration = Duration::from_millis(10);

/// One object: created, changed once, and maybe deleted. All of it was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Story {
    name: String,
    created: u64,
    changed: u64,
    deleted: bool,
    /// Whether an answer was lost on the way.
    lost: bool,
}

/// What others may know of a writer.
pub(super) struct Progress {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) done: Arc<AtomicU64>,
    pub(super) newest: Arc<AtomicU64>,
}

/// What happened to an object, by a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    kind: String,
    name: String,
    revision: u64,
}

/// Everything that a watcher saw.
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    /// How often it had to go on elsewhere.
    pub(super) left: usize,
}

/// Of an object or a list.
pub(super) fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a revision")
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Writes object after object, each with a name that nobody else uses.
pub(super) async fn write(mut client: Client, writer: usize, progress: Progress) -> Vec<Story> {
    let mut stories = Vec::new();
    for n in 0.. {
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        let story = story(&mut client, format!("w{writer}-{n:05}"), n % DELETED_OF == 0).await;
        progress.newest.fetch_max(story.changed, Ordering::Relaxed);
        progress.done.fetch_add(1, Ordering::Relaxed);
        stories.push(story);
        tokio::time::sleep(PACE).await;
    }
    stories
}

async fn story(client: &mut Client, name: String, deleted: bool) -> Story {
    let one = format!("{PATH}/{name}");
    let (created, mut lost) = create(client, &name).await;
    // Doing it twice changes nothing more.
    let answer = client.answer("PATCH", &one, &json!({"data": {"changed": "yes"}})).await;
    assert_eq!(answer.code, StatusCode::OK, "{name} was created: {answer:?}");
    let changed = revision(&answer.body);
    lost |= answer.tried;
    if deleted {
        let answer = client.answer("DELETE", &one, &Value::Null).await;
        let gone = answer.tried && answer.code == StatusCode::NOT_FOUND;
        assert!(answer.code == StatusCode::OK || gone, "{name} was changed: {answer:?}");
        lost |= answer.tried;
    }
    Story { name, created, changed, deleted, lost }
}

/// Returns the revision, and whether an answer was lost.
pub(super) async fn create(client: &mut Client, name: &str) -> (u64, bool) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let answer = client.answer("POST", PATH, &object).await;
    if answer.code == StatusCode::CREATED {
        return (revision(&answer.body), answer.tried);
    }
    assert!(answer.tried && answer.code == StatusCode::CONFLICT, "nobody else creates {name}: {answer:?}");
    let found = client.answer("GET", &format!("{PATH}/{name}"), &Value::Null).await;
    assert_eq!(found.code, StatusCode::OK, "{name} is there: {found:?}");
    (revision(&found.body), true)
}

/// Watches from a revision on until the last object comes, going on elsewhere whenever a server goes.
pub(super) async fn watch(mut client: Client, from: u64, reached: Arc<AtomicU64>) -> Seen {
    let (mut at, mut seen, mut heard) = (from, Seen { events: Vec::new(), left: 0 }, Instant::now());
    loop {
        let before = at;
        let outcome = follow(&mut client, &mut at, &mut seen.events, &reached).await;
        if at > before {
            heard = Instant::now();
        }
        match outcome {
            Ok(true) => return seen,
            Ok(false) => {}
            Err(error) => assert!(heard.elapsed() < PATIENCE, "nobody serves a watch from {at}: {error}"),
        }
        seen.left += 1;
        client.leave();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads one watch to its end; true when that is the end of all.
async fn follow(client: &mut Client, at: &mut u64, events: &mut Vec<Event>, reached: &AtomicU64) -> Result<bool, Lost> {
    let path = format!("{PATH}?watch=1&allowWatchBookmarks=true&resourceVersion={at}");
    let answer = tokio::time::timeout(PATIENCE, client.open("GET", &path, &Value::Null)).await??;
    // Nothing here is old enough to be forgotten.
    assert_ne!(answer.status(), StatusCode::GONE, "revision {at}");
    if answer.status() != StatusCode::OK {
        return Err(answer.status().to_string().into());
    }
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            if event["type"] == "ERROR" {
                assert_ne!(event["object"]["code"], 410, "revision {at}: {event}");
                return Err(event.to_string().into());
            }
            note(&event, at, events);
            reached.store(*at, Ordering::Relaxed);
            if events.last().is_some_and(|event| event.name == LAST) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn note(event: &Value, at: &mut u64, events: &mut Vec<Event>) {
    let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
    let revision = revision(object);
    if kind == "BOOKMARK" {
        assert!(revision >= *at, "a bookmark goes back from {at}: {event}");
    } else {
        assert!(revision > *at, "an event comes again or late, after {at}: {event}");
        events.push(Event { kind: kind.to_owned(), name: name(object).to_owned(), revision });
    }
    *at = revision;
}

/// How many objects had an answer that nobody got.
pub(super) fn lost(stories: &[Story]) -> usize {
    stories.iter().filter(|story| story.lost).count()
}

/// What a server lists is what was acknowledged.
pub(super) fn check_list(stories: &[Story], list: &Value, server: usize) {
    let items = list["items"].as_array().expect("a list");
    let mut listed: BTreeMap<_, _> = items.iter().map(|item| (name(item), revision(item))).collect();
    assert!(listed.remove(LAST).is_some(), "server {server} lists the last object");
    let left = stories.iter().filter(|story| !story.deleted);
    let wanted: BTreeMap<_, _> = left.map(|story| (&*story.name, story.changed)).collect();
    assert_eq!(listed, wanted, "server {server}");
}

/// What a watcher saw is what was acknowledged: every step of every object once, at its revision, and nothing else.
pub(super) fn check_watch(stories: &[Story], seen: &Seen) {
    let mut events = BTreeMap::<&str, Vec<(&str, u64)>>::new();
    for event in &seen.events {
        events.entry(&event.name).or_default().push((&event.kind, event.revision));
    }
    assert!(events.remove(LAST).is_some_and(|last| last.len() == 1));
    for story in stories {
        let mut steps = events.remove(&*story.name).unwrap_or_default();
        if story.deleted {
            // Its answer does not tell at which revision.
            let last = steps.pop();
            assert!(last.is_some_and(|(kind, at)| kind == "DELETED" && at > story.changed), "{story:?}: {last:?}");
        }
        assert_eq!(steps, [("ADDED", story.created), ("MODIFIED", story.changed)], "{story:?}");
    }
    assert!(events.is_empty(), "nobody wrote {events:?}");
}
