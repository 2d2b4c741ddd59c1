//! Questions about the state from outside of the loop, which answers them between its turns.

use tokio::sync::{mpsc, oneshot};

use super::State;
use crate::record::Position;

/// Questions that wait: each is answered within a turn of the loop, and whoever asks waits for the answer.
const QUESTIONS: usize = 16;

type Answer = Box<dyn FnOnce(&State) + Send>;

/// Where questions are asked. A clone is the same.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Question>);

/// The loop's end of a [`Desk`].
pub struct Questions {
    asked: mpsc::Receiver<Question>,
    /// Those about a position that is not folded yet: each has somebody who waits, so they are few.
    early: Vec<Question>,
}

struct Question {
    after: Position,
    answer: Answer,
}

/// A desk, and the end that the loop has of it.
pub fn desk() -> (Desk, Questions) {
    let (ask, asked) = mpsc::channel(QUESTIONS);
    (Desk(ask), Questions { asked, early: Vec::new() })
}

impl Desk {
    /// Asks the state as it is when the record at `after` is folded, or later; `Position(0)`: now. The question must be short: the loop waits for it.
    /// Nothing when the loop has ended.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the question may be answered all the same, to nobody.
    pub async fn ask<T: Send + 'static>(
        &self,
        after: Position,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone.
        let answering = Box::new(move |state: &State| drop(reply.send(question(state))));
        self.0.send(Question { after, answer: answering }).await.ok()?;
        answer.await.ok()
    }
}

impl Questions {
    /// Waits for a question, to be answered with [`Questions::answer`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no question is lost.
    pub(super) async fn come(&mut self) {
        match self.asked.recv().await {
            Some(question) => self.early.push(question),
            // Nobody is left who could ask.
            None => std::future::pending().await,
        }
    }

    /// Answers what can be answered.
    pub(super) fn answer(&mut self, state: &State) {
        for _ in 0..QUESTIONS {
            let Ok(question) = self.asked.try_recv() else { break };
            self.early.push(question);
        }
        if self.early.is_empty() {
            return;
        }
        let (due, early) = std::mem::take(&mut self.early).into_iter().partition(|one| one.after <= state.position());
        self.early = early;
        let due: Vec<Question> = due;
        due.into_iter().for_each(|question| (question.answer)(state));
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("after", &self.after).finish_non_exhaustive()
    }
}
