//! Tests of what handlers are told.

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;

use super::*;

fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some("ns".to_owned());
    object.metadata.name = Some(name.to_owned());
    object.metadata.uid = Some(uid.to_owned());
    object.metadata.resource_version = Some(version.to_owned());
    object
}

fn log(informer: &Informer<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = log.clone();
    informer.handle(move |change| {
        let name = change.object().metadata.name.clone().unwrap();
        let line = match change {
            Change::Added(_) => format!("+{name}"),
            Change::Updated { .. } => format!("~{name}"),
            Change::Deleted(_) => format!("-{name}"),
        };
        lines.lock().push(line);
    });
    log
}

#[test]
fn handlers_are_told_every_change_once() {
    let (informer, feed) = Informer::detached();
    let seen = log(&informer);
    feed.apply(object("a", "1", "1"));
    feed.apply(object("a", "1", "1"));
    feed.apply(object("a", "1", "2"));
    feed.delete(object("a", "1", "3"));
    feed.delete(object("a", "1", "3"));
    assert_eq!(*seen.lock(), ["+a", "~a", "-a"]);
    assert!(informer.is_empty());
}

#[test]
fn a_list_tells_what_went_unseen() {
    let (informer, feed) = Informer::detached();
    let seen = log(&informer);
    feed.replace(vec![object("gone", "1", "1"), object("kept", "2", "2"), object("reused", "3", "3")]);
    assert!(informer.is_synced());
    seen.lock().clear();
    feed.replace(vec![object("kept", "2", "2"), object("new", "5", "5"), object("reused", "4", "4")]);
    assert_eq!(*seen.lock(), ["-gone", "+new", "-reused", "+reused"]);
    assert_eq!(informer.list_in("ns").len(), 3);
}

#[test]
fn a_late_handler_is_told_what_is_known() {
    let (informer, feed) = Informer::detached();
    feed.replace(vec![object("a", "1", "1"), object("b", "2", "2")]);
    assert_eq!(*log(&informer).lock(), ["+a", "+b"]);
}
