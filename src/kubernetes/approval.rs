//! Approvals of steps: what people write into an annotation of a rule, a line for each, as `kubectl signalbox approve` does, for whoever waits for it.
//!
//! That the annotation says who wrote it is the policy's doing: see [`super::policy`]. Where that is not in force, nothing here is to be believed.

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::watch;

/// The annotation. Lines that somebody else has written stay as they are.
pub const APPROVAL: &str = "signalbox.dev/approval";

/// What somebody has decided about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Whether it may be done.
    pub approved: bool,
    /// The step: `<firing>-<action>`.
    pub step: String,
    /// The user's name, which may have spaces.
    pub by: String,
}

impl Approval {
    /// What a line of the annotation says: `approve <firing>-<action> <user>`, or `deny` in place of the first word. Nothing when it says neither.
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let approved = match words.next()? {
            "approve" => true,
            "deny" => false,
            _ => return None,
        };
        let (step, by) = (words.next()?.to_owned(), words.next()?.to_owned());
        (!step.is_empty() && !by.is_empty()).then_some(Self { approved, step, by })
    }

    /// All that the annotation says; of two lines about one step the later one counts.
    pub fn all(annotation: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for said in annotation.lines().filter_map(Self::read) {
            all.retain(|known| known.step != said.step);
            all.push(said);
        }
        all
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.approved { "approve" } else { "deny" };
        write!(f, "{word} {} {}", self.step, self.by)
    }
}

/// The approvals of each rule, by the rule's uid. The controller of rules says it, steps wait for it.
#[derive(Debug, Default)]
pub struct Approvals(Arc<watch::Sender<HashMap<String, Vec<Approval>>>>);

impl Approvals {
    /// What the rule's annotation says now.
    pub fn set(&self, rule: &str, annotation: Option<&str>) {
        let said = annotation.map(Approval::all).filter(|said| !said.is_empty());
        self.0.send_if_modified(|known| match said {
            Some(said) if known.get(rule) == Some(&said) => false,
            Some(said) => {
                known.insert(rule.to_owned(), said);
                true
            }
            None => known.remove(rule).is_some(),
        });
    }

    /// Waits until somebody has decided about the step.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn of(&self, rule: &str, step: &str) -> Approval {
        let mut changes = self.0.subscribe();
        let said =
            |known: &HashMap<String, Vec<Approval>>| known.get(rule)?.iter().find(|said| said.step == step).cloned();
        // The sender is `self`'s own, so this cannot fail.
        match changes.wait_for(|known| said(known).is_some()).await.ok().and_then(|known| said(&known)) {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};

    use super::*;

    #[test]
    fn an_annotation_is_read_as_it_is_written_and_anything_else_is_none() {
        for said in ["approve 0123-go jane", "deny 0123-go Jane van Dam"] {
            assert_eq!(Approval::read(said).expect("it says so").to_string(), said);
        }
        let odd = [
            "",
            "approve",
            "approve 0123-go",
            "approve 0123-go ",
            "approve  jane",
            "maybe 0123-go jane",
            "Approve x y",
        ];
        for odd in odd {
            assert_eq!(Approval::read(odd), None, "{odd:?}");
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_step_hears_of_that_step_of_that_rule_only() {
        let approvals = Approvals::default();
        let mut waits = approvals.of("u", "f-go").boxed();
        for (rule, said) in [("u", "approve f-other jane"), ("v", "approve f-go jane"), ("u", "perhaps f-go jane")] {
            approvals.set(rule, Some(said));
            assert!(poll!(&mut waits).is_pending(), "{said}");
        }
        approvals.set("u", Some("approve f-other kim\ndeny f-go jane\nnonsense"));
        assert_eq!(waits.await, Approval { approved: false, step: "f-go".into(), by: "jane".into() });
        assert!(approvals.of("u", "f-go").now_or_never().is_some(), "it was said before");
        approvals.set("u", None);
        assert!(approvals.of("u", "f-go").now_or_never().is_none(), "it was taken back");
    }

    #[test]
    fn each_line_is_an_approval_and_of_two_about_one_step_the_later_one_counts() {
        let all = Approval::all("approve f-a jane\n\ndeny f-b kim\ndeny f-a kim");
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["deny f-b kim", "deny f-a kim"]);
    }
}
