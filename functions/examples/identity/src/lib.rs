//! Passes everything.

tidemill_sdk::transform!(|_record, out| {
    out.pass();
    Ok(())
});
