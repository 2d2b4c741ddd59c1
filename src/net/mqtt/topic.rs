//! Topics and topic filters (section 4.7 of both versions of MQTT).

/// Why a text is no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// `#` stands somewhere else.
    #[error("# must be the last level, alone")]
    Hash,
    /// `+` stands somewhere else.
    #[error("+ must be a level of its own")]
    Plus,
    /// The null character, which no topic may have.
    #[error("it has a character that no topic may have")]
    Character,
    /// `$share/…`, which the source adds itself.
    #[error("write the group of a shared subscription as sharedGroup, not into the topic")]
    Shared,
}

/// Whether a text is a topic filter.
///
/// # Errors
/// Why not.
pub fn check(filter: &str) -> Result<(), FilterFault> {
    if filter.is_empty() {
        return Err(FilterFault::Empty);
    }
    if filter.chars().any(char::is_control) {
        return Err(FilterFault::Character);
    }
    if filter == "$share" || filter.starts_with("$share/") {
        return Err(FilterFault::Shared);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterFault::Hash);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterFault::Plus);
        }
    }
    Ok(())
}

/// Whether a message of this topic is one that the filter asks for. Wildcards do not stand for topics of the broker itself, such as `$SYS/…`.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether all that `narrow` asks for is asked for by `wide` too.
pub fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = narrow.split('/');
    for wanted in wide.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None) | ("+", Some("#")) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    // `a/#` is also `a`, which `a` alone covers not.
    levels.next().is_none()
}

/// Whether there are topics that both ask for.
pub fn overlap(one: &str, other: &str) -> bool {
    if one.starts_with('$') != other.starts_with('$') && (one.starts_with(['+', '#']) || other.starts_with(['+', '#']))
    {
        return false;
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The levels of topics that are generalised: there are 2^9 + 2^8 filters of 8.
const MAX_GENERALISED: usize = 8;
/// Bytes of such topics: their filters are a packet of 768 KiB at most.
const MAX_GENERALISED_BYTES: usize = 1 << 10;

/// All filters that a message of this topic can have come by; nothing for one of more than 8 levels or 1 KiB.
pub fn filters_of(topic: &str) -> Vec<String> {
    let levels: Vec<&str> = topic.split('/').collect();
    if levels.len() > MAX_GENERALISED || topic.len() > MAX_GENERALISED_BYTES {
        return Vec::new();
    }
    let mut starts = vec![String::new()];
    let mut filters = Vec::new();
    for (at, level) in levels.iter().enumerate() {
        let begin = |start: &str, level: &str| if at == 0 { level.to_owned() } else { format!("{start}/{level}") };
        filters.extend(starts.iter().map(|start| begin(start, "#")));
        starts = starts.iter().flat_map(|start| [begin(start, level), begin(start, "+")]).collect();
    }
    filters.extend(starts.iter().map(|start| format!("{start}/#")));
    filters.extend(starts);
    filters.retain(|filter| matches(filter, topic));
    filters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_levels_as_the_standard_says() {
        for (filter, topic) in [
            ("plant/+/state", "plant/p1/state"),
            ("plant/#", "plant/p1/state"),
            ("plant/#", "plant"),
            ("#", "plant/ü"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+", ""),
            ("$SYS/#", "$SYS/broker/uptime"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
            assert!(filters_of(topic).contains(&filter.to_owned()), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("plant/+", "plant/p1/state"),
            ("plant/+", "plant"),
            ("+", "/finance"),
            ("#", "$SYS/broker/uptime"),
            ("+/broker/uptime", "$SYS/broker/uptime"),
            ("plant/p1", "Plant/p1"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn filters_that_are_none_are_told() {
        for (filter, fault) in [
            ("", FilterFault::Empty),
            ("plant/#/state", FilterFault::Hash),
            ("plant#", FilterFault::Hash),
            ("plant/p+", FilterFault::Plus),
            ("a\0b", FilterFault::Character),
            ("$share/g/plant", FilterFault::Shared),
        ] {
            assert_eq!(check(filter), Err(fault), "{filter:?}");
        }
        for filter in ["#", "+", "/", "a//b", "+/#", "$SYS/#", "ü/+"] {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(prop::sample::select(vec!["a", "b", "+", "$x", ""]), 1..4);
        (levels, any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn some_topic() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "$x", ""]), 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_are_what_matching_says(one in filter(), other in filter(), topic in some_topic()) {
            if covers(&one, &other) {
                prop_assert!(matches(&one, &topic) || !matches(&other, &topic), "{one} covers {other}: {topic}");
            }
            if matches(&one, &topic) && matches(&other, &topic) {
                prop_assert!(overlap(&one, &other), "{one} {other} {topic}");
            }
            prop_assert_eq!(matches(&one, &topic), filters_of(&topic).contains(&one), "{} {}", one, topic);
        }
    }
}
