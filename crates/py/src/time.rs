use std::time::{Duration, Instant, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Longer than anybody waits, and short enough that no clock overflows: a century.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `seconds` as a duration. What is too small for the clock is one tick, what is too long is a century.
///
/// # Errors
/// `ValueError`: it is negative, or no number.
pub(crate) fn duration(field: &str, seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{field} = {seconds}: give a number of seconds that is not negative"
        )));
    }
    if seconds > FOR_EVER.as_secs_f64() {
        return Ok(FOR_EVER);
    }
    let exact = Duration::from_secs_f64(seconds);
    Ok(if exact.is_zero() && seconds > 0.0 { Duration::from_nanos(1) } else { exact })
}

/// When a wait that starts now is over; none for a wait without end.
///
/// # Errors
/// As [`duration`].
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    let timeout = duration("timeout", seconds)?;
    Ok(if timeout == FOR_EVER { None } else { Instant::now().checked_add(timeout) })
}

/// Seconds since the epoch, negative before it.
pub(crate) fn epoch_seconds(at: SystemTime) -> f64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_and_huge_times_stay_times() {
        assert_eq!(duration("t", 1e-300).unwrap(), Duration::from_nanos(1));
        assert_eq!(duration("t", -0.0).unwrap(), Duration::ZERO);
        assert_eq!(duration("t", 1.5).unwrap(), Duration::from_millis(1500));
        for huge in [1e300, f64::INFINITY] {
            assert_eq!(duration("t", huge).unwrap(), FOR_EVER);
            assert_eq!(deadline(Some(huge)).unwrap(), None);
        }
        assert!(deadline(Some(0.0)).unwrap().is_some());
    }

    #[test]
    fn negative_times_and_no_numbers_are_refused() {
        for bad in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(duration("t", bad).is_err());
            assert!(deadline(Some(bad)).is_err());
        }
    }
}
