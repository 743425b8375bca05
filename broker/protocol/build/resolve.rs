//! Checks a parsed schema file and settles what its words mean: which versions each field has, which
//! struct a name stands for, which default a field takes.

use std::collections::HashMap;
use std::path::Path;

use crate::schema::{
    Default, Field, Kind, Literal, Role, Schema, SourceField, SourceFile, SourceStruct, Struct,
    Type, Versions,
};

struct Resolver<'a> {
    file: &'a Path,
    flexible: Option<i16>,
    /// Structs declared at top level, with whether they have been used.
    declared: HashMap<&'a str, (&'a SourceStruct, bool)>,
    versions: Versions,
    structs: Vec<Struct>,
    /// Structs that are being resolved: meeting one again means that it contains itself.
    open: Vec<String>,
}

/// What is known of a struct from where it is used.
struct Place {
    role: Role,
    name: String,
    origin: String,
    scope: Versions,
}

/// Resolves one file; an error reads `file:line: what is wrong`.
pub(crate) fn resolve(file: &Path, source: SourceFile) -> Result<Schema, String> {
    let mut resolver = Resolver {
        file,
        flexible: source.flexible,
        declared: HashMap::new(),
        versions: source.versions,
        structs: Vec::new(),
        open: Vec::new(),
    };
    for declared in &source.structs {
        if resolver
            .declared
            .insert(&declared.name, (declared, false))
            .is_some()
        {
            let what = format!("struct {} is declared twice", declared.name);
            return Err(resolver.error(declared.line, what));
        }
    }
    for (keyword, role, name) in roots(&source.kind) {
        let mut found = source.roots.iter().filter(|root| root.name == keyword);
        let (Some(root), None) = (found.next(), found.next()) else {
            return Err(resolver.error(1, format!("needs exactly one `{keyword}`")));
        };
        let place = Place {
            role,
            name,
            origin: String::new(),
            scope: source.versions,
        };
        resolver.add(place, root.line, &root.comment, &root.fields)?;
    }
    if source.roots.len() != roots(&source.kind).len() {
        return Err(resolver.error(
            1,
            "`fields` is for records, `request` and `response` for APIs",
        ));
    }
    if let Some((unused, _)) = resolver.declared.values().find(|(_, used)| !used) {
        return Err(resolver.error(unused.line, format!("nothing uses struct {}", unused.name)));
    }
    Ok(Schema {
        file: file.display().to_string(),
        comment: source.comment.clone(),
        kind: source.kind.clone(),
        versions: source.versions,
        flexible: source.flexible,
        structs: resolver.structs,
    })
}

fn roots(kind: &Kind) -> Vec<(&'static str, Role, String)> {
    match kind {
        Kind::Api { name, .. } => vec![
            ("request", Role::Request, format!("{name}Request")),
            ("response", Role::Response, format!("{name}Response")),
        ],
        Kind::Record { name } => vec![("fields", Role::Record, name.clone())],
    }
}

impl<'a> Resolver<'a> {
    fn error(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{line}: {}", self.file.display(), what.as_ref())
    }

    /// Resolves a struct, and after it those that it refers to.
    fn add(
        &mut self,
        place: Place,
        line: usize,
        comment: &[String],
        sources: &'a [SourceField],
    ) -> Result<(), String> {
        let Place {
            role,
            name,
            origin,
            scope,
        } = place;
        if self.structs.iter().any(|known| known.name == name) {
            return Err(self.error(line, format!("struct {name} is defined twice")));
        }
        let mut fields: Vec<Field> = Vec::new();
        for source in sources {
            let field = self.field(source, scope)?;
            if fields.iter().any(|other| clash(other, &field)) {
                let what = format!("the name or the tag of {} is taken", field.name);
                return Err(self.error(source.line, what));
            }
            fields.push(field);
        }
        let scopes: Vec<Versions> = fields.iter().map(|field| field.versions).collect();
        self.open.push(name.clone());
        let comment = comment.to_owned();
        self.structs.push(Struct {
            role,
            comment,
            name: name.clone(),
            origin,
            scope,
            fields,
        });
        for (source, scope) in sources.iter().zip(scopes) {
            self.add_part(source, format!("{name}::{}", source.name), scope)?;
        }
        self.open.pop();
        Ok(())
    }

    /// The struct, if any, that a field's type refers to.
    fn add_part(
        &mut self,
        field: &'a SourceField,
        origin: String,
        scope: Versions,
    ) -> Result<(), String> {
        let Some(name) = field.ty.struct_name() else {
            return match field.inline {
                None => Ok(()),
                Some(_) => Err(self.error(field.line, "only a struct has fields of its own")),
            };
        };
        let place = Place {
            role: Role::Part,
            name: name.to_owned(),
            origin,
            scope,
        };
        if let Some(inline) = &field.inline {
            if self.declared.contains_key(name) {
                return Err(self.error(field.line, format!("struct {name} is defined twice")));
            }
            return self.add(place, field.line, &[], inline);
        }
        if self.open.iter().any(|open| open == name) {
            return Err(self.error(field.line, format!("struct {name} contains itself")));
        }
        match self.declared.get_mut(name) {
            None => Err(self.error(field.line, format!("there is no struct {name}"))),
            Some((_, true)) => Ok(()),
            Some((declared, used)) => {
                *used = true;
                let declared = *declared;
                // It may be used again elsewhere, so no narrower scope than the API's is known.
                let place = Place {
                    scope: self.versions,
                    ..place
                };
                self.add(place, declared.line, &declared.comment, &declared.fields)
            }
        }
    }

    fn field(&self, source: &SourceField, scope: Versions) -> Result<Field, String> {
        let error = |what: &str| self.error(source.line, format!("field {}: {what}", source.name));
        let given = source.versions.unwrap_or(Versions::ALL);
        let versions = given
            .intersect(scope)
            .ok_or_else(|| error("is in no version"))?;
        if source.tag.is_some() && self.flexible.is_none_or(|from| versions.first < from) {
            return Err(error("has a tag before the first flexible version"));
        }
        let nullable = match (source.nullable_everywhere, source.nullable) {
            (true, Some(_)) => return Err(error("says `?` and `nullable`")),
            (true, None) => Some(versions),
            (false, None) => None,
            (false, Some(given)) => {
                let nullable = given.intersect(versions);
                Some(nullable.ok_or_else(|| error("is nullable in no version"))?)
            }
        };
        if nullable.is_some() && !source.ty.can_be_null() {
            return Err(error("is of a type that cannot be null"));
        }
        let default = default(source, versions, nullable).map_err(|what| error(&what))?;
        Ok(Field {
            comment: source.comment.clone(),
            name: source.name.clone(),
            ty: source.ty.clone(),
            versions,
            nullable,
            tag: source.tag,
            ignorable: source.ignorable,
            default,
        })
    }
}

fn clash(a: &Field, b: &Field) -> bool {
    let same_tag = a.tag.is_some() && a.tag == b.tag;
    a.name == b.name || (same_tag && a.versions.intersect(b.versions).is_some())
}

fn default(
    source: &SourceField,
    versions: Versions,
    nullable: Option<Versions>,
) -> Result<Default, String> {
    let empty = || {
        if nullable.is_some() {
            Default::SomeEmpty
        } else {
            Default::Zero
        }
    };
    let Some(literal) = &source.default else {
        return Ok(empty());
    };
    match (literal, &source.ty) {
        (Literal::Null, _) if nullable.is_some_and(|null| null.covers(versions)) => {
            Ok(Default::Zero)
        }
        (Literal::Null, _) => Err("may not be null by default in all its versions".to_owned()),
        (Literal::Text(text), Type::String) if text.is_empty() => Ok(empty()),
        (Literal::Text(text), Type::String) if text.contains('\\') => {
            Err("backslashes mean nothing here".to_owned())
        }
        (Literal::Text(text), Type::String) => Ok(Default::Text(text.clone())),
        (Literal::Word(word), ty) if is_value(word, ty) => match word.as_str() {
            "0" | "false" => Ok(Default::Zero),
            _ => Ok(Default::Number(word.clone())),
        },
        _ => Err("has a default that does not fit its type".to_owned()),
    }
}

fn is_value(word: &str, ty: &Type) -> bool {
    match ty {
        Type::Bool => word.parse::<bool>().is_ok(),
        Type::I8 => word.parse::<i8>().is_ok(),
        Type::I16 => word.parse::<i16>().is_ok(),
        Type::U16 => word.parse::<u16>().is_ok(),
        Type::I32 => word.parse::<i32>().is_ok(),
        Type::U32 => word.parse::<u32>().is_ok(),
        Type::I64 => word.parse::<i64>().is_ok(),
        _ => false,
    }
}
