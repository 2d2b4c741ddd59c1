//! What is asked of a cluster beside its records: who its brokers are, where a group is, and how far it is behind. All of it blocks.

use std::collections::{BTreeMap, HashMap};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    api::KafkaStart,
    net::kafka::{ANSWER, Fault, Places, fault, sorted},
};

fn list(places: &Places) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in places {
        for partition in partitions {
            list.add_partition(topic, *partition);
        }
    }
    list
}

/// What came out for each partition.
///
/// # Errors
/// That of the first that has one.
fn answered(list: &TopicPartitionList) -> Result<HashMap<(String, i32), Offset>, Fault> {
    for one in list.elements() {
        if let Err(error) = one.error() {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            return Err(fault(code, &format!("{}/{}: {code}", one.topic(), one.partition())));
        }
    }
    Ok(list.to_topic_map())
}

/// Where the group goes on in each partition; [`Offset::Invalid`] where it has not begun.
fn committed<C, X>(client: &C, places: &Places) -> Result<HashMap<(String, i32), Offset>, Fault>
where
    C: Consumer<X>,
    X: ConsumerContext,
{
    answered(&client.committed_offsets(list(places), ANSWER).map_err(|error| sorted(&error))?)
}

/// The first offset there is of each partition, or the next that there will be.
fn ends<C, X>(client: &C, places: &Places, end: Offset) -> Result<HashMap<(String, i32), Offset>, Fault>
where
    C: Consumer<X>,
    X: ConsumerContext,
{
    let mut list = list(places);
    list.set_all_offsets(end).map_err(|error| sorted(&error))?;
    answered(&client.offsets_for_times(list, ANSWER).map_err(|error| sorted(&error))?)
}

/// Lets the group begin in topics of which it has taken nothing yet. From then on it has a place in every partition there is, so that what comes while
/// nobody takes anything is not passed over; in partitions that come later it begins with their first record.
pub(super) fn begin<C, X>(client: &C, places: &Places, start: KafkaStart) -> Result<(), Fault>
where
    C: Consumer<X>,
    X: ConsumerContext,
{
    let known = committed(client, places)?;
    let begun = |topic: &str| known.iter().any(|((known, _), at)| known == topic && matches!(at, Offset::Offset(_)));
    let new: Places = places.iter().filter(|(topic, _)| !begun(topic)).cloned().collect();
    if new.is_empty() || start == KafkaStart::Earliest {
        return Ok(());
    }
    let ends = TopicPartitionList::from_topic_map(&ends(client, &new, Offset::End)?).map_err(|error| sorted(&error))?;
    client.commit(&ends, CommitMode::Sync).map_err(|error| {
        let why = match &error {
            KafkaError::ConsumerCommit(code) => code.to_string(),
            other => other.to_string(),
        };
        Fault::Refused(format!(
            "the group cannot be told to begin with what comes from now on: {why}; where it has other members, set start: Earliest or use another group"
        ))
    })
}

/// How many records of each topic the group has not taken, those of the partitions of other members as well.
pub(in crate::sources::feeds) fn lag<C, X>(client: &C, places: &Places) -> Result<BTreeMap<String, u64>, Fault>
where
    C: Consumer<X>,
    X: ConsumerContext,
{
    let (known, ends) = (committed(client, places)?, self::ends(client, places, Offset::End)?);
    // Where nothing was taken, all that there is waits.
    let firsts = self::ends(client, places, Offset::Beginning)?;
    Ok(behind(&known, &firsts, &ends))
}

fn behind(
    known: &HashMap<(String, i32), Offset>,
    firsts: &HashMap<(String, i32), Offset>,
    ends: &HashMap<(String, i32), Offset>,
) -> BTreeMap<String, u64> {
    let number = |offset: Option<&Offset>| match offset {
        Some(Offset::Offset(offset)) => Some(*offset),
        _ => None,
    };
    let mut lag = BTreeMap::new();
    for (place, end) in ends {
        let (end, first) = (number(Some(end)).unwrap_or_default(), number(firsts.get(place)).unwrap_or_default());
        // What was deleted before it was taken waits no more.
        let at = number(known.get(place)).unwrap_or(first).max(first);
        *lag.entry(place.0.clone()).or_default() += u64::try_from(end - at).unwrap_or_default();
    }
    lag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[(i32, Offset)]) -> HashMap<(String, i32), Offset> {
        offsets.iter().map(|(partition, offset)| (("orders".to_owned(), *partition), *offset)).collect()
    }

    #[test]
    fn what_waits_is_what_there_is_behind_where_the_group_is() {
        let (firsts, ends) = (
            at(&[(0, Offset::Offset(3)), (1, Offset::Offset(0)), (2, Offset::Offset(5))]),
            at(&[(0, Offset::Offset(10)), (1, Offset::Offset(4)), (2, Offset::Offset(9))]),
        );
        let known = at(&[(0, Offset::Offset(8)), (1, Offset::Invalid), (2, Offset::Offset(1))]);
        assert_eq!(behind(&known, &firsts, &ends), BTreeMap::from([("orders".to_owned(), 2 + 4 + 4)]));
        let ahead = at(&[(0, Offset::Offset(11))]);
        assert_eq!(behind(&ahead, &at(&[]), &at(&[(0, Offset::Offset(10))]))["orders"], 0, "asked a moment later");
    }
}
