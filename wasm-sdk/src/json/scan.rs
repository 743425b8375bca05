//! The grammar of RFC 8259: where values end.

use super::{DEPTH_MAX, Error, Kind};

/// The first place from `at` on that is not white space.
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// The kind of the value at `at`, and where it ends. Containers are a stack of bits, so that no text
/// exhausts the guest's stack.
pub(super) fn value(text: &[u8], start: usize) -> Result<(Kind, usize), Error> {
    let mut containers = Containers {
        objects: 0,
        depth: 0,
    };
    let mut at = start;
    let outer = kind(text, at)?;
    loop {
        at = match kind(text, at)? {
            Kind::Null => literal(text, at, b"null")?,
            Kind::Boolean if text[at] == b't' => literal(text, at, b"true")?,
            Kind::Boolean => literal(text, at, b"false")?,
            Kind::Number => number(text, at)?,
            Kind::String => string(text, at)?,
            container => {
                containers.push(container == Kind::Object, at)?;
                let first = space(text, at + 1);
                match (container, text.get(first)) {
                    (Kind::Object, Some(b'}')) | (Kind::Array, Some(b']')) => {
                        containers.depth -= 1;
                        first + 1
                    }
                    (Kind::Object, _) => {
                        at = name(text, first)?;
                        continue;
                    }
                    _ => {
                        at = first;
                        continue;
                    }
                }
            }
        };
        loop {
            if containers.depth == 0 {
                return Ok((outer, at));
            }
            at = space(text, at);
            match (text.get(at), containers.in_object()) {
                (Some(b','), true) => {
                    at = name(text, space(text, at + 1))?;
                    break;
                }
                (Some(b','), false) => {
                    at = space(text, at + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    containers.depth -= 1;
                    at += 1;
                }
                (_, true) => {
                    return Err(Error {
                        offset: at,
                        expected: "`,` or `}`",
                    });
                }
                (_, false) => {
                    return Err(Error {
                        offset: at,
                        expected: "`,` or `]`",
                    });
                }
            }
        }
    }
}

/// The open containers; bit `depth - 1` of `objects` tells what the innermost is.
struct Containers {
    objects: u128,
    depth: u32,
}

impl Containers {
    fn push(&mut self, object: bool, offset: usize) -> Result<(), Error> {
        if self.depth == DEPTH_MAX {
            return Err(Error {
                offset,
                expected: "at most 128 levels",
            });
        }
        let bit = 1 << self.depth;
        self.objects = if object {
            self.objects | bit
        } else {
            self.objects & !bit
        };
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects >> (self.depth - 1) & 1 == 1
    }
}

fn kind(text: &[u8], offset: usize) -> Result<Kind, Error> {
    match text.get(offset) {
        Some(b'{') => Ok(Kind::Object),
        Some(b'[') => Ok(Kind::Array),
        Some(b'"') => Ok(Kind::String),
        Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
        Some(b't' | b'f') => Ok(Kind::Boolean),
        Some(b'n') => Ok(Kind::Null),
        _ => Err(Error {
            offset,
            expected: "a value",
        }),
    }
}

/// Past the name at `at`, its colon and the space behind: where the member's value is.
fn name(text: &[u8], at: usize) -> Result<usize, Error> {
    if text.get(at) != Some(&b'"') {
        return Err(Error {
            offset: at,
            expected: "a member's name",
        });
    }
    let colon = space(text, string(text, at)?);
    if text.get(colon) != Some(&b':') {
        return Err(Error {
            offset: colon,
            expected: "`:`",
        });
    }
    Ok(space(text, colon + 1))
}

fn literal(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Error> {
    if text[at..].starts_with(word) {
        Ok(at + word.len())
    } else {
        Err(Error {
            offset: at,
            expected: "`null`, `true` or `false`",
        })
    }
}

fn number(text: &[u8], at: usize) -> Result<usize, Error> {
    let at = at + usize::from(text[at] == b'-');
    let mut at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = matches!(text.get(at + 1), Some(b'+' | b'-'));
        at = digits(text, at + 1 + usize::from(sign))?;
    }
    Ok(at)
}

fn digits(text: &[u8], at: usize) -> Result<usize, Error> {
    let count = text[at.min(text.len())..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    match count {
        0 => Err(Error {
            offset: at,
            expected: "a digit",
        }),
        count => Ok(at + count),
    }
}

/// Past the string at `at`, whose quotation mark is there.
fn string(text: &[u8], at: usize) -> Result<usize, Error> {
    let mut at = at + 1;
    loop {
        at = ordinary(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(text, at + 1)?,
            Some(0x20..) => at += 1,
            Some(_) => {
                return Err(Error {
                    offset: at,
                    expected: "an escaped control character",
                });
            }
            None => {
                return Err(Error {
                    offset: at,
                    expected: "`\"`",
                });
            }
        }
    }
}

/// Past characters that stand for themselves, eight bytes at a time; less than eight may be left.
fn ordinary(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    // Marks each byte of `word` that is below `limit`. A borrow can mark a byte above a marked one
    // wrongly, never the lowest.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    while let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*bytes);
        let quotes = below(word ^ (ONES * u64::from(b'"')), 1);
        let escapes = below(word ^ (ONES * u64::from(b'\\')), 1);
        match quotes | escapes | below(word, 0x20) {
            0 => at += 8,
            marks => return at + marks.trailing_zeros() as usize / 8,
        }
    }
    at
}

fn escape(text: &[u8], at: usize) -> Result<usize, Error> {
    match text.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => {
            let hex = text[at + 1..]
                .iter()
                .take(4)
                .take_while(|byte| byte.is_ascii_hexdigit());
            match hex.count() {
                4 => Ok(at + 5),
                count => Err(Error {
                    offset: at + 1 + count,
                    expected: "a hexadecimal digit",
                }),
            }
        }
        _ => Err(Error {
            offset: at,
            expected: "an escape",
        }),
    }
}
