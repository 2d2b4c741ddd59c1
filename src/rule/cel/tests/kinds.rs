//! Fields of objects whose kind is known.

use super::*;

fn names(kinds: &[(&'static str, &'static str)]) -> Names {
    Names::conditions().with_object_of(kinds.iter().copied())
}

#[track_caller]
fn said(kinds: &[(&'static str, &'static str)], source: &str, expected: &str) {
    let fault = Program::compile(source, &names(kinds)).expect_err(source);
    assert_eq!(fault.to_string(), expected, "{source}");
}

const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");
const POD: (&str, &str) = ("v1", "Pod");

#[test]
fn a_misspelt_field_of_a_built_in_kind_is_refused_with_its_place() {
    let only = [DEPLOYMENT];
    let what = "apps/v1 Deployment has no such field";
    said(&only, "object.sepc.replicas > 1", &format!("1:1: {what} `sepc`: perhaps `spec` is meant"));
    said(&only, "true &&\n object.spec.replcas > 1", &format!("2:8: {what} `replcas`: perhaps `replicas` is meant"));
    said(&only, "has(object.metdata)", &format!("1:5: {what} `metdata`: perhaps `metadata` is meant"));
    said(&only, "object.?stauts.hasValue()", &format!("1:1: {what} `stauts`: perhaps `status` is meant"));
    said(&only, "object['sepc'] == null", &format!("1:1: {what} `sepc`: perhaps `spec` is meant"));
    said(&only, "object.nothing == 1", "1:1: apps/v1 Deployment has no field `nothing`");
    let wrong = "perhaps `image` is meant";
    let containers = "object.spec.template.spec.containers";
    said(&only, &format!("{containers}[0].imag == ''"), &format!("1:37: {what} `imag`: {wrong}"));
    for loop_over in ["all(c, c.imgae == '')", "exists(i, c, c.imgae == '')", "filter(c, true).map(c, c.imgae)"] {
        let fault = Program::compile(&format!("{containers}.{loop_over}"), &names(&only)).expect_err(loop_over);
        assert!(fault.message.contains(wrong), "{fault}");
    }
    let bound = "cel.bind(s, object.spec, s.replcas) == 1";
    let fault = Program::compile(bound, &names(&only)).expect_err(bound);
    assert!(fault.message.contains("perhaps `replicas`"), "{fault}");
}

#[test]
fn what_may_be_there_is_not_refused() {
    for (kinds, source) in [
        (&[DEPLOYMENT][..], "object.metadata.labels.spce == 'x' && object.metadata.annotations['a/b'] == 'x'"),
        // A newer API server may have it.
        (&[DEPLOYMENT], "object.spec.somethingNew == 1 && object.status.conditions.all(c, c.somethingNew == 1)"),
        (&[DEPLOYMENT], "object.metadata.managedFields.all(f, f.fieldsV1.anything == 1)"),
        (&[DEPLOYMENT, POD], "object.spec.containers.size() > 0 || object.spec.replicas > 1"),
        (&[("example.com/v1", "Widget")], "object.sepc == 1"),
        (&[DEPLOYMENT, ("example.com/v1", "Widget")], "object.sepc == 1"),
        (&[], "object.sepc == 1"),
        (&[DEPLOYMENT], "[{'sepc': 1}].all(object, object.sepc == 1)"),
    ] {
        Program::compile(source, &names(kinds)).expect(source);
    }
    let both = "apps/v1 Deployment or v1 Pod has no such field `sepc`: perhaps `spec` is meant";
    said(&[POD, DEPLOYMENT], "object.sepc == 1", &format!("1:1: {both}"));
}

#[test]
fn a_misspelt_field_of_what_an_event_tells_is_refused_and_what_may_be_there_is_not() {
    let told = |told: &[Told]| Names::conditions().with_told(told.iter().copied());
    let refused = |kinds: &[Told], source: &str, expected: &str| {
        let fault = Program::compile(source, &told(kinds)).expect_err(source);
        assert_eq!(fault.message, expected, "{source}");
    };
    let event = [Told::KubernetesEvent];
    let what = "a Kubernetes Event has no such field";
    refused(&event, "event.data.cuont >= 3", &format!("{what} `cuont`: perhaps `count` is meant"));
    refused(&event, "has(event.data.regarding.nmae)", &format!("{what} `nmae`: perhaps `name` is meant"));
    refused(&event, "event.data[?'resaon'].orValue('') == 'x'", &format!("{what} `resaon`: perhaps `reason` is meant"));
    refused(
        &[Told::Change, Told::Instant],
        "event.data.mised",
        "a change of an object or an instant of a timetable has no such field `mised`: perhaps `missed` is meant",
    );
    for (kinds, source) in [
        (&event[..], "event.data.regarding.labels.nmae == 'x' && event.data.object.cuont == 1"),
        (&event, "[{'data': {'cuont': 1}}].all(event, event.data.cuont == 1)"),
        (&event, "event.data.somethingElse == 1"),
        (&[Told::KubernetesEvent, Told::Change], "event.data.operation == 'Create' || event.data.count > 1"),
        (&[], "event.data.cuont == 1"),
    ] {
        Program::compile(source, &told(kinds)).expect(source);
    }
}
