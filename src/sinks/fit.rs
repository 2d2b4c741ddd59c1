//! Texts that must not be longer than a service takes: it would refuse the longest and worst messages as a whole.

/// How a service writes and counts a character.
#[derive(Clone, Copy)]
pub(super) struct Writing {
    /// What is written in place of a character, if it is not itself.
    pub(super) escape: fn(char) -> Option<&'static str>,
    /// What a character counts that is written as itself.
    pub(super) size: fn(char) -> usize,
}

/// Characters as they are, each counted once.
pub(super) const PLAIN: Writing = Writing { escape: |_| None, size: |_| 1 };

impl Writing {
    /// The text, escaped, in at most `most` of what the service counts. What does not fit is left out and said: `… (truncated, 2396 more)`, in characters of
    /// the text.
    pub(super) fn fit(self, text: &str, most: usize) -> String {
        let cost = |c: char| (self.escape)(c).map_or_else(|| (self.size)(c), str::len);
        if text.chars().map(cost).sum::<usize>() <= most {
            return self.escaped(text);
        }
        let total = text.chars().count();
        // The number of characters left out has at most as many digits as the number of all.
        let room = most.saturating_sub(said(total).chars().count());
        let mut used = 0;
        let kept = text
            .chars()
            .take_while(|&c| {
                used += cost(c);
                used <= room
            })
            .count();
        let kept = unbroken(text, kept);
        let end = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
        self.escaped(&text[..end]) + &said(total - kept)
    }

    fn escaped(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match (self.escape)(c) {
                Some(entity) => out.push_str(entity),
                None => out.push(c),
            }
        }
        out
    }
}

/// The text in one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn said(more: usize) -> String {
    format!("… (truncated, {more} more)")
}

/// The cut moved back so that it is not within one visible character (a family of emoji, a letter and its accent). Not all of Unicode's
/// rules: those that are met in messages.
fn unbroken(text: &str, cut: usize) -> usize {
    let joins = |c: &char| matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{300}'..='\u{36f}');
    let chars: Vec<char> = text.chars().take(cut + 1).collect();
    // The longest families have 11 characters; more than 16 joined ones are somebody's joke.
    (cut.saturating_sub(16)..=cut)
        .rev()
        .find(|&at| {
            let before = at.checked_sub(1).and_then(|at| chars.get(at));
            !chars.get(at).is_some_and(joins) && before != Some(&'\u{200d}')
        })
        .unwrap_or(cut)
}
