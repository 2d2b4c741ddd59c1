//! Which logs are read, by what the API server tells of Pods.

use serde_json::{Value, json};

use super::*;

fn at(time: &str) -> Timestamp {
    format!("2026-11-30T{time}Z").parse().expect("a time")
}

/// A Pod `web-1` that was made then, with a container `app`.
fn pod(created: &str, status: Value) -> Pod {
    let mut app = json!({"name": "app"});
    app.as_object_mut().expect("a map").extend(status.as_object().expect("a map").clone());
    let created = format!("2026-11-30T{created}Z");
    let pod = json!({"metadata": {"name": "web-1", "uid": "u-1", "creationTimestamp": created, "managedFields": [{}]},
        "spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [app]}});
    serde_json::from_value(pod).expect("a Pod")
}

fn running(restarts: u32) -> Value {
    json!({"restartCount": restarts, "state": {"running": {"startedAt": "2026-11-30T08:00:00Z"}}})
}

fn ended(time: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "finishedAt": format!("2026-11-30T{time}Z")}})
}

/// What stands in the way of a test.
struct Stage {
    table: Table,
    marks: Marks,
}

impl Stage {
    fn new() -> Self {
        Self { table: Table::new(at("08:00:00"), &[]), marks: Marks::new() }
    }

    fn seen(&mut self, pod: &Pod) -> Vec<Job> {
        self.table.seen(pod, Sight::Later(at("09:00:00")), &self.marks, Instant::now());
        self.due()
    }

    fn due(&mut self) -> Vec<Job> {
        self.table.due(100, Instant::now()).0
    }

    fn ended(&mut self, job: &Job, ended: Ended) {
        self.table.ended(job, ended, true, &mut self.marks, Instant::now());
    }
}

/// What is read: which life, and how.
fn short(jobs: &[Job]) -> Vec<String> {
    let short = |job: &Job| {
        let flags = [(job.previous, " previous"), (job.ended, " rest"), (job.gap, " gap"), (job.lost, " lost")];
        let flags: String = flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect();
        let since = job.since.map_or(String::new(), |since| format!(" since {since}"));
        format!("{}{since}{flags}", job.life)
    };
    jobs.iter().map(short).collect()
}

const FAULT: Ended = Ended::Fault { previous: false };

#[tokio::test(start_paused = true)]
async fn a_container_is_followed_once_it_has_started_and_read_to_its_end_when_it_has_ended() {
    let mut stage = Stage::new();
    assert!(stage.seen(&pod("08:30:00", json!({"state": {"waiting": {}}}))).is_empty());
    let jobs = stage.seen(&pod("08:30:00", running(0)));
    assert_eq!(short(&jobs), ["0"], "all of a Pod that is new");
    assert!(stage.due().is_empty(), "it is being read");
    stage.ended(&jobs[0], Ended::End);
    assert!(stage.due().is_empty(), "status will tell");
    let jobs = stage.seen(&pod("08:30:00", json!({"state": ended("08:40:00")})));
    assert_eq!(short(&jobs), ["0 rest"]);
    stage.ended(&jobs[0], Ended::End);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(stage.due().is_empty(), "it has all");
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_rest_of_the_life_before_comes_first_and_what_cannot_be_read_any_more_is_told() {
    let mut stage = Stage::new();
    let jobs = stage.seen(&pod("08:30:00", running(0)));
    stage.ended(&jobs[0], Ended::End);
    let jobs = stage.seen(&pod("08:30:00", running(1)));
    assert_eq!(short(&jobs), ["1 previous"]);
    stage.ended(&jobs[0], Ended::Fault { previous: true });
    tokio::time::advance(Duration::from_secs(60)).await;
    let jobs = stage.due();
    assert_eq!(short(&jobs), ["1 previous gap"], "it is not forgotten");
    stage.ended(&jobs[0], FAULT);
    let jobs = stage.seen(&pod("08:30:00", running(3)));
    assert_eq!(short(&jobs), ["3 previous gap lost"]);
    stage.ended(&jobs[0], Ended::End);
    // While it waits for its next life its number is the last one's.
    let waits = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended("08:50:00")});
    let jobs = stage.seen(&pod("08:30:00", waits));
    assert_eq!(short(&jobs), ["3 rest"]);
    stage.ended(&jobs[0], Ended::End);
    let jobs = stage.seen(&pod("08:30:00", running(4)));
    assert_eq!(short(&jobs), ["4"], "the one before was read to its end");
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_anybody_asked_is_no_news() {
    let mut stage = Stage::new();
    let first = |status: Value| {
        let mut table = Table::new(at("08:00:00"), &[]);
        table.listed(&[pod("07:00:00", status)], Sight::First, &mut Marks::new(), Instant::now());
        short(&table.due(100, Instant::now()).0)
    };
    assert_eq!(first(running(5)), ["5 since 2026-11-30T08:00:00Z"]);
    assert_eq!(first(json!({"state": ended("07:30:00")})), [""; 0]);
    assert_eq!(first(json!({"state": ended("08:30:00")})), ["0 since 2026-11-30T08:00:00Z rest"]);
    let mut restarted = running(2);
    restarted["lastState"] = ended("08:01:00");
    assert_eq!(
        first(restarted.clone()),
        ["2 since 2026-11-30T08:00:00Z previous"],
        "it crashed while nobody was there"
    );
    restarted["lastState"] = ended("07:01:00");
    assert_eq!(first(restarted), ["2 since 2026-11-30T08:00:00Z"]);
    let relabelled = stage.seen(&pod("07:00:00", running(0)));
    assert_eq!(short(&relabelled), ["0 since 2026-11-30T09:00:00Z"], "an old Pod that is selected now");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_gets_its_labels_late_tells_from_then_on_and_one_that_starts_late_tells_all() {
    let mut table = Table::new(at("06:00:00"), &[]);
    let mut see = |pod: &Pod, time: &str| {
        table.seen(pod, Sight::Later(at(time)), &Marks::new(), Instant::now());
        short(&table.due(100, Instant::now()).0)
    };
    let mut pending = pod("07:00:00", running(0));
    pending.metadata.uid = "u-2".to_owned();
    let started = pending.clone();
    pending.status = None;
    assert_eq!(see(&pod("07:00:00", running(0)), "09:00:00"), ["0 since 2026-11-30T09:00:00Z"]);
    assert_eq!(see(&pending, "07:00:00"), [""; 0]);
    assert_eq!(see(&started, "09:00:00"), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn another_run_goes_on_where_the_one_before_was() {
    let mut stage = Stage::new();
    let place = Some(Place { at: at("08:31:00"), lines: 1 });
    let key = ("u-1".to_owned(), "app".to_owned());
    stage.marks.insert(key.clone(), Mark { place, opened: Some((0, false)) });
    stage.marks.insert(("gone".to_owned(), "app".to_owned()), Mark::default());
    let pods = [pod("07:00:00", running(1))];
    stage.table.listed(&pods, Sight::First, &mut stage.marks, Instant::now());
    assert_eq!(stage.marks.keys().collect::<Vec<_>>(), [&key], "what is gone is forgotten");
    assert_eq!(short(&stage.due()), ["1 since 2026-11-30T08:00:00Z previous gap"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_edit_selects_is_read_from_then_on_and_what_was_selected_before_goes_on() {
    let run = |mark: Option<Mark>| {
        let mut table = Table::new(at("06:00:00"), &[]).selected(at("08:00:00"));
        let key = ("u-1".to_owned(), "app".to_owned());
        let mut marks: Marks = mark.into_iter().map(|mark| (key.clone(), mark)).collect();
        table.listed(&[pod("07:00:00", running(0))], Sight::First, &mut marks, Instant::now());
        short(&table.due(100, Instant::now()).0)
    };
    assert_eq!(run(None), ["0 since 2026-11-30T08:00:00Z"], "not what it wrote while nobody asked");
    assert_eq!(run(Some(Mark { place: None, opened: Some((0, false)) })), ["0 gap"]);

    let mut table = Table::new(at("08:00:00"), &["app".to_owned()]);
    let mut marks: Marks = ["app", "proxy"].map(|name| (("u-1".to_owned(), name.to_owned()), Mark::default())).into();
    table.listed(&[pod("07:00:00", running(0))], Sight::First, &mut marks, Instant::now());
    assert_eq!(marks.into_keys().map(|key| key.1).collect::<Vec<_>>(), ["app"], "the other is not asked for any more");
}

#[tokio::test(start_paused = true)]
async fn so_many_are_read_at_once_and_one_that_has_ended_gives_its_place_to_another() {
    let mut stage = Stage::new();
    let pods: Vec<Pod> = (0..5)
        .map(|number| {
            let mut pod = pod("08:30:00", running(0));
            pod.metadata.uid = format!("u-{number}");
            pod
        })
        .collect();
    stage.table.listed(&pods, Sight::First, &mut stage.marks, Instant::now());
    let (jobs, more) = stage.table.due(3, Instant::now());
    assert_eq!((jobs.len(), more), (3, true));
    assert!(stage.table.due(0, Instant::now()).1);
    stage.ended(&jobs[0], Ended::End);
    let (next, more) = stage.table.due(1, Instant::now());
    assert_eq!((next.len(), more), (1, true));
    assert_ne!(next[0].key, jobs[0].key, "it waits a second");
    stage.table.put_back(&next[0]);
    assert_eq!(short(&stage.due()), ["0", "0"], "as if it had not been taken");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_is_read_for_a_moment_and_forgotten() {
    let mut stage = Stage::new();
    let jobs = stage.seen(&pod("08:30:00", running(0)));
    stage.marks.insert(jobs[0].key.clone(), Mark::default());
    assert!(stage.table.gone("u-1", &mut stage.marks, Instant::now()).is_empty());
    stage.due();
    assert!(!jobs[0].stop.is_cancelled(), "its last lines may be on their way");
    tokio::time::advance(GRACE).await;
    stage.due();
    assert!(jobs[0].stop.is_cancelled());
    stage.ended(&jobs[0], FAULT);
    assert!(stage.table.containers.is_empty() && stage.marks.is_empty() && stage.table.pods() == 0);

    let jobs = stage.seen(&pod("08:30:00", running(0)));
    stage.table.gone("u-1", &mut stage.marks, Instant::now());
    assert!(stage.seen(&pod("08:30:00", running(0))).is_empty(), "it is selected again, and still being read");
    tokio::time::advance(GRACE).await;
    assert!(stage.due().is_empty() && !jobs[0].stop.is_cancelled(), "it stays");
    stage.ended(&jobs[0], FAULT);
    let unread = stage.table.gone("u-1", &mut stage.marks, Instant::now());
    assert_eq!(unread, ["web-1/app"], "what it wrote since the fault was not read");
    assert!(stage.table.containers.is_empty());

    // One that had ended before anybody asked is cleared away.
    assert!(stage.seen(&pod("07:00:00", json!({"state": ended("07:30:00")}))).is_empty());
    assert!(stage.table.gone("u-1", &mut stage.marks, Instant::now()).is_empty(), "nothing of it was wanted");
}

#[test]
fn only_the_containers_that_are_named_are_read() {
    let status = |name: &str| json!({"name": name, "state": {"running": {}}});
    let pod = json!({"metadata": {"name": "web-1", "uid": "u-1"}, "status": {
        "initContainerStatuses": [status("init")], "containerStatuses": [status("app"), status("proxy")],
        "ephemeralContainerStatuses": [status("debug")]}});
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    let read = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let (mut table, now) = (Table::new(at("08:00:00"), &only), Instant::now());
        table.seen(&pod, Sight::First, &Marks::new(), now);
        table.due(100, now).0.into_iter().map(|job| job.key.1).collect::<Vec<_>>()
    };
    assert_eq!(read(&["debug", "app"]), ["app", "debug"]);
    assert_eq!(read(&[]), ["app", "debug", "init", "proxy"]);
}
