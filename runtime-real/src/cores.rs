//! How many threads a proxy runs on: Linkerd's `LINKERD2_PROXY_CORES*` variables.
//!
//! One unless more is asked for: a proxy that shares a host with its application should not take
//! every core because it could.

use std::fmt;

/// A fault of one of the variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?} is not valid: {remedy}")]
pub struct CoresError {
    variable: &'static str,
    value: String,
    remedy: &'static str,
}

/// Threads for this host of `available` cores: a share of them (`CORES_MAX_RATIO`), else as many as
/// allowed (`CORES_MAX`, `CORES`), never fewer than `CORES_MIN`, never more than there are.
///
/// # Errors
/// Every [`CoresError`].
pub fn workers(
    variable: &dyn Fn(&str) -> Option<String>,
    available: usize,
) -> Result<usize, Vec<CoresError>> {
    let mut errors = Vec::new();
    let count = "give a whole number of cores, 1 or more";
    let min = read(variable, &mut errors, "LINKERD2_PROXY_CORES_MIN", count, |n: &usize| *n > 0);
    let max = read(variable, &mut errors, "LINKERD2_PROXY_CORES_MAX", count, |n: &usize| *n > 0);
    let cores = read(variable, &mut errors, "LINKERD2_PROXY_CORES", count, |n: &usize| *n > 0);
    let ratio = read(
        variable,
        &mut errors,
        "LINKERD2_PROXY_CORES_MAX_RATIO",
        "give a share of the host's cores, more than 0 and up to 1",
        |ratio: &f64| *ratio > 0.0 && *ratio <= 1.0,
    );
    if !errors.is_empty() {
        return Err(errors);
    }
    let max = max.or(cores);
    let share = ratio.map(|ratio| (available as f64 * ratio).round() as usize);
    let wanted = match (share, max) {
        (Some(share), Some(max)) => share.min(max),
        (Some(share), None) => share,
        (None, Some(max)) => max,
        (None, None) => 1,
    };
    Ok(wanted.max(min.unwrap_or(1)).clamp(1, available.max(1)))
}

fn read<T: std::str::FromStr + fmt::Debug>(
    variable: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<CoresError>,
    name: &'static str,
    remedy: &'static str,
    fits: impl Fn(&T) -> bool,
) -> Option<T> {
    let value = variable(name).filter(|value| !value.trim().is_empty())?;
    let read = value.trim().parse().ok().filter(fits);
    if read.is_none() {
        errors.push(CoresError { variable: name, value, remedy });
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_eight(set: &[(&str, &str)]) -> Result<usize, Vec<CoresError>> {
        let find = |name: &str| {
            let found = set.iter().find(|(n, _)| format!("LINKERD2_PROXY_{n}") == name);
            found.map(|(_, value)| value.to_string())
        };
        workers(&find, 8)
    }

    #[test]
    fn one_thread_unless_more_is_asked_for() {
        assert_eq!(of_eight(&[]), Ok(1));
        assert_eq!(of_eight(&[("CORES", "2")]), Ok(2));
        assert_eq!(of_eight(&[("CORES", "2"), ("CORES_MAX", "3")]), Ok(3));
        assert_eq!(of_eight(&[("CORES", "64")]), Ok(8));
        assert_eq!(of_eight(&[("CORES_MIN", "2")]), Ok(2));
        assert_eq!(of_eight(&[("CORES_MAX_RATIO", "0.5")]), Ok(4));
        assert_eq!(of_eight(&[("CORES_MAX_RATIO", "0.01")]), Ok(1));
        assert_eq!(of_eight(&[("CORES_MAX_RATIO", "1"), ("CORES_MAX", "2")]), Ok(2));
    }

    #[test]
    fn every_fault_is_told() {
        let errors = of_eight(&[("CORES", "0"), ("CORES_MAX_RATIO", "2")]).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert_eq!(
            errors[0].to_string(),
            "LINKERD2_PROXY_CORES=\"0\" is not valid: give a whole number of cores, 1 or more"
        );
    }
}
