//! Taking a list, and comparing it with what is remembered: what came, what changed, what is gone.

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{EVENT_TTL, Failure, Watch, memory::Sight, notice, request};
use crate::{bus::BusError, event::kubernetes_event::is_of_events};

/// What a list has had so far.
#[derive(Default)]
struct Listed {
    uids: HashSet<String>,
    /// Something in it could not be read so far that its uid were known: it may be anything that is missed.
    unknown: bool,
}

impl Watch {
    /// Takes a list and compares it with what is remembered. Gives the version to watch from.
    pub(super) async fn list(&mut self) -> Result<Result<u64, Failure>, BusError> {
        self.follow();
        let known = self.memory.position();
        // Without a version the answer is that of etcd, and not of a cache that may lag.
        let not_older = known.filter(|_| !self.doubt);
        let (mut token, mut listed, mut version) = (None, Listed::default(), None);
        loop {
            let page = match self.api.page(token.as_deref(), not_older).await {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            let version = *version.get_or_insert(page.version);
            if let Some(known) = known.filter(|known| version < *known) {
                if not_older.is_some() {
                    return Ok(Err(Failure::Behind));
                }
                self.begin_anew(known, version);
            }
            self.compare(&page, &mut listed).await?;
            match page.next {
                Some(next) => token = Some(next),
                None => {
                    self.finish(version, &listed).await?;
                    return Ok(Ok(version));
                }
            }
        }
    }

    /// Objects are decoded whole one after another, and only those that are news: decoded, an object is ten times as large as its JSON.
    async fn compare(&mut self, page: &request::Page, listed: &mut Listed) -> Result<(), BusError> {
        let mut objects: Vec<(u64, &RawValue)> = Vec::with_capacity(page.items.len());
        let mut names = HashMap::new();
        for item in &page.items {
            match serde_json::from_str::<request::Item>(item.get()) {
                Ok(request::Item { metadata }) => {
                    let version = metadata.version();
                    let named = metadata.uid.as_deref().zip(version);
                    if let Some((known, version)) =
                        named.and_then(|(uid, version)| self.memory.contradicts(uid, version))
                    {
                        self.begin_anew(known, version);
                    }
                    if !named.is_some_and(|(uid, version)| self.memory.knows(uid, version, &self.followed)) {
                        objects.push((version.unwrap_or_default(), item));
                        names.extend(metadata.qualified_name().zip(metadata.uid.clone()));
                    }
                    listed.unknown |= metadata.uid.is_none();
                    listed.uids.extend(metadata.uid);
                }
                Err(error) => {
                    listed.unknown = true;
                    self.unreadable(&error);
                }
            }
        }
        // The object that had the name before went before this one came.
        for uid in self.memory.replaced(&names) {
            self.lose(&uid).await?;
        }
        // A list is in the order of names; what happened meanwhile is told in the order in which it happened.
        objects.sort_by_key(|(version, _)| *version);
        for (_, item) in objects {
            match serde_json::from_str(item.get()) {
                Ok(object) => self.take(object, Sight::Listed).await?,
                Err(error) => self.unreadable(&error),
            }
        }
        Ok(())
    }

    /// The list has come to its end: what it does not have is gone.
    async fn finish(&mut self, version: u64, listed: &Listed) -> Result<(), BusError> {
        if listed.unknown {
            tracing::warn!(watch = %self.key, "a list holds what cannot be read: what it does not have is not taken for deleted");
        } else {
            for uid in self.memory.missing(&listed.uids) {
                self.lose(&uid).await?;
            }
        }
        self.heard_again();
        let mark = self.memory.finish_list(version, &self.followed);
        self.emitter.remember(mark).await?;
        // A rule's `Baseline` must come after what its list holds.
        self.emitter.flush().await?;
        self.learn().await;
        Ok(())
    }

    /// The versions of the cluster have gone back, as after a restore of etcd: nothing can be compared with what was seen before.
    fn begin_anew(&mut self, known: u64, version: u64) {
        tracing::warn!(watch = %self.key, known, version, "versions of the API server have gone back: what exists is taken as known");
        self.memory.begin_anew();
        self.metrics.may_have_lost();
        self.notice.tell(notice::gone_back(&self.key, known, version));
    }

    /// Everything is known again. What came and went unseen is not.
    fn heard_again(&mut self) {
        let unheard = self.heard.elapsed() + std::mem::take(&mut self.away);
        if is_of_events(&self.key) && self.memory.position().is_some() && unheard > EVENT_TTL {
            tracing::warn!(watch = %self.key, minutes = unheard.as_secs() / 60, "the API server does not keep Events for so long");
            self.metrics.may_have_lost();
            self.notice.tell(notice::may_have_lost(&self.key, unheard));
        }
        let now = Instant::now();
        (self.heard, self.last, self.doubt) = (now, now, false);
    }

    async fn lose(&mut self, uid: &str) -> Result<(), BusError> {
        match self.memory.lose(uid, self.api.source(), Timestamp::now(), &self.followed) {
            Some(observed) => self.emitter.observed(observed).await,
            None => Ok(()),
        }
    }
}
