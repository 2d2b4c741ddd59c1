//! Names with wildcards.

/// A name with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rule) struct Glob(Vec<char>);

impl Glob {
    /// The pattern as it was written.
    pub(super) fn pattern(&self) -> String {
        self.0.iter().collect()
    }

    pub(in crate::rule) fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// What every name begins with that fits, and whether that is the whole name.
    pub(in crate::rule) fn beginning(&self) -> (String, bool) {
        let plain = self.0.iter().take_while(|one| !matches!(one, '*' | '?'));
        let beginning: String = plain.collect();
        let whole = beginning.chars().count() == self.0.len();
        (beginning, whole)
    }

    /// Whether the whole name fits; time is the product of both lengths at worst.
    pub(in crate::rule) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut next) = (0, 0);
        // Where to go on when the last `*` has to take one character more.
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.0.get(next) {
                Some('*') => {
                    retry = Some((next + 1, at));
                    next += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == name[at] => {
                    at += 1;
                    next += 1;
                }
                _ => match retry {
                    Some((pattern, start)) => {
                        retry = Some((pattern, start + 1));
                        next = pattern;
                        at = start + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0[next..].iter().all(|rest| *rest == '*')
    }
}
