//! Code that panics although it must not: that of others, or a fault of ours, brought out by some event, object or rule. It would do so again after
//! every restart, so it is caught where one of them is worked on: that one is told as failed, and the others go on. It knows nothing of the work.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::FutureExt as _;

/// Work has panicked. The process has written where to its standard error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is a fault of signalbox, please report it: {0}")]
pub struct Poisoned(String);

impl Poisoned {
    fn by(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Self(text.unwrap_or("panic without words").to_owned())
    }
}

/// Does the work. What it changes must be of use also when it ends in the middle.
///
/// # Errors
/// When it panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Poisoned> {
    let work = AssertUnwindSafe(|| {
        before();
        work()
    });
    catch_unwind(work).map_err(|panic| Poisoned::by(&*panic))
}

/// As [`caught`], of what has to be waited for.
///
/// # Errors
/// When it panics.
///
/// # Cancel safety
/// That of the work.
pub async fn caught_in<T>(work: impl Future<Output = T>) -> Result<T, Poisoned> {
    let work = async {
        before();
        work.await
    };
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| Poisoned::by(&*panic))
}

/// Nothing, but in tests.
fn before() {
    #[cfg(test)]
    bait::bite();
}

/// Lets tests see what becomes of work that panics.
#[cfg(test)]
pub(crate) mod bait {
    use std::cell::Cell;

    thread_local! {
        static LAID: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// The work that is caught on this thread panics, once, after so many others.
    pub(crate) fn lay(after: usize) {
        LAID.set(Some(after));
    }

    pub(super) fn bite() {
        match LAID.get() {
            Some(0) => {
                LAID.set(None);
                panic!("poison");
            }
            left => LAID.set(left.map(|left| left - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_told_with_its_words_and_other_work_is_done() {
        let said = |poisoned: Poisoned| poisoned.to_string();
        let told = "this is a fault of signalbox, please report it: no 7";
        assert_eq!(caught(|| panic!("no {}", 7)).map_err(said), Err::<(), _>(told.to_owned()));
        assert_eq!(caught_in(async { panic!("no {}", 7) }).await.map_err(said), Err::<(), _>(told.to_owned()));
        assert_eq!((caught(|| 7), caught_in(async { 7 }).await), (Ok(7), Ok(7)));
    }
}
