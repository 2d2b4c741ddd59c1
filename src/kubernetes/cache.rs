//! A bounded map whose entries expire, and a bucket of tokens.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Keeps at most `max` values, each until its own instant.
pub struct Expiring<K, V> {
    max: usize,
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Hash + Eq, V: Clone> Expiring<K, V> {
    /// An empty one.
    pub fn new(max: usize) -> Self {
        Self { max, entries: Mutex::new(HashMap::new()) }
    }

    /// The value, if it has not expired.
    pub fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        let (value, until) = entries.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    /// Forgets the value and gives it, if it has not expired.
    pub fn remove(&self, key: &K) -> Option<V> {
        let (value, until) = self.entries.lock().remove(key)?;
        (until > Instant::now()).then_some(value)
    }

    /// Keeps the value for so long. When the map is full of values that have not expired, all are forgotten: everything here can be asked
    /// for again, and an order of use would cost more than it saves.
    pub fn put(&self, key: K, value: V, age: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= self.max && !entries.contains_key(&key) {
            entries.retain(|_, (_, until)| *until > now);
            if entries.len() >= self.max {
                entries.clear();
            }
        }
        entries.insert(key, (value, now + age));
    }

    /// Forgets what `keep` says no to.
    pub(super) fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.entries.lock().retain(|key, _| keep(key));
    }
}

/// So many a second, and a reserve for bursts.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gets `rate` tokens a second.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: burst, filled: Instant::now() }
    }

    /// Whether there is a token.
    pub fn has(&mut self, now: Instant) -> bool {
        let grown = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + grown).min(self.burst);
        self.filled = self.filled.max(now);
        self.tokens >= 1.0
    }

    /// Takes so many tokens if there is one at least: what there are too few of is owed.
    ///
    /// # Errors
    /// With the time after which there is one.
    pub fn draw(&mut self, tokens: u32, now: Instant) -> Result<(), Duration> {
        if self.has(now) {
            self.tokens -= f64::from(tokens);
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - self.tokens) / self.rate).unwrap_or(Duration::MAX))
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let some = self.has(now);
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_reserve_and_then_its_rate() {
        let mut bucket = Bucket::new(10.0, 5.0);
        let given = |bucket: &mut Bucket| (0..100).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(given(&mut bucket), 5);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(given(&mut bucket), 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(given(&mut bucket), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_drawn_beyond_the_reserve_is_owed() {
        let mut bucket = Bucket::new(10.0, 5.0);
        assert_eq!(bucket.draw(24, Instant::now()), Ok(()));
        assert_eq!(bucket.draw(1, Instant::now()), Err(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(bucket.draw(1, Instant::now()), Ok(()));
        assert_eq!(bucket.draw(1, Instant::now()), Err(Duration::from_millis(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_there_until_it_expires() {
        let cache = Expiring::new(8);
        cache.put("a", 1, Duration::from_secs(5));
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_so_many() {
        let cache = Expiring::new(2);
        for key in 0..100 {
            cache.put(key, key, Duration::from_secs(5));
            assert_eq!(cache.get(&key), Some(key));
            assert!(cache.entries.lock().len() <= 2);
        }
    }
}
