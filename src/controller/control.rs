//! The switch for all rules: one field of one ConfigMap, which becomes a record when it changes.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{Bus, BusError},
    record::{Control, Record, Stopped},
    text::cut,
};

/// A watch in which nothing came for so long is begun anew by a list of the one object, so that one that hangs keeps nobody from stopping.
const SILENT: Duration = Duration::from_secs(60);
/// How long a full disk is given to get room.
const FULL: Duration = Duration::from_secs(1);
/// Characters of the reason.
const MAX_WHY: usize = 256;

/// Follows the ConfigMap of this namespace and name until `shutdown`; `known` is what the log tells. While it cannot be read, what was known stays so.
///
/// # Errors
/// When the log takes nothing any more.
pub async fn control(
    client: Client,
    (namespace, name): (&str, &str),
    known: Option<&Stopped>,
    bus: Arc<dyn Bus>,
    shutdown: CancellationToken,
) -> Result<(), BusError> {
    let by = format!("ConfigMap {namespace}/{name}");
    let known =
        known.map_or(Control::Release, |stopped| Control::Stop { by: stopped.by.clone(), why: stopped.why.clone() });
    let configs: Api<ConfigMap> = Api::namespaced(client, namespace);
    let following = follow(&configs, name, &by, known, &*bus);
    shutdown.run_until_cancelled(following).await.unwrap_or(Ok(()))
}

async fn follow(
    configs: &Api<ConfigMap>,
    name: &str,
    by: &str,
    mut known: Control,
    bus: &dyn Bus,
) -> Result<(), BusError> {
    loop {
        let mut seen = watch_object(configs.clone(), name).default_backoff().boxed();
        while let Ok(Some(next)) = tokio::time::timeout(SILENT, seen.next()).await {
            match next {
                Ok(config) => {
                    let says = read(config.as_ref(), by);
                    if says != known {
                        record(bus, &says).await?;
                        known = says;
                    }
                }
                Err(error) => {
                    tracing::warn!(by, %error, "the switch for all rules cannot be read, it will be tried again")
                }
            }
        }
    }
}

/// What the ConfigMap says: anything but nothing and `false` stops, for who stops in a hurry may write it otherwise than we expect.
fn read(config: Option<&ConfigMap>, by: &str) -> Control {
    let field = |name: &str| config?.data.as_ref()?.get(name).map(|text| text.trim());
    match field("stop").unwrap_or_default() {
        "" => Control::Release,
        no if no.eq_ignore_ascii_case("false") => Control::Release,
        _ => Control::Stop { by: by.to_owned(), why: cut(field("reason").unwrap_or_default(), MAX_WHY) },
    }
}

async fn record(bus: &dyn Bus, control: &Control) -> Result<(), BusError> {
    loop {
        // It does not wait behind events.
        match bus.record(Record::Control(control.clone())) {
            Ok(_) => return Ok(()),
            Err(BusError::Full) => tokio::time::sleep(FULL).await,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn says(data: &[(&str, &str)]) -> Control {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        read(Some(&ConfigMap { data: Some(data), ..ConfigMap::default() }), "it")
    }

    #[test]
    fn anything_but_nothing_and_false_stops() {
        assert_eq!(read(None, "it"), Control::Release);
        assert_eq!(read(Some(&ConfigMap::default()), "it"), Control::Release);
        for released in ["", " ", "false", "False\n"] {
            assert_eq!(says(&[("stop", released), ("reason", "r")]), Control::Release, "{released:?}");
        }
        let stop = |why: &str| Control::Stop { by: "it".to_owned(), why: why.to_owned() };
        for stopped in ["true", "yes", "1", "fasle"] {
            assert_eq!(says(&[("stop", stopped)]), stop(""), "{stopped:?}");
        }
        assert_eq!(says(&[("stop", "true"), ("reason", " a drill ")]), stop("a drill"));
        assert_eq!(says(&[("stop", "true"), ("reason", &"x".repeat(999))]), stop(&cut(&"x".repeat(999), 256)));
    }
}
