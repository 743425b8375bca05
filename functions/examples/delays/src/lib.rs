//! Flights that depart more than an hour late, by destination. The event time stays, as it does unless
//! changed.

use tidemill_sdk::{json, transform};

transform!(|record, out| {
    let Some(flight) = record.value() else {
        return Ok(());
    };
    let flight = json::parse(flight)?;
    let delay = flight.member("dep_delay").and_then(|delay| delay.number());
    if delay.is_some_and(|minutes| minutes > 60.0) {
        let destination = flight
            .member("dest")
            .ok_or("the flight has no destination")?;
        out.edit().key(destination.plain().as_bytes()).send();
    }
    Ok(())
});
