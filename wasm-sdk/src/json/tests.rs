//! Against a small model: a generator that knows what it wrote, and every damage to its text.

use super::*;

#[derive(Clone, Debug, PartialEq)]
enum Model {
    Null,
    Boolean(bool),
    Number(f64),
    String(String),
    Array(Vec<Model>),
    Object(Vec<(String, Model)>),
}

/// xorshift64*; the seed is the case.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn string(&mut self) -> String {
        let characters = ['a', 'b', '/', '~', '"', '\\', '\n', '\u{1}', 'é', '𝄞', '0'];
        (0..self.below(4))
            .map(|_| characters[self.below(11) as usize])
            .collect()
    }

    fn model(&mut self, depth: u32) -> Model {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Model::Null,
            1 => Model::Boolean(self.below(2) == 1),
            2 => Model::Number(self.below(100_000) as f64 / 8.0 - 1000.0),
            3 => Model::String(self.string()),
            4 => Model::Array((0..self.below(4)).map(|_| self.model(depth - 1)).collect()),
            _ => Model::Object(
                (0..self.below(4))
                    .map(|_| (self.string(), self.model(depth - 1)))
                    .collect(),
            ),
        }
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        out.extend(&b" \n\t\r"[..self.below(5) as usize]);
    }

    fn write_string(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.below(2) == 0 {
            return write_string(text, out);
        }
        out.push(b'"');
        for unit in text.encode_utf16() {
            out.extend(format!("\\u{unit:04X}").bytes());
        }
        out.push(b'"');
    }

    fn write(&mut self, model: &Model, out: &mut Vec<u8>) {
        self.space(out);
        match model {
            Model::Null => out.extend(b"null"),
            Model::Boolean(value) => out.extend(value.to_string().bytes()),
            Model::Number(number) if self.below(2) == 0 => {
                out.extend(format!("{number:e}").bytes())
            }
            Model::Number(number) => out.extend(number.to_string().bytes()),
            Model::String(text) => self.write_string(text, out),
            Model::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    out.extend(&b","[..usize::from(index > 0)]);
                    self.write(element, out);
                }
                out.push(b']');
            }
            Model::Object(members) => {
                out.push(b'{');
                for (index, (name, member)) in members.iter().enumerate() {
                    out.extend(&b","[..usize::from(index > 0)]);
                    self.space(out);
                    self.write_string(name, out);
                    self.space(out);
                    out.push(b':');
                    self.write(member, out);
                }
                out.push(b'}');
            }
        }
        self.space(out);
    }
}

fn read(value: &Value<'_>) -> Model {
    match value.kind() {
        Kind::Null => Model::Null,
        Kind::Boolean => Model::Boolean(value.boolean().unwrap()),
        Kind::Number => Model::Number(value.number().unwrap()),
        Kind::String => Model::String(value.string().unwrap().into_owned()),
        Kind::Array => Model::Array(value.children().map(|child| read(&child.value)).collect()),
        Kind::Object => Model::Object(
            value
                .children()
                .map(|child| {
                    (
                        child.name.unwrap().string().unwrap().into_owned(),
                        read(&child.value),
                    )
                })
                .collect(),
        ),
    }
}

/// Every place of the model, the last of equal names only.
fn places(model: &Model, at: &str, out: &mut Vec<(String, Model)>) {
    out.push((at.to_owned(), model.clone()));
    match model {
        Model::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                places(element, &format!("{at}/{index}"), out);
            }
        }
        Model::Object(members) => {
            for (index, (name, member)) in members.iter().enumerate() {
                if members[index + 1..].iter().all(|(later, _)| later != name) {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    places(member, &format!("{at}/{name}"), out);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn reads_what_was_written() {
    for seed in 1..2000 {
        let mut random = Random(seed);
        let model = random.model(4);
        let mut text = Vec::new();
        random.write(&model, &mut text);
        assert_eq!(
            read(&parse(&text).unwrap()),
            model,
            "{}",
            String::from_utf8_lossy(&text)
        );
        let mut all = Vec::new();
        places(&model, "", &mut all);
        for (pointer, expected) in all {
            let found = find(&text, &pointer)
                .unwrap()
                .expect("a place of the model");
            assert_eq!(read(&found), expected, "{pointer}");
        }
    }
}

#[test]
fn changes_what_is_selected_and_nothing_else() {
    for seed in 1..2000 {
        let mut random = Random(seed);
        let model = random.model(4);
        let mut text = Vec::new();
        random.write(&model, &mut text);
        let value = parse(&text).unwrap();
        let mut all = Vec::new();
        places(&model, "", &mut all);
        for (pointer, _) in &all[1..] {
            let selection = Selection::new([pointer.as_str()]).unwrap();
            let mut out = Vec::new();
            selection.replace(&value, "\"new\"", &mut out);
            let mut again = Vec::new();
            let changed = parse(&out).unwrap();
            assert!(
                changed
                    .at(&Pointer::new(pointer).unwrap())
                    .unwrap()
                    .is_string("new")
            );
            selection.replace(&changed, "\"new\"", &mut again);
            assert_eq!(out, again);
            out.clear();
            selection.keep(&value, &mut out);
            let kept = parse(&out).unwrap();
            if !pointer.bytes().any(|byte| byte.is_ascii_digit()) {
                let here = Pointer::new(pointer).unwrap();
                assert_eq!(
                    kept.at(&here).unwrap().raw(),
                    value.at(&here).unwrap().raw()
                );
                out.clear();
                selection.remove(&value, &mut out);
                assert!(parse(&out).unwrap().at(&here).is_none());
            }
        }
        let mut whole = Vec::new();
        Selection::default().remove(&value, &mut whole);
        assert_eq!(read(&parse(&whole).unwrap()), model);
    }
}

#[test]
fn survives_any_damage() {
    for seed in 1..500 {
        let mut random = Random(seed);
        let model = random.model(4);
        let mut text = Vec::new();
        random.write(&model, &mut text);
        for _ in 0..20 {
            let mut damaged = text.clone();
            let at = random.below(damaged.len() as u64) as usize;
            match random.below(3) {
                0 => damaged.truncate(at),
                1 => damaged[at] = b"{}[],:\"\\0e-. tnu\x00\xff"[random.below(18) as usize],
                _ => damaged.insert(at, b"{}[],:\"\\0e-. tnu\x00\xff"[random.below(18) as usize]),
            }
            match parse(&damaged) {
                Ok(value) => drop(read(&value)),
                Err(error) => assert!(error.offset <= damaged.len() + 1),
            }
        }
    }
}

#[test]
fn takes_what_the_grammar_takes() {
    for text in [
        "0",
        "-0",
        "-0.5e+10",
        "1E5",
        " [ ] ",
        "{ }",
        "\"\\u12aF\\/\"",
        "[1,[2,{}]]",
        "true",
    ] {
        assert!(parse(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn says_where_the_grammar_is_left() {
    let cases = [
        ("", 0),
        (" ", 1),
        ("01", 1),
        ("-", 1),
        ("1.", 2),
        ("1e+", 3),
        (".5", 0),
        ("+1", 0),
        ("nul", 0),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("{\"a\"}", 4),
        ("{\"a\":}", 5),
        ("{a:1}", 1),
        ("{\"a\":1,}", 7),
        ("\"", 1),
        ("\"\\x\"", 2),
        ("\"\\u12g4\"", 5),
        ("\"\n\"", 1),
        ("1 2", 2),
        ("[", 1),
        ("]", 0),
        ("{\"a\":1]", 6),
        ("\u{feff}1", 0),
        ("'a'", 0),
        ("NaN", 0),
    ];
    for (text, offset) in cases {
        assert_eq!(parse(text.as_bytes()).unwrap_err().offset, offset, "{text}");
    }
    assert_eq!(
        parse(b"\"a\xff\"").unwrap_err(),
        Error {
            offset: 2,
            expected: "UTF-8"
        }
    );
}

#[test]
fn bounds_the_depth() {
    let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(parse(&nested(128)).is_ok());
    assert_eq!(parse(&nested(129)).unwrap_err().offset, 128);
}

#[test]
fn the_last_of_equal_names_counts() {
    let text = br#"{"a":1,"\u0061":2}"#;
    assert_eq!(find(text, "/a").unwrap().unwrap().integer(), Some(2));
    let mut out = Vec::new();
    Selection::new(["/a"])
        .unwrap()
        .replace(&parse(text).unwrap(), "0", &mut out);
    assert_eq!(out, br#"{"a":0,"\u0061":0}"#);
}

#[test]
fn pointers_follow_their_rfc() {
    let text = br#"{"foo":["bar","baz"],"":0,"a/b":1,"m~n":8,"01":2}"#;
    let raw = |pointer| find(text, pointer).unwrap().map(|value| value.raw());
    assert_eq!(raw("/foo/0"), Some("\"bar\""));
    assert_eq!(raw("/"), Some("0"));
    assert_eq!(raw("/a~1b"), Some("1"));
    assert_eq!(raw("/m~0n"), Some("8"));
    assert_eq!(raw("/01"), Some("2"));
    for nothing in ["/foo/00", "/foo/-", "/foo/2", "/foo/0/x", "foo", "/m~n"] {
        assert_eq!(raw(nothing), None, "{nothing}");
    }
    assert_eq!(Pointer::new("foo"), Err(PointerError::Slash));
    assert_eq!(Pointer::new("/~2"), Err(PointerError::Tilde));
    assert_eq!(Selection::new([""]).unwrap_err(), PointerError::Whole);
}

#[test]
fn strings_come_back() {
    let string = |text: &[u8]| parse(text).unwrap().string().unwrap().into_owned();
    assert_eq!(
        string(br#""\ud834\udd1e \ud834 \udd1e\ud834\u0041""#),
        "𝄞 \u{fffd} \u{fffd}\u{fffd}A"
    );
    assert_eq!(string(br#""\"\\\/\b\f\n\r\t""#), "\"\\/\u{8}\u{c}\n\r\t");
}

#[test]
fn removing_leaves_valid_commas() {
    let change = |text: &str, pointers: &[&str]| {
        let selection = Selection::new(pointers.iter().copied()).unwrap();
        let value = parse(text.as_bytes()).unwrap();
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        selection.remove(&value, &mut removed);
        selection.keep(&value, &mut kept);
        [removed, kept].map(|out| String::from_utf8(out).unwrap())
    };
    let text = r#"{"a":1, "b":{"c":2,"d":[1,2]}, "e":3}"#;
    assert_eq!(
        change(text, &["/a"]),
        [r#"{ "b":{"c":2,"d":[1,2]}, "e":3}"#, r#"{"a":1}"#]
    );
    assert_eq!(
        change(text, &["/e", "/b/c"]),
        [r#"{"a":1, "b":{"d":[1,2]}}"#, r#"{ "b":{"c":2}, "e":3}"#]
    );
    assert_eq!(change(text, &["/a", "/b", "/e"])[0], "{}");
    assert_eq!(
        change(text, &["/b/d/0"]),
        [
            r#"{"a":1, "b":{"c":2,"d":[2]}, "e":3}"#,
            r#"{ "b":{"d":[1]}}"#
        ]
    );
    assert_eq!(change(text, &["/a/x"]), [text, "{}"]);
    assert_eq!(change("7", &["/a"]), ["7", "null"]);
}
