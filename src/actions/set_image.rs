//! `setImage`: sets the image of one container, as `kubectl set image`; nothing else of the object is written.

mod reference;

use futures::future::BoxFuture;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    fields::{Entry, Fields, Image, Verb},
    pods,
    target::{Aim, filled_key, fixed, recorded_key, text},
    undo::{self, is_witnessed, named, same},
    write::{self, Change as _, Step},
};
use crate::{
    api::{self, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
    text::join,
};
use reference::Reference;

/// The action.
pub(super) struct SetImage(api::SetImage);

impl SetImage {
    pub(super) fn new(spec: &api::SetImage) -> Self {
        Self(spec.clone())
    }
}

/// One container of an object.
struct Container<'a> {
    /// Where the list stands that it is in: `/spec/template/spec/containers`.
    list: String,
    name: &'a str,
    image: String,
}

impl Action for SetImage {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let aim = fixed(cluster, &self.0.target, namespace).await;
            aim.iter().flat_map(|aim| ["get", "patch"].map(|verb| aim.right(verb))).collect()
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        recorded_key(namespace, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let image = text(filled.get("image"), "image")?;
            let image = Reference::parse(&image).map_err(|error| Failure::last(format!("no image: {error}")))?;
            let name = text(filled.get("container"), "container")?;
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            let step = Step::new(cx, aim);
            let place = place(&step.aim)?;
            let now = step.get().await?;
            let found = container(&now, place, &name).ok_or_else(|| no_container(&step.aim, &now, place, &name))?;
            request(&step, &now, &found, &image.to_string()).to_request()
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(write::execute::<Fields>(cx, request, attempt, permit))
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(Fields::observe(cx, request))
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        let Ok(change) = Fields::of(request) else { return Undo::Never("what it was is not known") };
        let image = |which: &str| json!({"container": change.more["container"], "image": change.more[which]});
        Undo::of(change.object().change(cx.manager(), None, image("from"), image("to")))
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(take_back(cx, change))
    }
}

/// Where the object has the spec of its Pods.
fn place(aim: &Aim) -> Result<&'static str, Failure> {
    let kind = &aim.resource.api;
    pods::place(&kind.api_version, &kind.kind)
        .ok_or_else(|| Failure::last(format!("{}: {} {} has no containers", aim.title(), kind.api_version, kind.kind)))
}

fn containers<'a>(now: &'a DynamicObject, place: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
    pods::CONTAINERS.into_iter().flat_map(move |list| {
        let at = format!("{place}/{list}");
        let all = now.data.pointer(&at).and_then(Value::as_array).into_iter().flatten();
        all.map(move |one| (at.clone(), one))
    })
}

fn container<'a>(now: &DynamicObject, place: &str, name: &'a str) -> Option<Container<'a>> {
    let (list, found) = containers(now, place).find(|(_, one)| one["name"] == *name)?;
    let image = found["image"].as_str().unwrap_or_default().to_owned();
    Some(Container { list, name, image })
}

fn no_container(aim: &Aim, now: &DynamicObject, place: &str, name: &str) -> Failure {
    let names = join(containers(now, place).filter_map(|(_, one)| one["name"].as_str()));
    Failure::last(format!(
        "set the image of {}: it has no container {:?}; it has {names}",
        aim.title(),
        super::target::short(name)
    ))
}

fn request(step: &Step<'_>, now: &DynamicObject, container: &Container<'_>, to: &str) -> Fields {
    let Container { list, name, image: from } = container;
    let entry = Image { list: list.clone(), container: (*name).to_owned() };
    let patch = list
        .trim_start_matches('/')
        .rsplit('/')
        .fold(json!([{"name": name, "image": to}]), |inner, key| json!({key: inner}));
    let more = json!({"container": name, "from": from, "to": to});
    Fields {
        how: format!(", container {name}, from {from} to {to}"),
        more: more.as_object().cloned().unwrap_or_default(),
        entry: Some(Entry::Image(entry)),
        ..Fields::new(step, now, Verb::SetImage, PatchType::Strategic, patch)
    }
}

/// The request that gives the former image back, if the container still has the one that was set.
async fn take_back(cx: &Context, change: &Change) -> Result<Back, Failure> {
    let step = undo::step(cx, change).await?;
    let read = step.api.get(&step.aim.name).await;
    let now = match same(change, read, |error| step.failure(error, "read", step.right("get")))? {
        Ok(now) => now,
        Err(back) => return Ok(back),
    };
    let text = |part: &Value, field: &str| part[field].as_str().unwrap_or_default().to_owned();
    let (name, from, to) = (text(&change.made, "container"), text(&change.made, "image"), text(&change.back, "image"));
    let Some(found) = container(&now, place(&step.aim)?, &name) else {
        return Ok(Back::theirs(change, &format!("has no container {name} any more")));
    };
    match &found.image {
        image if *image == to => Ok(Back::unchanged(format!("{} has image {to} already", named(change)))),
        image if *image != from => Ok(Back::theirs(change, &format!("was set to image {image} by somebody else"))),
        _ if change.unsure && !is_witnessed(change, now.metadata.managed_fields.as_deref()) => {
            Ok(Back::not_ours(change))
        }
        _ => request(&step, &now, &found, &to).to_request().map(Back::Request),
    }
}
