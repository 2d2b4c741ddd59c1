//! The switch for all rules.

use std::{future::Future, sync::Arc};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    config::{ObjectName, Settings},
    controller,
    kubernetes::Cluster,
    record::{Control, Record, Stopped},
};

/// Follows the switch, where there is one. `known` is what the log tells of it.
///
/// # Errors
/// When nothing can be recorded.
pub(super) fn follow(
    settings: &Settings,
    cluster: &Cluster,
    bus: &Arc<dyn Bus>,
    known: Option<Stopped>,
    stop: CancellationToken,
) -> anyhow::Result<Option<impl Future<Output = anyhow::Result<()>> + Send + use<>>> {
    let Some(ObjectName { namespace, name }) = settings.control.clone() else {
        release(&**bus, known.as_ref())?;
        return Ok(None);
    };
    let (client, bus) = (cluster.own().clone(), Arc::clone(bus));
    Ok(Some(async move { Ok(controller::control(client, (&namespace, &name), known.as_ref(), bus, stop).await?) }))
}

/// What an earlier process was told by a switch that there is no more could be taken back by nobody.
fn release(bus: &dyn Bus, known: Option<&Stopped>) -> anyhow::Result<()> {
    if let Some(stopped) = known {
        tracing::warn!(by = stopped.by, "there is no switch for all rules any more: they act again");
        bus.record(Record::Control(Control::Release)).context("release the rules")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bus::embedded::{Embedded, Settings},
        clock::Stamp,
    };

    #[tokio::test]
    async fn without_a_switch_nothing_stays_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = Embedded::open(folder.path(), Settings::default()).expect("a log");
        let before = bus.stats().appended;
        release(&*bus, None).expect("nothing to do");
        assert_eq!(bus.stats().appended, before);
        let stopped = Stopped { since: Stamp::default(), by: "it".to_owned(), why: String::new() };
        release(&*bus, Some(&stopped)).expect("recorded");
        assert_eq!(bus.stats().appended.0, before.0 + 1);
    }
}
