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
