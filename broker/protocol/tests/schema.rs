//! What the build says about a wrong schema file: one line with file, line and reason.

#![allow(
    dead_code,
    reason = "the build script's modules, of which this test needs but a part"
)]

#[path = "../build/parse.rs"]
mod parse;
#[path = "../build/resolve.rs"]
mod resolve;
#[path = "../build/schema.rs"]
mod schema;

use std::path::Path;

use schema::Schema;

fn resolved(text: &str) -> Result<Schema, String> {
    let file = Path::new("a.schema");
    resolve::resolve(file, parse::parse(file, text)?)
}

/// The error for these fields of a record of versions 0 to 5, flexible from 2 on; the first of them
/// stands on line 5.
fn error(fields: &str) -> String {
    let text = format!("record A\nversions 0-5\nflexible 2+\nfields {{\n{fields}\n}}\n");
    resolved(&text)
        .map(|_| "no error".to_owned())
        .unwrap_or_else(|error| error)
}

#[test]
fn fields() {
    for (fields, expected) in [
        ("a i32", "no error"),
        ("a i33", "a.schema:5: `i33` is not a type"),
        ("a [[i32]]", "a.schema:5: `[[i32]]` is not a type"),
        ("a [i32", "a.schema:5: `[i32` is not a type"),
        ("a", "a.schema:5: expected a type"),
        (
            "\na i32\na i16",
            "a.schema:7: the name or the tag of a is taken",
        ),
        (
            "a i32 2+ tag 0\nb i32 3+ tag 0",
            "a.schema:6: the name or the tag of b is taken",
        ),
        ("a i32 2 tag 0\nb i32 3+ tag 0", "no error"),
        ("a i32 6+", "a.schema:5: field a: is in no version"),
        ("a i32 3-2", "a.schema:5: unexpected `3-2`"),
        ("a i32 0+ 1+", "a.schema:5: unexpected `1+`"),
        (
            "a i32 1+ tag 0",
            "a.schema:5: field a: has a tag before the first flexible version",
        ),
        ("a i32 2+ tag x", "a.schema:5: `x` is not a tag"),
        (
            "a ?i32",
            "a.schema:5: field a: is of a type that cannot be null",
        ),
        (
            "a ?string nullable 1+",
            "a.schema:5: field a: says `?` and `nullable`",
        ),
        (
            "a string 0-3 nullable 4+",
            "a.schema:5: field a: is nullable in no version",
        ),
        ("a string nullable", "a.schema:5: expected versions"),
        (
            "a i8 = 128",
            "a.schema:5: field a: has a default that does not fit its type",
        ),
        (
            "a i8 = null",
            "a.schema:5: field a: may not be null by default in all its versions",
        ),
        (
            "a string nullable 1+ = null",
            "a.schema:5: field a: may not be null by default in all its versions",
        ),
        ("a string = \"x", "a.schema:5: a text has no closing quote"),
        (
            "a string = x",
            "a.schema:5: field a: has a default that does not fit its type",
        ),
        (
            "a string = \"\\n\"",
            "a.schema:5: field a: backslashes mean nothing here",
        ),
        ("a i32 =", "a.schema:5: expected a default after `=`"),
        ("a i32 optional", "a.schema:5: unexpected `optional`"),
        (
            "a i32 { b i8 }",
            "a.schema:5: only a struct has fields of its own",
        ),
        ("a Part", "a.schema:5: there is no struct Part"),
        (
            "a Part { b i8 }\nc Part { d i8 }",
            "a.schema:6: struct Part is defined twice",
        ),
    ] {
        assert_eq!(error(fields), expected, "{fields}");
    }
}

#[test]
fn structs() {
    for (structs, expected) in [
        ("struct Part { b i8 }", "no error"),
        (
            "struct Part { b i8 }\nstruct Other { c i8 }",
            "a.schema:6: nothing uses struct Other",
        ),
        (
            "struct Part { b i8 }\nstruct Part { c i8 }",
            "a.schema:6: struct Part is declared twice",
        ),
        (
            "struct Part { b [Part] }",
            "a.schema:5: struct Part contains itself",
        ),
        (
            "struct Part {\nb [Other] {\nc Part\n}\n}",
            "a.schema:7: struct Part contains itself",
        ),
        (
            "struct Part { b [A] }",
            "a.schema:5: struct A contains itself",
        ),
    ] {
        let text = format!("record A\nversions 0\nflexible none\nfields {{ a Part }}\n{structs}\n");
        let found = resolved(&text)
            .map(|_| "no error".to_owned())
            .unwrap_or_else(|error| error);
        assert_eq!(found, expected, "{structs}");
    }
}

#[test]
fn files() {
    let api = "api 1 A\nversions 0\nflexible none\n";
    for (text, expected) in [
        (format!("{api}request {{ }}\nresponse {{ }}"), "no error"),
        (
            format!("{api}request {{ }}"),
            "a.schema:1: needs exactly one `response`",
        ),
        (
            format!("{api}request {{ }}\nresponse {{ }}\nresponse {{ }}"),
            "a.schema:1: needs exactly one `response`",
        ),
        (
            format!("{api}request {{ }}\nresponse {{ }}\nfields {{ }}"),
            "a.schema:1: `fields` is for records, `request` and `response` for APIs",
        ),
        ("api x A".to_owned(), "a.schema:1: `x` is not an API key"),
        (
            "# nothing".to_owned(),
            "a.schema:1: has neither `api` nor `record`",
        ),
        ("api 1 A".to_owned(), "a.schema:1: has no `versions`"),
        (
            "api 1 A\nversions 0".to_owned(),
            "a.schema:1: has no `flexible`",
        ),
        (
            "api 1 A\nversions 0+".to_owned(),
            "a.schema:2: `0+` is not a version range",
        ),
        (
            "api 1 A\nversions 0\nflexible 1".to_owned(),
            "a.schema:3: `1` is neither `none` nor `N+`",
        ),
        (
            format!("{api}reqest {{ }}"),
            "a.schema:4: unknown keyword `reqest`",
        ),
        (format!("{api}request }}"), "a.schema:4: expected `{`"),
    ] {
        let found = resolved(&text)
            .map(|_| "no error".to_owned())
            .unwrap_or_else(|error| error);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn comments_go_to_the_next_field_and_to_their_own() {
    let text = "# The file.\n\nrecord A\nversions 0\nflexible none\nfields {\n  # Above.\n  # And more.\n  \
                a i32 # Beside.\n\n  # Apart.\n\n  b i32\n}\n";
    let schema = resolved(text).unwrap();
    assert_eq!(schema.comment, ["The file."]);
    assert_eq!(
        schema.structs[0].fields[0].comment,
        ["Above.", "And more.", "Beside."]
    );
    assert!(schema.structs[0].fields[1].comment.is_empty());
}
