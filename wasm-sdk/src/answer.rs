//! The answer frame: done, or why not.

use crate::Failure;
use crate::aligned::Aligned;
use crate::wire::{ANSWER_HEADER, ANSWER_MAGIC, MESSAGE_MAX, narrow};

/// Writes an answer over what `frame` holds.
pub(crate) fn write(frame: &mut Aligned, result: Result<(), &Failure>) {
    let (code, message) = match result {
        Ok(()) => (0, ""),
        Err(failure) => (failure.code(), clip(failure.message())),
    };
    frame.truncate(0);
    frame.extend(&ANSWER_MAGIC);
    let fields = [
        narrow(ANSWER_HEADER),
        code,
        0,
        narrow(ANSWER_HEADER),
        narrow(message.len()),
    ];
    for field in fields {
        frame.extend(&field.to_le_bytes());
    }
    frame.extend(message.as_bytes());
}

/// What a host keeps of a message.
pub(crate) fn clip(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_between_characters() {
        let long = format!("x{}", "é".repeat(3000));
        assert_eq!(clip(&long).len(), MESSAGE_MAX - 1);
        assert_eq!(clip("short"), "short");
    }
}
