//! How the text of a setting becomes a value, and what is said when it does not.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(value: &str) -> Result<T, String> {
    value
        .trim()
        .parse()
        .map_err(|error: T::Err| format!("{value:?}: {error}"))
}

pub(super) fn at_least<T: FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display>(
    value: &str,
    least: T,
) -> Result<T, String> {
    let number: T = parse(value)?;
    if number < least {
        Err(format!(
            "{number} is too small, it must be at least {least}"
        ))
    } else {
        Ok(number)
    }
}

pub(super) fn between<T: FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display>(
    value: &str,
    least: T,
    most: T,
) -> Result<T, String> {
    let number = at_least(value, least)?;
    if number > most {
        Err(format!("{number} is too large, it must be at most {most}"))
    } else {
        Ok(number)
    }
}

pub(super) fn millis(value: &str) -> Result<Duration, String> {
    at_least::<u64>(value, 1).map(Duration::from_millis)
}

/// Kafka writes `PLAINTEXT://host:port`.
pub(super) fn strip_scheme(value: &str) -> &str {
    value.split_once("://").map_or(value, |(_, rest)| rest)
}

pub(super) fn address(value: &str) -> Result<SocketAddr, String> {
    let (host, port) = split_host(value)?;
    let _: u16 = port.parse().map_err(|_| not_host_port(value))?;
    let found = value
        .to_socket_addrs()
        .map_err(|error| format!("the name {host:?} does not resolve: {error}"))?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| format!("{value:?} has no address"))
}

pub(super) fn host_port(value: &str) -> Result<(String, u16), String> {
    let (host, port) = split_host(value)?;
    match port.parse() {
        Ok(port) if port != 0 => Ok((host.to_owned(), port)),
        _ => Err(not_host_port(value)),
    }
}

fn split_host(value: &str) -> Result<(&str, &str), String> {
    let split = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    split.ok_or_else(|| not_host_port(value))
}

fn not_host_port(value: &str) -> String {
    format!("{value:?} is not HOST:PORT")
}
