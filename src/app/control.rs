//! The switch for all rules.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    config::{ObjectName, Settings},
    controller,
    kubernetes::Cluster,
    record::Stopped,
};

/// Follows the switch, where there is one. `known` is what the log tells of it.
pub(super) fn follow(
    settings: &Settings,
    cluster: &Cluster,
    bus: &Arc<dyn Bus>,
    known: Option<Stopped>,
    stop: CancellationToken,
) -> Option<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
    let ObjectName { namespace, name } = settings.control.clone()?;
    let (client, bus) = (cluster.own().clone(), Arc::clone(bus));
    Some(async move { Ok(controller::control(client, (&namespace, &name), known.as_ref(), bus, stop).await?) })
}
