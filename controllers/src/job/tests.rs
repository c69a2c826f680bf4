//! Jobs played through, step by step.

use serde_json::{Value, json};

use super::*;

fn job(spec: Value) -> Job {
    let mut value = json!({"metadata": {"name": "work", "namespace": "ns", "uid": "j"}, "spec": {
        "parallelism": 2, "completions": 3, "backoffLimit": 2, "selector": {}, "template": {
            "metadata": {"labels": {"job-name": "work"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}});
    json_patch::merge(&mut value["spec"], &spec);
    serde_json::from_value(value).unwrap()
}

/// A server and kubelets: holds the job and its pods.
struct World {
    job: Job,
    pods: Vec<Pod>,
    made: usize,
    failures: Failures,
    now: Timestamp,
    events: Vec<&'static str>,
}

impl World {
    fn new(spec: Value) -> Self {
        let now = Timestamp::from_second(1000).unwrap();
        Self { job: job(spec), pods: Vec::new(), made: 0, failures: Failures::default(), now, events: Vec::new() }
    }

    /// Plans and acts once; returns when to look again.
    fn step(&mut self) -> Option<Duration> {
        if is_finished(&self.job) {
            return None;
        }
        let pods: Vec<_> = self.pods.iter().cloned().map(Arc::new).collect();
        let Plan { status, action, release, again, events } =
            plan(&self.job, &pods, &mut self.failures, true, self.now);
        self.job.status = Some(status);
        self.events.extend(events.into_iter().map(|(_, reason, _)| reason));
        match action {
            Action::Nothing => {}
            Action::Create(pods) => {
                for mut pod in pods {
                    self.made += 1;
                    pod.metadata.uid = Some(self.made.to_string());
                    pod.metadata.name = Some(self.made.to_string());
                    pod.status = serde_json::from_value(json!({"phase": "Running"})).unwrap();
                    self.pods.push(pod);
                }
            }
            Action::Delete(gone) => {
                gone.iter().for_each(|pod| self.end(pod.metadata.uid.as_deref().unwrap(), "Failed"))
            }
        }
        let released: Vec<_> = release.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        for pod in self.pods.iter_mut().filter(|pod| released.contains(pod.metadata.uid.as_ref().unwrap())) {
            pod.metadata.finalizers = None;
        }
        again
    }

    fn steps(&mut self) {
        for _ in 0..4 {
            self.step();
        }
    }

    fn end(&mut self, uid: &str, phase: &str) {
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_deref() == Some(uid)).unwrap();
        pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
    }

    fn counts(&self) -> [i32; 3] {
        let status = self.job.status.clone().unwrap();
        [status.active, status.succeeded, status.failed].map(|it| it.unwrap_or(0))
    }

    fn has(&self, type_: &str) -> bool {
        condition(self.job.status.as_ref().unwrap(), type_).is_some()
    }
}

#[test]
fn a_job_completes() {
    let mut world = World::new(json!({}));
    world.step();
    assert_eq!(world.counts(), [2, 0, 0]);
    world.end("1", "Succeeded");
    world.step();
    let uncounted = world.job.status.clone().unwrap().uncounted_terminated_pods.unwrap();
    assert_eq!(uncounted.succeeded, Some(vec!["1".to_owned()]), "written before the pod may go");
    world.step();
    assert_eq!((world.counts(), world.made), ([2, 1, 0], 3));
    world.end("2", "Succeeded");
    world.end("3", "Succeeded");
    world.steps();
    assert_eq!((world.counts(), world.made), ([0, 3, 0], 3));
    assert!(world.has("SuccessCriteriaMet") && world.has("Complete") && is_finished(&world.job));
    assert_eq!(world.events, ["Completed"]);
    assert!(world.pods.iter().all(|pod| !tracking::is_tracked(pod)));
}

#[test]
fn failures_wait_and_are_limited() {
    let mut world = World::new(json!({"parallelism": 1}));
    world.step();
    for (number, seconds) in [(1, 10), (2, 20)] {
        world.end(&number.to_string(), "Failed");
        assert_eq!(world.step().map(|it| it.as_secs()), Some(seconds));
        assert_eq!(world.made, number);
        world.now += SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        world.step();
        assert_eq!(world.made, number + 1);
    }
    world.end("3", "Failed");
    world.steps();
    assert_eq!(world.counts(), [0, 0, 3]);
    assert!(world.has("FailureTarget") && world.has("Failed"));
    assert_eq!(world.events, ["BackoffLimitExceeded"]);
}

#[test]
fn a_deadline_ends_everything() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30}));
    assert_eq!(world.step(), Some(Duration::from_secs(30)));
    world.now += SignedDuration::from_secs(30);
    world.steps();
    assert!(world.has("Failed") && world.pods.iter().all(pods::is_terminal));
    assert_eq!(world.events, ["DeadlineExceeded"]);
}

#[test]
fn suspension_stops_the_clock() {
    let mut world = World::new(json!({"suspend": true}));
    world.steps();
    assert!(world.has("Suspended") && world.made == 0);
    assert!(world.job.status.as_ref().unwrap().start_time.is_none());
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.steps();
    assert!(!world.has("Suspended") && world.made == 2);
    assert_eq!(world.events, ["Suspended", "Resumed"]);
}

#[test]
fn every_index_completes_once() {
    let mut world = World::new(json!({"completionMode": "Indexed", "parallelism": 3}));
    world.step();
    let indexes: Vec<_> = world.pods.iter().map(|pod| index(pod).unwrap()).collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_eq!(world.pods[1].spec.as_ref().unwrap().hostname.as_deref(), Some("work-1"));
    world.end("1", "Succeeded");
    world.end("2", "Failed");
    world.steps();
    world.now += SignedDuration::from_secs(60);
    world.steps();
    assert_eq!(index(&world.pods[3]), Some(1), "the failed index again");
    assert_eq!(world.job.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0"));
    world.end("3", "Succeeded");
    world.end("4", "Succeeded");
    world.steps();
    assert_eq!(world.job.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0-2"));
    assert!(world.has("Complete"));
    assert_eq!(world.counts(), [0, 3, 1]);
}

#[test]
fn a_work_queue_is_done_when_one_is() {
    let mut world = World::new(json!({"completions": null}));
    world.step();
    world.end("1", "Succeeded");
    world.steps();
    assert_eq!((world.made, world.has("Complete")), (2, false), "the other may finish");
    world.end("2", "Succeeded");
    world.steps();
    assert!(world.has("Complete"));
}

impl World {
    /// A pod ends with an exit code, at this moment.
    fn exit(&mut self, uid: &str, code: i32) {
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_deref() == Some(uid)).unwrap();
        pod.status = serde_json::from_value(json!({"phase": "Failed", "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": self.now.to_string()}}}]}))
        .unwrap();
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap()
    }

    fn reason(&self, type_: &str) -> String {
        condition(&self.status(), type_).and_then(|it| it.reason.clone()).unwrap_or_default()
    }

    fn active_indexes(&self) -> Vec<i32> {
        let mut active: Vec<i32> = self.pods.iter().filter(|pod| !pods::is_terminal(pod)).filter_map(index).collect();
        active.sort_unstable();
        active
    }
}

#[test]
fn a_failure_that_is_ignored_is_replaced_and_not_counted() {
    let policy = json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let mut world = World::new(json!({"parallelism": 1, "backoffLimit": 0, "podFailurePolicy": policy}));
    world.step();
    world.exit("1", 42);
    world.steps();
    world.now += SignedDuration::from_secs(60);
    world.steps();
    assert_eq!((world.counts(), world.made), ([1, 0, 0], 2));
    assert!(!tracking::is_tracked(&world.pods[0]), "it is let go");
    world.exit("2", 1);
    world.steps();
    assert_eq!(world.reason("Failed"), "BackoffLimitExceeded");
}

#[test]
fn a_fatal_failure_ends_the_job() {
    let policy = json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]});
    let mut world = World::new(json!({"podFailurePolicy": policy}));
    world.step();
    world.pods[0].metadata.namespace = Some("ns".to_owned());
    world.exit("1", 3);
    world.steps();
    assert_eq!(
        (world.reason("FailureTarget"), world.reason("Failed")),
        ("PodFailurePolicy".into(), "PodFailurePolicy".into())
    );
    let status = world.status();
    let message = condition(&status, "Failed").and_then(|it| it.message.clone());
    let expected = "Container c for pod ns/1 failed with exit code 3 matching FailJob rule at index 0";
    assert_eq!(message.as_deref(), Some(expected));
    assert_eq!(world.events, ["PodFailurePolicy"]);
    assert!(world.pods.iter().all(pods::is_terminal));
}

#[test]
fn an_index_fails_on_its_own() {
    let spec = json!({"completionMode": "Indexed", "parallelism": 2, "completions": 2, "backoffLimitPerIndex": 1,
        "backoffLimit": i32::MAX});
    let mut world = World::new(spec);
    world.step();
    world.exit("1", 1);
    assert_eq!(world.step(), Some(Duration::from_secs(10)), "its replacement waits");
    assert!(tracking::is_tracked(&world.pods[0]), "kept for its replacement");
    world.now += SignedDuration::from_secs(10);
    world.steps();
    assert!(!tracking::is_tracked(&world.pods[0]));
    let noted = |world: &World, at: usize| {
        world.pods[at].metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/job-index-failure-count"].clone()
    };
    assert_eq!((noted(&world, 0), noted(&world, 2)), ("0".to_owned(), "1".to_owned()));
    world.exit("3", 1);
    world.steps();
    assert_eq!(world.status().failed_indexes.as_deref(), Some("0"));
    assert_eq!(world.active_indexes(), [1], "the other index goes on");
    assert!(!world.has("FailureTarget"));
    world.end("2", "Succeeded");
    world.steps();
    assert_eq!(world.reason("Failed"), "FailedIndexes");
    assert_eq!(world.counts(), [0, 1, 2]);
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let policy = json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [0, 7]}}]});
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3, "backoffLimitPerIndex": 5,
        "backoffLimit": i32::MAX, "maxFailedIndexes": 1, "podFailurePolicy": policy});
    let mut world = World::new(spec);
    world.step();
    world.exit("1", 1);
    world.steps();
    assert_eq!((world.status().failed_indexes.as_deref(), world.has("FailureTarget")), (Some("0"), false));
    world.exit("2", 7);
    world.exit("3", 1);
    world.steps();
    assert_eq!(world.status().failed_indexes.as_deref(), Some("0,2"));
    assert_eq!(world.reason("Failed"), "MaxFailedIndexesExceeded");
    assert_eq!(world.counts(), [0, 0, 3], "the pod that was kept is counted in the end");
    assert!(world.pods.iter().all(|pod| !tracking::is_tracked(pod)));
}

#[test]
fn enough_success_ends_the_rest() {
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1"}]}});
    let mut world = World::new(spec);
    world.step();
    world.end("2", "Succeeded");
    world.steps();
    assert_eq!(
        (world.reason("SuccessCriteriaMet"), world.reason("Complete")),
        ("SuccessPolicy".into(), "SuccessPolicy".into())
    );
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1"));
    assert!(world.pods.iter().all(pods::is_terminal));
    assert_eq!(world.events, ["Completed"]);
}

#[test]
fn pods_of_no_index_or_a_taken_one_go() {
    let mut world = World::new(json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3}));
    world.step();
    let again = |world: &World, at: usize, uid: &str| {
        let mut pod = world.pods[at].clone();
        pod.metadata.uid = Some(uid.to_owned());
        pod
    };
    let twin = again(&world, 0, "twin");
    world.pods.push(twin);
    let job = world.job.spec.as_mut().unwrap();
    (job.completions, job.parallelism) = (Some(2), Some(2));
    let pods: Vec<_> = world.pods.iter().cloned().map(Arc::new).collect();
    let plan = plan(&world.job, &pods, &mut world.failures, true, world.now);
    let Action::Delete(gone) = plan.action else { panic!("{:?}", plan.action) };
    let mut uids: Vec<_> = gone.iter().map(|pod| pod.metadata.uid.as_deref().unwrap()).collect();
    uids.sort_unstable();
    assert_eq!(uids, ["1", "3"]);
}
