//! Strings: escapes in and out.

use std::borrow::Cow;

/// Unescapes what stands between the quotation marks of a checked string.
pub(super) fn unescape(inside: &str) -> Cow<'_, str> {
    if inside.contains('\\') {
        Cow::Owned(characters(inside).collect())
    } else {
        Cow::Borrowed(inside)
    }
}

/// Whether a string means `expected`, without unescaping it anywhere.
pub(super) fn equals(inside: &str, expected: &str) -> bool {
    inside == expected || inside.contains('\\') && characters(inside).eq(expected.chars())
}

fn characters(inside: &str) -> impl Iterator<Item = char> {
    let mut rest = inside.chars();
    std::iter::from_fn(move || match rest.next()? {
        '\\' => match rest.next()? {
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                let unit = code_unit(&mut rest)?;
                Some(char::from_u32(unit).unwrap_or_else(|| surrogate(unit, &mut rest)))
            }
            itself => Some(itself),
        },
        character => Some(character),
    })
}

fn code_unit(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let unit = u32::from_str_radix(rest.as_str().get(..4)?, 16).ok()?;
    rest.nth(3);
    Some(unit)
}

/// The character that begins with the surrogate `high`, if its other half follows.
fn surrogate(high: u32, rest: &mut std::str::Chars<'_>) -> char {
    let mut ahead = rest.clone();
    let low = match (ahead.next(), ahead.next()) {
        (Some('\\'), Some('u')) => code_unit(&mut ahead),
        _ => None,
    };
    match low {
        Some(low @ 0xdc00..=0xdfff) if high < 0xdc00 => {
            *rest = ahead;
            char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Appends `text` as a JSON string, with its quotation marks.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..0x20 => {
                out.extend(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// `text` as a JSON string, with its quotation marks.
pub fn quote(text: &str) -> String {
    let mut out = Vec::new();
    write_string(text, &mut out);
    String::from_utf8(out).expect("what was written is UTF-8")
}
