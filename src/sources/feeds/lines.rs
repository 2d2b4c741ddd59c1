//! Connections that EventSources share: those of one namespace with the same server, the same Secrets and the same TLS.
//!
//! A line is driven by whoever uses it, and ends with the last one who does: no task of its own goes on with it. Of several who ask at once one makes it; what
//! comes of that, also a failure, is for all of them. Those of other namespaces have lines of their own, so that nobody learns of, or slows down, another's.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Weak},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::link::Down;
use crate::sinks::Key;

/// A connection that is shared: what its users ask by.
pub(super) struct Line<T> {
    /// What to ask by.
    pub(super) client: T,
    driver: Shared<BoxFuture<'static, Down>>,
}

impl<T> Line<T> {
    /// `driver` goes on with the connection until it ends, and tells why. Dropped, the connection ends.
    pub(super) fn new(client: T, driver: impl Future<Output = Down> + Send + 'static) -> Self {
        Self { client, driver: driver.boxed().shared() }
    }

    /// Goes on with the connection until it ends: why. Whoever uses the line must wait for this beside what is asked: nobody else may do so.
    ///
    /// # Cancel safety
    /// Dropped, the other users go on with it.
    pub(super) fn ended(&self) -> impl Future<Output = Down> + Send + use<T> {
        self.driver.clone()
    }

    /// Whether the connection has not ended, as far as its users have seen.
    fn is_up(&self) -> bool {
        self.driver.peek().is_none()
    }
}

/// Lines that are in use.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<Key, Arc<Place>>>);

/// Held while a line is made.
type Place = tokio::sync::Mutex<Kept>;

#[derive(Default)]
struct Kept {
    line: Option<Weak<dyn Any + Send + Sync>>,
    /// When the last attempt failed, and why: for those who waited for it.
    failed: Option<(Instant, Down)>,
}

impl Kept {
    fn line<T: Send + Sync + 'static>(&self) -> Option<Arc<Line<T>>> {
        let line = self.line.as_ref()?.upgrade()?.downcast::<Line<T>>().ok()?;
        line.is_up().then_some(line)
    }
}

impl Lines {
    /// The line of this key; `make` makes it where there is none.
    ///
    /// # Errors
    /// Those of `make`, whoever's it was.
    ///
    /// # Cancel safety
    /// Another one that waits makes the line.
    pub(super) async fn get<T: Send + Sync + 'static>(
        &self,
        key: Key,
        make: impl Future<Output = Result<Line<T>, Down>>,
    ) -> Result<Arc<Line<T>>, Down> {
        let asked = Instant::now();
        let place = self.place(key);
        let mut kept = place.lock().await;
        if let Some(line) = kept.line() {
            return Ok(line);
        }
        if let Some((_, down)) = kept.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(down.clone());
        }
        match make.await {
            Ok(line) => {
                let line = Arc::new(line);
                let any: Arc<dyn Any + Send + Sync> = line.clone();
                *kept = Kept { line: Some(Arc::downgrade(&any)), failed: None };
                Ok(line)
            }
            Err(down) => {
                *kept = Kept { line: None, failed: Some((Instant::now(), down.clone())) };
                Err(down)
            }
        }
    }

    /// Where the line of this key is kept. Places that nobody needs any more are given up.
    fn place(&self, key: Key) -> Arc<Place> {
        let mut places = self.0.lock();
        let is_used = |kept: &Kept| kept.line.as_ref().is_some_and(|line| line.strong_count() > 0);
        places.retain(|_, place| Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|kept| is_used(&kept)));
        Arc::clone(places.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::oneshot;

    use super::*;

    /// Counts those that are open.
    struct Open(Arc<AtomicUsize>);

    impl Open {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    fn key(login: &str) -> Key {
        Key::of("nats", [login.as_bytes()])
    }

    /// A line that ends when the other end is told why.
    fn line(open: &Arc<AtomicUsize>) -> (oneshot::Sender<Down>, Line<Open>) {
        let (end, ended) = oneshot::channel();
        let driver = async { ended.await.unwrap_or_else(|_| Down::unreachable("nobody is there")) };
        (end, Line::new(Open::new(open), driver))
    }

    #[tokio::test]
    async fn one_login_has_one_line_which_ends_with_its_last_user() {
        let (lines, open) = (Lines::default(), Arc::default());
        let get = async |login: &str| lines.get(key(login), async { Ok(line(&open).1) }).await.expect("a line");
        let (first, second, other) = (get("a").await, get("a").await, get("b").await);
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        assert_eq!(open.load(SeqCst), 2);
        drop(first);
        assert_eq!(open.load(SeqCst), 2);
        drop((second, other));
        assert_eq!(open.load(SeqCst), 0);
        drop(get("c").await);
        assert_eq!(lines.0.lock().len(), 1, "places of lines that are gone are given up");
    }

    #[tokio::test]
    async fn who_uses_a_line_that_ends_is_told_and_the_next_gets_another() {
        let (lines, open) = (Lines::default(), Arc::default());
        let (end, made) = line(&open);
        let used = lines.get(key("a"), async { Ok(made) }).await.expect("a line");
        let (here, there) = (used.ended(), used.ended());
        end.send(Down::unreachable("it broke")).expect("somebody waits");
        let (here, there) = tokio::join!(here, there);
        assert_eq!((&*here.message, here == there), ("it broke", true));
        let next = lines.get(key("a"), async { Ok(line(&open).1) }).await.expect("a line");
        assert!(!Arc::ptr_eq(&used, &next));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_waited_for_an_attempt_fail_with_it_and_who_comes_later_tries_again() {
        let (lines, tries) = (Lines::default(), AtomicUsize::new(0));
        let fail = async || {
            let make = async {
                tokio::time::sleep(std::time::Duration::from_secs(10)).await;
                tries.fetch_add(1, SeqCst);
                Err::<Line<Open>, _>(Down::unreachable("nobody answers"))
            };
            lines.get(key("a"), make).await.err().map(|down| down.message)
        };
        let begun = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| fail())).await;
        assert!(all.iter().all(|why| why.as_deref() == Some("nobody answers")));
        assert_eq!((tries.load(SeqCst), begun.elapsed().as_secs()), (1, 10), "fifty ask once");
        fail().await;
        assert_eq!(tries.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn who_gives_up_while_making_a_line_leaves_it_to_the_next() {
        let (lines, open) = (Lines::default(), Arc::default());
        let never = lines.get::<Open>(key("a"), std::future::pending());
        let mut never = Box::pin(never);
        assert!(futures::poll!(&mut never).is_pending());
        let mut next = Box::pin(lines.get(key("a"), async { Ok(line(&open).1) }));
        assert!(futures::poll!(&mut next).is_pending());
        drop(never);
        next.await.expect("a line");
    }
}
