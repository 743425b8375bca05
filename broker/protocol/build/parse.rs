//! The grammar of schema files: words, one field per line or between `;`, comments after `#`.
//! What the words mean together is checked in `resolve`.

use std::path::Path;

use crate::schema::{Kind, Literal, SourceField, SourceFile, SourceStruct, Type, Versions};

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    /// The end of a line, or `;`.
    End,
}

struct Parser<'a> {
    file: &'a Path,
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Comments by line, and whether something else stands before the comment on that line.
    comments: Vec<(usize, bool, String)>,
}

/// Parses one file; an error reads `file:line: what is wrong`.
pub(crate) fn parse(file: &Path, text: &str) -> Result<SourceFile, String> {
    let mut parser = Parser {
        file,
        tokens: Vec::new(),
        at: 0,
        comments: Vec::new(),
    };
    parser.tokenize(text)?;
    parser.file()
}

impl Parser<'_> {
    fn tokenize(&mut self, text: &str) -> Result<(), String> {
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let mut rest = line.trim();
            while !rest.is_empty() {
                if let Some(comment) = rest.strip_prefix('#') {
                    let trailing = !line.trim_start().starts_with('#');
                    self.comments
                        .push((number, trailing, comment.trim().to_owned()));
                    break;
                }
                let (token, after) = split_token(rest)
                    .ok_or_else(|| self.error(number, "a text has no closing quote"))?;
                self.tokens.push((number, token));
                rest = after.trim_start();
            }
            self.tokens.push((number, Token::End));
        }
        Ok(())
    }

    fn error(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{line}: {}", self.file.display(), what.as_ref())
    }

    fn line(&self) -> usize {
        let last = self.tokens.last().map_or(1, |(line, _)| *line);
        self.tokens.get(self.at).map_or(last, |(line, _)| *line)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn skip_ends(&mut self) {
        while self.peek() == Some(&Token::End) {
            self.at += 1;
        }
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        let line = self.line();
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(self.error(line, format!("expected {what}"))),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let line = self.line();
        let word = self.word(what)?;
        word.parse()
            .map_err(|_| self.error(line, format!("`{word}` is not {what}")))
    }

    /// The comments that stand alone on the lines just above `line`, and the one at its end.
    fn comment_of(&self, line: usize) -> Vec<String> {
        let mut first = line;
        while self.alone_on(first - 1).is_some() {
            first -= 1;
        }
        let above = (first..line).filter_map(|line| self.alone_on(line));
        let here = self
            .comments
            .iter()
            .filter(|(at, trailing, _)| *at == line && *trailing);
        above
            .chain(here.map(|(_, _, text)| text))
            .cloned()
            .collect()
    }

    fn alone_on(&self, line: usize) -> Option<&String> {
        let found = self
            .comments
            .iter()
            .find(|(at, trailing, _)| *at == line && !trailing);
        found.map(|(_, _, text)| text)
    }

    fn file(&mut self) -> Result<SourceFile, String> {
        let comment = self.head_comment();
        let (mut kind, mut versions, mut flexible) = (None, None, None);
        let (mut roots, mut structs) = (Vec::new(), Vec::new());
        loop {
            self.skip_ends();
            if self.peek().is_none() {
                break;
            }
            let line = self.line();
            let keyword = self.word("a keyword")?;
            match keyword.as_str() {
                "api" => {
                    let key = self.number("an API key")?;
                    kind = Some(Kind::Api {
                        key,
                        name: self.word("the API's name")?,
                    });
                }
                "record" => {
                    kind = Some(Kind::Record {
                        name: self.word("the record's name")?,
                    })
                }
                "versions" => {
                    let line = self.line();
                    let word = self.word("versions")?;
                    let given = versions_of(&word).filter(|given| given.last != i16::MAX);
                    let wrong = || self.error(line, format!("`{word}` is not a version range"));
                    versions = Some(given.ok_or_else(wrong)?);
                }
                "flexible" => flexible = Some(self.flexible()?),
                "request" | "response" | "fields" => {
                    let fields = self.block()?;
                    let comment = self.comment_of(line);
                    roots.push(SourceStruct {
                        line,
                        comment,
                        name: keyword,
                        fields,
                    });
                }
                "struct" => {
                    let name = self.word("the struct's name")?;
                    let comment = self.comment_of(line);
                    let fields = self.block()?;
                    structs.push(SourceStruct {
                        line,
                        comment,
                        name,
                        fields,
                    });
                }
                other => return Err(self.error(line, format!("unknown keyword `{other}`"))),
            }
        }
        let kind = kind.ok_or_else(|| self.error(1, "has neither `api` nor `record`"))?;
        let versions = versions.ok_or_else(|| self.error(1, "has no `versions`"))?;
        let flexible = flexible.ok_or_else(|| self.error(1, "has no `flexible`"))?;
        Ok(SourceFile {
            comment,
            kind,
            versions,
            flexible,
            roots,
            structs,
        })
    }

    fn head_comment(&self) -> Vec<String> {
        let lines = (1..).map_while(|line| self.alone_on(line));
        lines.cloned().collect()
    }

    /// `N+`, or `none`.
    fn flexible(&mut self) -> Result<Option<i16>, String> {
        let line = self.line();
        let word = self.word("`none` or `N+`")?;
        if word == "none" {
            return Ok(None);
        }
        match versions_of(&word) {
            Some(Versions {
                first,
                last: i16::MAX,
            }) => Ok(Some(first)),
            _ => Err(self.error(line, format!("`{word}` is neither `none` nor `N+`"))),
        }
    }

    /// `{ field … }`
    fn block(&mut self) -> Result<Vec<SourceField>, String> {
        let line = self.line();
        if self.next() != Some(Token::Open) {
            return Err(self.error(line, "expected `{`"));
        }
        let mut fields = Vec::new();
        loop {
            self.skip_ends();
            match self.peek() {
                Some(Token::Close) => {
                    self.at += 1;
                    return Ok(fields);
                }
                Some(_) => fields.push(self.field()?),
                None => return Err(self.error(line, "this block is never closed")),
            }
        }
    }

    /// `name type [versions] [tag N] [nullable VERSIONS] [ignorable] [= default] [{ fields }]`
    fn field(&mut self) -> Result<SourceField, String> {
        let line = self.line();
        let name = self.word("a field's name")?;
        let written = self.word("a type")?;
        let (nullable_everywhere, bare) = match written.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, written.as_str()),
        };
        let wrong_type = || self.error(line, format!("`{written}` is not a type"));
        let mut field = SourceField {
            line,
            comment: self.comment_of(line),
            name,
            ty: type_of(bare).ok_or_else(wrong_type)?,
            nullable_everywhere,
            versions: None,
            nullable: None,
            tag: None,
            ignorable: false,
            default: None,
            inline: None,
        };
        loop {
            match self.peek() {
                Some(Token::Open) => field.inline = Some(self.block()?),
                Some(Token::Word(_)) => self.attribute(&mut field)?,
                Some(Token::Text(_)) => return Err(self.error(line, "unexpected text")),
                Some(Token::End | Token::Close) | None => return Ok(field),
            }
        }
    }

    fn attribute(&mut self, field: &mut SourceField) -> Result<(), String> {
        let line = self.line();
        let word = self.word("an attribute")?;
        match word.as_str() {
            "ignorable" => field.ignorable = true,
            "tag" => field.tag = Some(self.number("a tag")?),
            "nullable" => {
                let word = self.word("versions")?;
                let wrong = || self.error(line, format!("`{word}` is not a version range"));
                field.nullable = Some(versions_of(&word).ok_or_else(wrong)?);
            }
            "=" => {
                field.default = Some(match self.next() {
                    Some(Token::Word(word)) if word == "null" => Literal::Null,
                    Some(Token::Word(word)) => Literal::Word(word),
                    Some(Token::Text(text)) => Literal::Text(text),
                    _ => return Err(self.error(line, "expected a default after `=`")),
                });
            }
            other => match versions_of(other) {
                Some(versions) if field.versions.is_none() => field.versions = Some(versions),
                _ => return Err(self.error(line, format!("unexpected `{other}`"))),
            },
        }
        Ok(())
    }
}

/// The first token of a line that starts with one, and the rest; `None` if a text is not closed.
fn split_token(rest: &str) -> Option<(Token, &str)> {
    let single = match rest.as_bytes()[0] {
        b'{' => Some(Token::Open),
        b'}' => Some(Token::Close),
        b';' => Some(Token::End),
        b'=' => Some(Token::Word("=".to_owned())),
        _ => None,
    };
    if let Some(token) = single {
        return Some((token, &rest[1..]));
    }
    if let Some(text) = rest.strip_prefix('"') {
        let (text, after) = text.split_once('"')?;
        return Some((Token::Text(text.to_owned()), after));
    }
    let is_end = |c: char| c.is_whitespace() || "{};=#\"".contains(c);
    let length = rest.find(is_end).unwrap_or(rest.len());
    Some((Token::Word(rest[..length].to_owned()), &rest[length..]))
}

/// `N`, `N-M` or `N+`.
fn versions_of(word: &str) -> Option<Versions> {
    if let Some(first) = word.strip_suffix('+') {
        return Some(Versions {
            first: first.parse().ok()?,
            last: i16::MAX,
        });
    }
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let versions = Versions {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    };
    (versions.first <= versions.last).then_some(versions)
}

fn type_of(word: &str) -> Option<Type> {
    if let Some(inner) = word.strip_prefix('[') {
        return match type_of(inner.strip_suffix(']')?)? {
            Type::Array(_) | Type::Bytes | Type::Records => None,
            element => Some(Type::Array(Box::new(element))),
        };
    }
    Some(match word {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Type::Struct(name.to_owned()),
        _ => return None,
    })
}
