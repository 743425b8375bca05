//! Writes how a struct is read.

use crate::emit::{Code, StructEmitter, condition, default_value, method, size_min};
use crate::schema::{Field, Schema, Type};

impl StructEmitter<'_> {
    pub(crate) fn read_fn(&self, code: &mut Code) {
        let mut body = Code::default();
        let tagged = self.tagged_fields();
        body.line(if tagged.is_empty() {
            "Ok(Self {"
        } else {
            "let mut message = Self {"
        });
        for field in &self.part.fields {
            match field.tag {
                None => self.read_plain(&mut body, field),
                Some(_) => body.line(format!("{}: {},", field.identifier(), default_value(field))),
            }
        }
        if tagged.is_empty() {
            if self.flexible().is_some() {
                body.line("unknown_tagged_fields: d.unknown_tagged_fields(flexible)?,");
            }
            body.line("})");
        } else {
            body.line("unknown_tagged_fields: Vec::new(),");
            body.line("};");
            self.read_tagged(&mut body, &tagged);
            body.line("Ok(message)");
        }
        self.function(code, &body, "read(", "d: &mut Decoder", "Self");
    }

    fn read_plain(&self, body: &mut Code, field: &Field) {
        let name = field.identifier();
        match condition(field.versions, self.part.scope) {
            None => {
                let value = self.read_value(field);
                body.line(format!("{name}: {value},"));
            }
            Some(condition) => {
                body.line(format!("{name}: if {condition} {{"));
                body.line(self.read_value(field));
                body.line("} else {");
                body.line(default_value(field));
                body.line("},");
            }
        }
    }

    fn read_tagged(&self, body: &mut Code, tagged: &[(u32, &Field)]) {
        let flexible = self
            .flexible()
            .expect("resolve allows tags only where versions flex");
        body.line("if flexible {");
        body.line("let unknown = d.tagged_fields(|d, tag| {");
        body.line("match tag {");
        for (tag, field) in tagged {
            let guard = condition(field.versions, flexible);
            let guard = guard.map_or_else(String::new, |condition| format!(" if {condition}"));
            let value = self.read_value(field);
            body.line(format!(
                "{tag}{guard} => message.{} = {value},",
                field.identifier()
            ));
        }
        body.line("_ => return Ok(false),");
        body.line("}");
        body.line("Ok(true)");
        body.line("})?;");
        body.line("message.unknown_tagged_fields = unknown;");
        body.line("}");
    }

    /// Reads a field in the versions that have it.
    fn read_value(&self, field: &Field) -> String {
        let plain = read_call(self.schema, &field.ty, false);
        let Some(nullable) = field.nullable else {
            return plain;
        };
        let null = read_call(self.schema, &field.ty, true);
        match condition(nullable, field.versions) {
            None => null,
            Some(condition) => format!("if {condition} {{ {null} }} else {{ Some({plain}) }}"),
        }
    }
}

fn read_call(schema: &Schema, ty: &Type, nullable: bool) -> String {
    let null = if nullable { "nullable_" } else { "" };
    match ty {
        Type::String => format!("d.{null}string(flexible)?"),
        Type::Bytes => format!("d.{null}bytes(flexible)?"),
        Type::Records => format!("d.{null}records(flexible)?"),
        Type::Struct(name) if nullable => {
            format!("d.nullable_struct(|d| {name}::read(d, version))?")
        }
        Type::Struct(name) => format!("{name}::read(d, version)?"),
        Type::Array(element) => {
            let (size_min, read) = match element.as_ref() {
                Type::Struct(name) => (
                    format!("{name}::size_min(version)"),
                    format!("|d| {name}::read(d, version)"),
                ),
                Type::String => {
                    let size_min = "if flexible { 1 } else { 2 }".to_owned();
                    (size_min, "|d| d.string(flexible)".to_owned())
                }
                other => {
                    let size = size_min(schema, other, schema.versions.first);
                    (size.to_string(), format!("Decoder::{}", method(other)))
                }
            };
            format!("d.{null}array(flexible, {size_min}, {read})?")
        }
        other => format!("d.{}()?", method(other)),
    }
}
