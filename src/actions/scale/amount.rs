//! How many replicas to set.

use serde_json::Value;

use crate::{
    actions::{Failure, FailureKind},
    api::ScaleAmount,
};

/// Replicas that an expression may give where the rule has no `max`: as many as `to` may say.
const MOST: i64 = 1_000_000;

/// The number that `toExpression` has given. It is not repeated in an error but as a number: it may have come out of an event, and be long.
pub(super) fn evaluated(value: &Value, max: Option<i32>) -> Result<ScaleAmount, Failure> {
    let failure = |message: String| Failure { kind: FailureKind::Invalid, message };
    let other = match value {
        Value::Number(number) => match number.as_i64().or_else(|| number.as_u64().map(|_| i64::MAX)) {
            Some(to) if to > MOST && max.is_none() => {
                return Err(failure(format!("toExpression gave {number}, more than {MOST} replicas; max bounds it")));
            }
            // What is more than `max` is cut to it in any case.
            Some(to) => return Ok(ScaleAmount::To(i32::try_from(to.max(0)).unwrap_or(i32::MAX))),
            None => return Err(failure(format!("toExpression gave {number}, no whole number: int() makes one of it"))),
        },
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::String(_) => "a text: int() makes a number of it",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    Err(failure(format!("toExpression gave no whole number, but {other}")))
}

/// The absolute number: of shares the change is rounded away from zero, so that `50%` of 1 changes something; the bounds always hold, and `max`
/// before `min`.
pub(super) fn desired(amount: ScaleAmount, from: i32, min: Option<i32>, max: Option<i32>) -> i32 {
    let from = i64::from(from);
    let wanted = match amount {
        ScaleAmount::To(to) => i64::from(to),
        ScaleAmount::By(change) => from + i64::from(change),
        ScaleAmount::ByPercent(percent) => from + away_from_zero(from * i64::from(percent), 100),
    };
    let wanted = wanted.max(i64::from(min.unwrap_or(0))).min(i64::from(max.unwrap_or(i32::MAX))).max(0);
    i32::try_from(wanted).unwrap_or(i32::MAX)
}

fn away_from_zero(numerator: i64, denominator: i64) -> i64 {
    let quotient = numerator / denominator;
    if numerator % denominator == 0 { quotient } else { quotient + numerator.signum() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_expression_gives_is_a_number_of_replicas_or_an_error_that_says_why_not() {
        for (value, max, to) in [
            (json!(3), None, 3),
            (json!(0), None, 0),
            (json!(-7), None, 0),
            (json!(1_000_000), None, 1_000_000),
            (json!(1_000_001), Some(9), 1_000_001),
            (json!(u64::MAX), Some(9), i32::MAX),
        ] {
            assert_eq!(evaluated(&value, max), Ok(ScaleAmount::To(to)), "{value}");
        }
        for (value, said) in [
            (json!(1_000_001), "toExpression gave 1000001, more than 1000000 replicas; max bounds it"),
            (json!(u64::MAX), "more than 1000000 replicas"),
            (json!(2.5), "toExpression gave 2.5, no whole number: int() makes one of it"),
            (json!(2.0), "toExpression gave 2.0, no whole number"),
            (json!("3"), "toExpression gave no whole number, but a text: int() makes a number of it"),
            (json!(null), "but null"),
            (json!([3]), "but a list"),
        ] {
            let failure = evaluated(&value, None).expect_err("no number");
            assert_eq!(failure.kind, FailureKind::Invalid, "{value}");
            assert!(failure.message.contains(said), "{value}: {failure:?}");
        }
    }

    #[test]
    fn numbers_and_shares_become_absolute() {
        use ScaleAmount::{By, ByPercent, To};
        for (amount, from, to) in [
            (To(5), 2, 5),
            (By(2), 2, 4),
            (By(1), 0, 1),
            (By(-5), 2, 0),
            (ByPercent(50), 1, 2),
            (ByPercent(50), 4, 6),
            (ByPercent(-25), 5, 3),
            (ByPercent(-100), 7, 0),
            (ByPercent(-200), 7, 0),
            (ByPercent(10), 0, 0),
            (By(i32::MAX), i32::MAX, i32::MAX),
        ] {
            assert_eq!(desired(amount, from, None, None), to, "{amount:?} of {from}");
        }
    }

    #[test]
    fn the_bounds_hold_for_every_amount() {
        assert_eq!(desired(ScaleAmount::To(50), 1, None, Some(10)), 10);
        assert_eq!(desired(ScaleAmount::By(-3), 4, Some(2), None), 2);
        assert_eq!(desired(ScaleAmount::ByPercent(1000), 4, Some(2), Some(8)), 8);
    }

    proptest! {
        #[test]
        fn a_share_changes_something_in_its_own_direction(from in 1..100_000i32, percent in -100..1000i32) {
            let to = desired(ScaleAmount::ByPercent(percent), from, None, None);
            prop_assert_eq!((to - from).signum(), percent.signum());
        }

        #[test]
        fn whatever_is_asked_for_is_within_bounds(from in 0..=i32::MAX, by in any::<i32>(), min in 0..1000i32, more in 0..1000i32) {
            let to = desired(ScaleAmount::By(by), from, Some(min), Some(min + more));
            prop_assert!((min..=min + more).contains(&to));
        }
    }
}
