//! How many replicas to set.

use crate::api::ScaleAmount;

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

    use super::*;

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
