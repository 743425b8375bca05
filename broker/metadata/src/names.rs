//! Which names are legal: for topics Kafka's rule, since every client and tool knows it, and for
//! transforms the same, only shorter.

use crate::limits::{TOPIC_NAME_CHARS_MAX, TRANSFORM_NAME_CHARS_MAX};

/// Why a topic's name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameFault {
    /// It is empty.
    #[error("the topic name is empty")]
    Empty,
    /// It is "." or "..", which name directories.
    #[error("the topic name cannot be \".\" or \"..\"")]
    Dots,
    /// It is too long.
    #[error("the topic name has {0} characters, more than {TOPIC_NAME_CHARS_MAX}")]
    TooLong(usize),
    /// It holds another character than ASCII letters, digits, '.', '_' and '-'.
    #[error("the topic name holds {0:?}; legal are ASCII letters, digits, '.', '_' and '-'")]
    IllegalCharacter(char),
}

/// Checks a topic's name. That '.' and '_' collide in metric names is for tools to warn of.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameFault> {
    if name.is_empty() {
        return Err(TopicNameFault::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameFault::Dots);
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(c) = name.chars().find(|&c| !legal(c)) {
        return Err(TopicNameFault::IllegalCharacter(c));
    }
    if name.len() > TOPIC_NAME_CHARS_MAX {
        return Err(TopicNameFault::TooLong(name.len()));
    }
    Ok(())
}

/// Why a transform's name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransformNameFault {
    /// It is empty.
    #[error("the transform's name is empty")]
    Empty,
    /// It is "." or "..".
    #[error("the transform's name cannot be \".\" or \"..\"")]
    Dots,
    /// It is too long.
    #[error("the transform's name has {0} characters, more than {TRANSFORM_NAME_CHARS_MAX}")]
    TooLong(usize),
    /// It holds another character than ASCII letters, digits, '.', '_' and '-'.
    #[error("the transform's name holds {0:?}; legal are ASCII letters, digits, '.', '_' and '-'")]
    IllegalCharacter(char),
}

/// Checks a transform's name.
pub fn check_transform_name(name: &str) -> Result<(), TransformNameFault> {
    check_topic_name(name).map_err(|fault| match fault {
        TopicNameFault::Empty => TransformNameFault::Empty,
        TopicNameFault::Dots => TransformNameFault::Dots,
        TopicNameFault::TooLong(chars) => TransformNameFault::TooLong(chars),
        TopicNameFault::IllegalCharacter(c) => TransformNameFault::IllegalCharacter(c),
    })?;
    match name.len() <= TRANSFORM_NAME_CHARS_MAX {
        true => Ok(()),
        false => Err(TransformNameFault::TooLong(name.len())),
    }
}

/// Whether a topic is one of the broker's own: no transform may write to it.
pub(crate) fn is_internal_topic(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state") || name.starts_with("_tidemill.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_kafka_takes() {
        for name in [
            "a",
            "...",
            ".a",
            "__consumer_offsets",
            "A-b_c.9",
            &"x".repeat(249),
        ] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn refuses_what_kafka_refuses() {
        use TopicNameFault::*;
        let long = "x".repeat(250);
        let cases = [
            ("", Empty),
            (".", Dots),
            ("..", Dots),
            (long.as_str(), TooLong(250)),
            ("a b", IllegalCharacter(' ')),
            ("a/b", IllegalCharacter('/')),
            ("a\0", IllegalCharacter('\0')),
            ("ä", IllegalCharacter('ä')),
        ];
        for (name, fault) in cases {
            assert_eq!(check_topic_name(name), Err(fault), "{name:?}");
        }
    }

    #[test]
    fn a_transform_is_named_like_a_topic_but_shorter() {
        use TransformNameFault::*;
        let (long, longer) = ("x".repeat(100), "x".repeat(101));
        for name in ["a", "...", "A-b_c.9", &long] {
            assert_eq!(check_transform_name(name), Ok(()), "{name}");
        }
        let cases = [
            ("", Empty),
            (".", Dots),
            ("..", Dots),
            (longer.as_str(), TooLong(101)),
            (&"x".repeat(300), TooLong(300)),
            ("a/b", IllegalCharacter('/')),
        ];
        for (name, fault) in cases {
            assert_eq!(check_transform_name(name), Err(fault), "{name:?}");
        }
    }
}
