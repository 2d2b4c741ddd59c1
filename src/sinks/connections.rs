//! Connections to brokers: one for each endpoint and login, whatever the number of sinks and firings that use it.

use std::{any::Any, collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{sync::OnceCell, time::Instant};

use super::SinkError;

/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// The connections that are kept. A clone keeps the same ones.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<Key, Kept>>>);

/// What a connection is for: a hash of kind, endpoint and login, which does not tell them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

struct Kept {
    connection: Arc<OnceCell<Arc<dyn Any + Send + Sync>>>,
    used: Instant,
}

impl Key {
    /// Of everything that makes connections differ: the kind of sink, the endpoint, user, password, certificates.
    pub fn of<'p>(kind: &'static str, parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hash = Sha256::new();
        // Lengths first, so that no two lists of parts run together to the same bytes.
        for part in std::iter::once(kind.as_bytes()).chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Connections {
    /// The connection of this key, made by `make` when there is none. Of several that ask at once one makes it, and the others wait for it. `C` is the
    /// kind's own type; it must close the connection, and end what serves it, when it is dropped.
    ///
    /// # Errors
    /// Those of `make`; then there is none, and the next one tries again.
    ///
    /// # Cancel safety
    /// Another one that waits makes the connection.
    pub async fn get<C, M>(&self, key: Key, make: impl FnOnce() -> M) -> Result<Arc<C>, SinkError>
    where
        C: Any + Send + Sync,
        M: Future<Output = Result<C, SinkError>>,
    {
        let cell = {
            let mut kept = self.0.lock();
            let kept = kept.entry(key).or_insert_with(|| Kept { connection: Arc::default(), used: Instant::now() });
            kept.used = Instant::now();
            kept.connection.clone()
        };
        let made = async || {
            let made: Arc<dyn Any + Send + Sync> = Arc::new(make().await?);
            Ok::<_, SinkError>(made)
        };
        let any = cell.get_or_try_init(made).await?.clone();
        any.downcast().map_err(|_| SinkError::never("the connection is of another kind of sink"))
    }

    /// The connection is of no use any more: the next one who asks makes a new one. Another that was made meanwhile is kept.
    pub fn discard<C: Any + Send + Sync>(&self, key: Key, broken: &Arc<C>) {
        let mut kept = self.0.lock();
        let is_it = kept
            .get(&key)
            .and_then(|kept| kept.connection.get())
            .is_some_and(|known| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(broken)));
        if is_it {
            kept.remove(&key);
        }
    }

    /// Closes those that were not used for five minutes and that nobody uses now.
    pub fn close_idle(&self) {
        let now = Instant::now();
        self.0.lock().retain(|_, kept| {
            let in_use = Arc::strong_count(&kept.connection) > 1
                || kept.connection.get().is_some_and(|one| Arc::strong_count(one) > 1);
            in_use || now.duration_since(kept.used) < IDLE
        });
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// Counts those that are open.
    struct Line(Arc<AtomicUsize>);

    impl Drop for Line {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    fn key(login: &str) -> Key {
        Key::of("nats", [b"nats://h:4222".as_slice(), login.as_bytes()])
    }

    async fn line(connections: &Connections, key: Key, open: &Arc<AtomicUsize>) -> Arc<Line> {
        let make = async || {
            tokio::task::yield_now().await;
            open.fetch_add(1, SeqCst);
            Ok(Line(open.clone()))
        };
        connections.get(key, make).await.expect("a line")
    }

    #[tokio::test]
    async fn one_endpoint_and_login_has_one_connection() {
        let (connections, open) = (Connections::default(), Arc::default());
        let all = futures::future::join_all((0..8).map(|_| line(&connections, key("a"), &open))).await;
        assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
        line(&connections, key("b"), &open).await;
        assert_eq!((connections.len(), open.load(SeqCst)), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_for_five_minutes_is_closed_and_what_is_in_use_is_not() {
        let (connections, open) = (Connections::default(), Arc::default());
        let held = line(&connections, key("a"), &open).await;
        line(&connections, key("b"), &open).await;
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        connections.close_idle();
        assert_eq!(open.load(SeqCst), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        connections.close_idle();
        assert_eq!((connections.len(), open.load(SeqCst)), (1, 1));
        drop(held);
        connections.close_idle();
        assert_eq!((connections.is_empty(), open.load(SeqCst)), (true, 0));
    }

    #[tokio::test]
    async fn a_broken_one_is_made_anew_and_one_that_cannot_be_made_is_tried_again() {
        let (connections, open) = (Connections::default(), Arc::default());
        let broken = line(&connections, key("a"), &open).await;
        connections.discard(key("a"), &broken);
        let new = line(&connections, key("a"), &open).await;
        assert!(!Arc::ptr_eq(&broken, &new));
        connections.discard(key("a"), &broken);
        assert!(Arc::ptr_eq(&new, &line(&connections, key("a"), &open).await), "the new one is kept");
        let refused = connections.get::<Line, _>(key("c"), async || Err(SinkError::never("no"))).await;
        assert_eq!(refused.err().map(|error| error.message).as_deref(), Some("no"));
        line(&connections, key("c"), &open).await;
    }

    #[test]
    fn a_key_tells_nothing_and_no_two_logins_share_one() {
        assert_eq!(format!("{:?}", key("canary")), "Key");
        assert_ne!(Key::of("nats", [b"ab".as_slice(), b"c"]), Key::of("nats", [b"a".as_slice(), b"bc"]));
    }
}
