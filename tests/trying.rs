//! `kubectl signalbox test`, `explain` and `lint`: the built program on files, without a cluster.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

const RULE: &str = r#"apiVersion: signalbox.dev/v1alpha1
kind: EventRule
metadata: {name: probes, namespace: shop}
spec:
  sources:
    - name: probe
      kubernetesEvent: {reasons: [Unhealthy]}
  when:
    - name: real
      expression: event.data.message != 'ignored'
  trigger:
    count: {atLeast: 3, within: 10m}
  throttle: {cooldown: 1h}
  actions:
    - name: grow
      scale: {target: {kind: Deployment, name: web}, by: "1", max: 4}
    - name: tell
      ifExpression: int(actions.grow.to) > 1
      notify: {sinkRef: {name: oncall}, text: "${string(count)} on ${event.subject}, now ${string(actions.grow.to)}"}
"#;

const EVENT: &str = "{apiVersion: v1, kind: Event, type: Warning, reason: Unhealthy, message: m, involvedObject: {kind: Pod, name: web-1, namespace: shop}}";

/// A folder with files, in which the program is run.
struct Bench(TempDir);

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self(TempDir::new().expect("a folder"));
        for (name, text) in files {
            fs::write(bench.0.path().join(name), text).expect("write a file");
        }
        bench
    }

    /// The cases of one file, for the rule above.
    fn cases(cases: &str) -> (i32, String, String) {
        let cases = format!("cases:\n{cases}");
        Self::new(&[("rule.yaml", RULE), ("cases.yaml", &cases)]).run("test -f rule.yaml --cases cases.yaml")
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        run(self.0.path(), line)
    }
}

fn run(folder: &Path, line: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-signalbox"));
    // No kubeconfig: nothing may be asked of a cluster.
    command.current_dir(folder).env("KUBECONFIG", "/nowhere").env("RUST_BACKTRACE", "1").args(line.split(' '));
    let Output { status, stdout, stderr } = command.output().expect("run the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn the_samples_do_what_their_cases_say() {
    let (code, said, error) = run(Path::new("."), "test -f deploy/samples --cases deploy/cases");
    assert_eq!(code, 0, "{said}{error}");
    assert!(said.ends_with("77 cases, 0 failed\n") && said.contains("ok    a pod that crashed"), "{said}");
}

#[test]
fn each_rule_of_the_samples_fires_in_a_case() {
    let files = |folder: &str| {
        let all = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let yaml = all.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        yaml.map(|path| fs::read_to_string(path).expect("a file")).collect::<Vec<String>>()
    };
    let read = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).expect("YAML");
    let mut fires = BTreeSet::new();
    for case in files("deploy/cases").iter().flat_map(|text| read(text)["cases"].as_array().cloned().expect("cases")) {
        if case["expect"].as_array().is_some_and(|firings| !firings.is_empty()) {
            fires.insert(case["rule"].as_str().expect("its rule").to_owned());
        }
    }
    let samples = files("deploy/samples").join("\n---\n");
    let rules = samples.split("\n---\n").filter(|text| text.contains("\nkind: EventRule\n")).map(read);
    let names: Vec<String> = rules.map(|rule| rule["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
    assert!(names.len() > 50, "{names:?}");
    let never: Vec<&String> = names.iter().filter(|name| !fires.contains(*name)).collect();
    assert!(never.is_empty(), "no case lets these fire: {never:?}");
}

#[test]
fn the_samples_are_without_error_and_warning() {
    without_fault("deploy/samples");
}

fn without_fault(folder: &str) {
    let (code, said, error) = run(Path::new("."), &format!("lint -f {folder} --strict"));
    assert_eq!(code, 0, "{said}{error}");
    assert!(said.ends_with(" 0 errors, 0 warnings\n"), "{said}");
}

#[test]
fn the_use_cases_do_what_their_cases_say_and_are_without_error_and_warning() {
    for name in ["scale-on-load", "security-alert", "stream-analytics", "delivery-pipeline", "iot-device"] {
        let folder = format!("deploy/samples/use-cases/{name}");
        let line = format!("test -f {folder} --cases deploy/cases/use-cases/{name}.yaml");
        let (code, said, error) = run(Path::new("."), &line);
        assert_eq!(code, 0, "{said}{error}");
        assert!(said.starts_with("ok ") && said.ends_with(" cases, 0 failed\n"), "{said}");
        without_fault(&folder);
    }
}

#[test]
fn what_is_not_as_expected_is_told_with_its_place_and_with_what_happened() {
    let cases = format!(
        "  - name: fires\n    results: {{grow: {{to: 3}}}}\n    events:\n      - {{at: 1m, object: {EVENT}, times: 4, every: 1m}}\n    \
         expect:\n      - {{at: 4m, group: shop/Pod/web-1, actions: [{{name: tell, notify: {{text: other}}}}]}}\n      - {{count: 9}}\n"
    );
    let (code, said, _) = Bench::cases(&cases);
    assert_eq!(code, 1, "{said}");
    let expected = "\
FAIL  fires (cases.yaml:2)
      firing 1 (cases.yaml:7:9):
        actions[tell].notify.text
          expected \"other\"
          was      \"3 on shop/Pod/web-1, now 3\"
        at
          expected \"4m\"
          was      \"3m\"
      firing 2 (cases.yaml:8:9) did not come:
          expected {\"count\":9}
      what happened:
        1m       counted for shop/Pod/web-1: 1 of 3 within 10m
        2m       counted for shop/Pod/web-1: 2 of 3 within 10m
        4m       counted for shop/Pod/web-1: 1 of 3 within 10m
1 cases, 1 failed
";
    assert_eq!(said, expected);
}

#[test]
fn a_firing_too_many_and_an_expression_that_fails_are_told() {
    let cases = format!("  - name: none\n    events: [{{object: {EVENT}, times: 3, every: 1s}}]\n    expect: []\n");
    let (code, said, _) = Bench::cases(&cases);
    assert_eq!(code, 1);
    assert!(said.contains("firing 1 is one too many") && said.contains("under `results` of the case"), "{said}");
    let odd = EVENT.replace("message: m", "message: m, count: 1").replace("Unhealthy", "Other");
    let cases = format!("  - name: refused\n    events: [{{object: {odd}}}]\n    expect: [{{}}]\n");
    let (_, said, _) = Bench::cases(&cases);
    assert!(
        said.contains("sources[probe].kubernetesEvent.reasons said no: reason = Other; wanted Unhealthy"),
        "{said}"
    );
    let wrong = RULE.replace("event.data.message != 'ignored'", "event.data.extra.x");
    let cases = format!("cases:\n  - name: fails\n    events: [{{object: {EVENT}}}]\n    expect: []\n");
    let bench = Bench::new(&[("rule.yaml", &wrong), ("cases.yaml", &cases)]);
    let (code, said, _) = bench.run("test -f rule.yaml --cases cases.yaml");
    assert!(code == 1 && said.contains("error in when[real]"), "{said}");
    let allowed = cases.replace("    expect", "    errors: Allow\n    expect");
    let bench = Bench::new(&[("rule.yaml", &wrong), ("cases.yaml", &allowed)]);
    assert_eq!(bench.run("test -f rule.yaml --cases cases.yaml").0, 0);
}

#[test]
fn what_is_wrong_with_a_file_of_cases_is_told_with_line_and_column() {
    let wrong = [
        ("  - name: a\n    expext: []\n", "cases.yaml:3:5: ", "expext"),
        ("  - name: a\n", "cases.yaml:2:5: ", "expect"),
        ("  []\n", "cases.yaml:1:1: ", "no case"),
        ("  - name: a\n    until: 7d\n    expect: []\n", "cases.yaml:3:12: ", "168h"),
        ("  - name: a\n    rule: other\n    expect: []\n", "cases.yaml:3:11: a: there is no rule other", "shop/probes"),
        (
            "  - name: a\n    events:\n      - {at: 1m}\n    expect: []\n",
            "cases.yaml:4:9: a: exactly one of",
            "cloudEvent",
        ),
        (
            "  - name: a\n    events: [{object: {kind: Pod}}]\n    expect: []\n",
            "cases.yaml:3:14: a: an object has",
            "apiVersion",
        ),
        (
            "  - name: a\n    events: [{deleted: {apiVersion: v1, kind: Pod, metadata: {name: p}}}]\n    expect: []\n",
            "cases.yaml:3:14: a: ",
            "existing",
        ),
        ("  - name: a\n    events: [{cloudEvent: {type: t}}]\n    expect: []\n", "cases.yaml:3:14: a: ", "ref"),
        ("  - name: a\n    events: [{file: no.yaml}]\n    expect: []\n", "cases.yaml:3:14: a: no.yaml", "read no.yaml"),
    ];
    for (cases, place, why) in wrong {
        let (code, said, error) = Bench::cases(cases);
        assert_eq!((code, said.as_str()), (2, ""), "{cases}{error}");
        assert!(error.starts_with(place) && error.contains(why), "{cases}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_line_and_column() {
    let with = |from: &str, to: &str| {
        assert!(RULE.contains(from), "{from}");
        let bench = Bench::new(&[("rule.yaml", &RULE.replace(from, to))]);
        let (code, said, error) = bench.run("lint -f rule.yaml");
        assert_eq!((code, error.as_str()), (1, ""), "{said}");
        said
    };
    let cases = [
        ("event.data.message !=", "event.dta.message !=", "error: rule.yaml:10:19: spec.when[0].expression: "),
        (
            "expression: event",
            "expression: |-\n        true &&\n        evnt",
            "error: rule.yaml:11:9: spec.when[0].expression: ",
        ),
        (
            "  throttle: {cooldown: 1h}",
            "  throttle: {cooldown: 7d}",
            "error: rule.yaml:13:24: spec.throttle.cooldown: ",
        ),
        ("atLeast: 3,", "atLeast: 3, atMost: 4,", "error: rule.yaml:12:33: spec.trigger.count.atMost: unknown field"),
        ("cooldown: 1h", "coldown: 1h", "spec.throttle.coldown: unknown field: perhaps cooldown is meant"),
        ("sinkRef: {name: oncall}", "sink: oncall", "notify.sink: unknown field: perhaps sinkRef is meant"),
        (
            "    - name: real\n      expression: event.data.message != 'ignored'\n",
            "    - event.data.message != 'ignored'\n",
            "error: rule.yaml:9:7: spec.when[0]: must be a map, with expression and name",
        ),
        ("atLeast: 3,", "atLeast: 0,", "error: rule.yaml:12:22: spec.trigger.count.atLeast: must be 1 or more"),
        ("by: \"1\"", "by: 1", "spec.actions[0].scale.by: must be a text; put it in quotes"),
        ("by: \"1\"", "to: 3, by: \"1\"", "exactly one of to, toExpression and by must be set"),
        ("text: \"${string(count)}", "text: \"${string(cnt)}", "error: rule.yaml:19:57: spec.actions[1].notify.text: "),
        ("v1alpha1", "v1", "error: rule.yaml:1:13: apiVersion: signalbox.dev/v1 is not served"),
        ("kind: EventRule", "kind: EventRul", "error: rule.yaml:2:7: kind: EventRul is no kind"),
        ("  sources:\n", "  sources: [\n", "error: rule.yaml:"),
    ];
    for (from, to, expected) in cases {
        let said = with(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn what_is_surely_not_meant_is_a_warning_and_with_strict_an_error() {
    let rule = r#"apiVersion: signalbox.dev/v1alpha1
kind: EventRule
metadata: {name: odd}
spec:
  sources:
    - {name: a, resource: {apiVersion: extensions/v1beta1, kind: Deployment}}
    - {name: b, resource: {apiVersion: apps/v1, kind: Deployment}}
    - {name: c, schedule: {cron: "0 7 * * *"}}
  variables: [{name: used, expression: "1"}, {name: unused, expression: "2"}]
  when: [{name: always, expression: 1 < 2}, {name: uses, expression: variables.used == 1}]
  trigger:
    sequence: {within: 10m, steps: [{source: a}, {source: b}]}
  actions:
    - {name: grow, scale: {target: {kind: Deployment, name: web}, by: "1"}}
    - {name: fit, scale: {target: {kind: Deployment, name: web}, toExpression: event.data.n}}
"#;
    let noisy = "apiVersion: signalbox.dev/v1alpha1\nkind: EventRule\nmetadata: {name: noisy}\nspec:\n  sources: [{name: all, kubernetesEvent: {}}]\n  \
                 actions: [{name: tell, notify: {sinkRef: {name: s}, text: x}}]\n";
    let bench = Bench::new(&[("a.yaml", rule), ("b.yaml", noisy)]);
    let (code, said, _) = bench.run("lint -f .");
    let expected = "\
warning: a.yaml:6:40: spec.sources[0].resource.apiVersion: Kubernetes has no extensions/v1beta1 since 1.22; write apps/v1 or networking.k8s.io/v1
warning: a.yaml:8:14: spec.sources[2].name: no step of the trigger looks at source c
warning: a.yaml:9:53: spec.variables[1].name: variable unused is never used
warning: a.yaml:10:37: spec.when[0].expression: is always true: it can be left out
warning: a.yaml:14:71: spec.actions[0].scale.by: adds replicas at each firing, without end: set max
warning: a.yaml:15:80: spec.actions[1].scale.toExpression: what an event says is bounded by nothing but 1000000: set max
warning: b.yaml:5:25: spec.sources[0].kubernetesEvent: takes every Kubernetes Event, and each fires: say which, or set throttle
2 rules without error, 0 errors, 7 warnings
";
    assert_eq!((code, said.replace("./", "").as_str()), (0, expected));
    assert_eq!(bench.run("lint -f . --strict").0, 1);
    let (_, json, _) = bench.run("lint -f b.yaml -o json");
    assert!(json.contains("\"severity\": \"warning\"") && json.contains("\"column\": 25"), "{json}");
}

#[test]
fn junit_tells_each_case() {
    let cases = format!(
        "cases:\n  - {{name: \"a & b\", expect: []}}\n  - {{name: c, events: [{{object: {EVENT}}}], expect: [{{}}]}}\n"
    );
    let bench = Bench::new(&[("rule.yaml", RULE), ("cases.yaml", &cases)]);
    let (code, xml, _) = bench.run("test -f rule.yaml --cases cases.yaml -o junit");
    assert_eq!(code, 1);
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
    assert!(
        xml.contains("<testcase name=\"a &amp; b\" classname=\"cases.yaml\" file=\"cases.yaml\" line=\"2\"/>"),
        "{xml}"
    );
    assert!(xml.contains("<failure message=\"firing 1 (cases.yaml:3:"), "{xml}");
}

#[test]
fn a_backtest_lets_events_happen_at_their_own_times() {
    let event = |minute: u8, name: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Event","metadata":{{"name":"{name}","namespace":"shop"}},"reason":"Unhealthy","message":"m","count":1,"lastTimestamp":"2026-11-02T07:{minute:02}:00Z","involvedObject":{{"kind":"Pod","name":"web-1","namespace":"shop"}}}}"#
        )
    };
    // The fourth is more than ten minutes after the first; the sixth and those after it are within the cooldown.
    let dump: Vec<String> =
        [9, 0, 1, 15, 16, 17, 18, 19].iter().map(|minute| event(*minute, &format!("e{minute}"))).collect();
    let bench = Bench::new(&[("rule.yaml", RULE), ("dump.ndjson", &dump.join("\n"))]);
    let (code, said, error) = bench.run("backtest -f rule.yaml --events dump.ndjson");
    let expected = "\
TIME                   KIND    SOURCE   COUNT   GROUP
2026-11-02T07:09:00Z   Fired   probe    3       shop/Pod/web-1
8 events from 2026-11-02T07:00:00Z to 2026-11-02T07:19:00Z; 0 without a time were left out
seen 8, matched 8, fired 1, expressions that failed 0
suppressed: cooldown 3
";
    assert_eq!((code, said.as_str(), error.as_str()), (0, expected, ""));
}

#[test]
fn explain_tells_each_part_of_each_condition_and_what_came_of_it() {
    let event = EVENT.replace("message: m", "message: ignored");
    let bench = Bench::new(&[("rule.yaml", RULE), ("event.yaml", &event), ("good.yaml", EVENT)]);
    let (code, said, error) = bench.run("explain -f rule.yaml --event event.yaml --at 2026-11-02T07:20:00Z");
    let expected = "\
rule shop/probes
event dev.signalbox.kubernetes.event of shop/Pod/web-1
  source probe takes it
    when[real]: false
      event.data.message != 'ignored'  false
";
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(said.starts_with(expected) && said.ends_with("does not fire\n"), "{said}");
    assert!(said.contains("      event.data.message               \"ignored\"\n"), "{said}");
    let (_, said, _) = bench.run("explain -f rule.yaml --event good.yaml");
    assert!(
        said.contains("when[real]: true") && said.contains("counted for shop/Pod/web-1: 1 of 3 within 10m"),
        "{said}"
    );
    let (_, json, _) = bench.run("explain -f rule.yaml --event event.yaml -o json");
    assert!(json.contains("\"holds\": false"), "{json}");
}

#[test]
fn a_cluster_that_is_not_to_be_found_is_told_once_and_with_what_to_do() {
    let kubeconfig = "{apiVersion: v1, kind: Config, clusters: [], users: [], contexts: []}";
    let bench = Bench::new(&[("kubeconfig", kubeconfig), ("rule.yaml", RULE)]);
    for line in [
        "history probes",
        "rbac -f rule.yaml",
        "deadletters --kubeconfig other",
        "history probes --kubeconfig kubeconfig --context away",
    ] {
        let (code, said, error) = bench.run(line);
        assert_eq!((code, said.as_str()), (1, ""), "{line}: {error}");
        assert!(
            error.starts_with("error: there is no cluster to ask: name a kubeconfig by --kubeconfig"),
            "{line}: {error}"
        );
        assert!(error.lines().count() == 1 && error.matches("No such file").count() <= 1, "{line}: {error}");
    }
    let (_, _, error) = bench.run("history probes --kubeconfig kubeconfig --context away");
    assert!(error.contains("away"), "{error}");
}
