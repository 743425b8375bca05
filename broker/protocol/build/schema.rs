//! What a schema file says: first as written (`Source…`), then resolved and checked (`Schema`).

use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Versions from the first to the last; `i16::MAX` as the last one stands for "and all later ones".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    pub(crate) const ALL: Versions = Versions {
        first: 0,
        last: i16::MAX,
    };

    pub(crate) fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    pub(crate) fn covers(self, other: Versions) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub(crate) fn intersect(self, other: Versions) -> Option<Versions> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Versions { first, last })
    }

    pub(crate) fn iter(self) -> RangeInclusive<i16> {
        self.first..=self.last
    }
}

/// A type as the grammar has it, before it is known whether a name means a struct.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    pub(crate) fn can_be_null(&self) -> bool {
        matches!(
            self,
            Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_)
        )
    }

    /// The struct that the type is or holds.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

/// The value after `=`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Literal {
    Null,
    Text(String),
    Word(String),
}

pub(crate) struct SourceField {
    pub(crate) line: usize,
    pub(crate) comment: Vec<String>,
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) nullable_everywhere: bool,
    pub(crate) versions: Option<Versions>,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) default: Option<Literal>,
    pub(crate) inline: Option<Vec<SourceField>>,
}

pub(crate) struct SourceStruct {
    pub(crate) line: usize,
    pub(crate) comment: Vec<String>,
    pub(crate) name: String,
    pub(crate) fields: Vec<SourceField>,
}

pub(crate) struct SourceFile {
    pub(crate) comment: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) versions: Versions,
    pub(crate) flexible: Option<i16>,
    /// `request`, `response` or `fields`, with the line of the keyword.
    pub(crate) roots: Vec<SourceStruct>,
    pub(crate) structs: Vec<SourceStruct>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Api { name: String, key: i16 },
    Record { name: String },
}

/// A default value in the form in which it is written into Rust code.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Default {
    /// What Rust's `Default` gives for the field's type, null for a nullable one.
    Zero,
    /// A number or `true`.
    Number(String),
    Text(String),
    /// A nullable field whose default is not null but empty.
    SomeEmpty,
}

pub(crate) struct Field {
    pub(crate) comment: Vec<String>,
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    /// The versions in which the field may be null: the Rust field is an `Option` if there are any.
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) default: Default,
}

impl Field {
    /// The name as a Rust identifier: Kafka has fields called `match`.
    pub(crate) fn identifier(&self) -> String {
        const KEYWORDS: [&str; 9] = [
            "as", "enum", "fn", "in", "match", "mod", "ref", "type", "use",
        ];
        let raw = if KEYWORDS.contains(&self.name.as_str()) {
            "r#"
        } else {
            ""
        };
        format!("{raw}{}", self.name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Response,
    Record,
    Part,
}

pub(crate) struct Struct {
    pub(crate) role: Role,
    pub(crate) comment: Vec<String>,
    pub(crate) name: String,
    /// The field that first refers to it, as `Struct::field`; empty for the message itself.
    pub(crate) origin: String,
    /// The versions in which it is read and written at all.
    pub(crate) scope: Versions,
    pub(crate) fields: Vec<Field>,
}

/// A checked schema file: every field lies within the versions of its API, every name is known.
pub(crate) struct Schema {
    pub(crate) file: String,
    pub(crate) comment: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) versions: Versions,
    pub(crate) flexible: Option<i16>,
    /// In the order of their first use, so that the generated file reads from the top.
    pub(crate) structs: Vec<Struct>,
}

impl Schema {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|from| version >= from)
    }

    pub(crate) fn find(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|found| found.name == name)
            .expect("resolve checked the names")
    }
}

/// A generated Rust module: one API, or the record layouts of one folder.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) schemas: Vec<Schema>,
}

impl Module {
    pub(crate) fn api_key(&self) -> Option<i16> {
        self.schemas.iter().find_map(|schema| match schema.kind {
            Kind::Api { key, .. } => Some(key),
            Kind::Record { .. } => None,
        })
    }

    pub(crate) fn check_names_unique(&self) -> Result<(), String> {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for schema in &self.schemas {
            for found in &schema.structs {
                if let Some(other) = seen.insert(&found.name, &schema.file) {
                    let (file, name) = (&schema.file, &found.name);
                    return Err(format!("{file}: struct {name} is also defined in {other}"));
                }
            }
        }
        Ok(())
    }
}
