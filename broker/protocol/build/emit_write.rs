//! Writes how a struct is written.

use crate::emit::{Code, StructEmitter, condition, method};
use crate::schema::{Default, Field, Type, Versions};

impl StructEmitter<'_> {
    pub(crate) fn write_fn(&self, code: &mut Code) {
        let mut body = Code::default();
        for field in self.plain_fields() {
            self.write_plain(&mut body, field);
        }
        for (_, field) in self.tagged_fields() {
            if let (false, Some(absent)) =
                (field.ignorable, absence(field.versions, self.part.scope))
            {
                body.line(format!("if ({absent}) && {} {{", is_set(field)));
                body.line(self.refuse(&field.name));
                body.line("}");
            }
        }
        self.write_tags(&mut body);
        body.line("Ok(())");
        self.function(code, &body, "write(&self, ", "e: &mut Encoder", "()");
    }

    fn refuse(&self, field: &str) -> String {
        let part = &self.part.name;
        format!("return Err(EncodeError::not_in_version(\"{part}\", \"{field}\", version));")
    }

    fn write_plain(&self, body: &mut Code, field: &Field) {
        let Some(condition) = condition(field.versions, self.part.scope) else {
            self.write_value(body, field);
            return;
        };
        body.line(format!("if {condition} {{"));
        self.write_value(body, field);
        if !field.ignorable {
            body.line(format!("}} else if {} {{", is_set(field)));
            body.line(self.refuse(&field.name));
        }
        body.line("}");
    }

    fn write_tags(&self, body: &mut Code) {
        let Some(flexible) = self.flexible() else {
            return;
        };
        body.line("if flexible {");
        let tagged = self.tagged_fields();
        let mut known = Vec::new();
        for (_, field) in &tagged {
            let name = &field.name;
            let set = is_set(field);
            match condition(field.versions, flexible) {
                None => body.line(format!("let has_{name} = {set};")),
                Some(condition) => {
                    body.line(format!("let has_{name} = {condition} && {set};"));
                }
            }
            known.push(format!("usize::from(has_{name})"));
        }
        let known = if known.is_empty() {
            "0".to_owned()
        } else {
            known.join(" + ")
        };
        let mutable = if tagged.is_empty() { "" } else { "mut " };
        let unknown = "&self.unknown_tagged_fields";
        body.line(format!(
            "let {mutable}tags = e.tagged_fields({known}, {unknown})?;"
        ));
        for (tag, field) in &tagged {
            body.line(format!("if has_{} {{", field.name));
            body.line(format!("tags.field({tag}, |e| {{"));
            self.write_value(body, field);
            body.line("Ok(())");
            body.line("})?;");
            body.line("}");
        }
        body.line("tags.finish()?;");
        if condition(flexible, self.part.scope).is_some() {
            body.line("} else if !self.unknown_tagged_fields.is_empty() {");
            body.line(self.refuse("unknown_tagged_fields"));
        }
        body.line("}");
    }

    /// Writes a field in the versions that have it.
    fn write_value(&self, body: &mut Code, field: &Field) {
        let name = field.identifier();
        let part = &self.part.name;
        let plain = |value: &str| write_call(&field.ty, value);
        let Some(nullable) = field.nullable else {
            body.line(plain(&format!("self.{name}")));
            return;
        };
        let null = write_nullable_call(&field.ty, &name);
        let required = format!(
            "required(&self.{name}, \"{part}\", \"{}\", version)?",
            field.name
        );
        match condition(nullable, field.versions) {
            None => body.line(null),
            Some(condition) => {
                body.line(format!("if {condition} {{"));
                body.line(null);
                body.line("} else {");
                body.line(plain(&required));
                body.line("}");
            }
        }
    }
}

/// The opposite of `condition`; `None` if never true.
fn absence(versions: Versions, scope: Versions) -> Option<String> {
    let Versions { first, last } = versions;
    match (first > scope.first, last < scope.last) {
        (false, false) => None,
        (true, false) => Some(format!("version < {first}")),
        (false, true) => Some(format!("version > {last}")),
        (true, true) => Some(format!("!({first}..={last}).contains(&version)")),
    }
}

/// Whether the field differs from its default, as Rust code.
fn is_set(field: &Field) -> String {
    let name = field.identifier();
    match (&field.default, &field.ty) {
        (Default::Zero, _) if field.nullable.is_some() => format!("self.{name}.is_some()"),
        (Default::Zero, Type::Bool) => format!("self.{name}"),
        (Default::Zero, Type::F64) => format!("self.{name} != 0.0"),
        (Default::Zero, Type::Uuid) => format!("!self.{name}.is_nil()"),
        (Default::Zero, Type::Struct(part)) => format!("self.{name} != {part}::default()"),
        (Default::Zero, Type::String | Type::Bytes | Type::Records | Type::Array(_)) => {
            format!("!self.{name}.is_empty()")
        }
        (Default::Zero, _) => format!("self.{name} != 0"),
        (Default::SomeEmpty, Type::Struct(part)) => {
            format!("self.{name} != Some({part}::default())")
        }
        (Default::SomeEmpty, _) => {
            format!("self.{name}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Default::Number(_), Type::Bool) => format!("!self.{name}"),
        (Default::Number(number), _) => format!("self.{name} != {number}"),
        (Default::Text(text), _) if field.nullable.is_some() => {
            format!("self.{name}.as_deref() != Some(\"{text}\")")
        }
        (Default::Text(text), _) => format!("self.{name} != \"{text}\""),
    }
}

fn write_call(ty: &Type, value: &str) -> String {
    let borrowed = if value.starts_with("required(") {
        value.to_owned()
    } else {
        format!("&{value}")
    };
    match ty {
        Type::String => format!("e.string(flexible, {borrowed})?;"),
        Type::Bytes => format!("e.bytes(flexible, {borrowed})?;"),
        Type::Records => format!("e.records(flexible, {borrowed})?;"),
        Type::Struct(_) => format!("{value}.write(e, version)?;"),
        Type::Array(element) => {
            format!(
                "e.array(flexible, {borrowed}, {})?;",
                write_element(element)
            )
        }
        other => format!("e.{}({value});", method(other)),
    }
}

fn write_nullable_call(ty: &Type, name: &str) -> String {
    match ty {
        Type::String => format!("e.nullable_string(flexible, self.{name}.as_ref())?;"),
        Type::Bytes => format!("e.nullable_bytes(flexible, self.{name}.as_ref())?;"),
        Type::Records => format!("e.nullable_records(flexible, self.{name}.as_ref())?;"),
        Type::Array(element) => {
            let write = write_element(element);
            format!("e.nullable_array(flexible, self.{name}.as_deref(), {write})?;")
        }
        _ => {
            format!("e.nullable_struct(self.{name}.as_ref(), |e, value| value.write(e, version))?;")
        }
    }
}

fn write_element(element: &Type) -> String {
    match element {
        Type::Struct(_) => "|e, value| value.write(e, version)".to_owned(),
        Type::String => "|e, value| e.string(flexible, value)".to_owned(),
        other => {
            let method = method(other);
            format!("|e, value| {{ e.{method}(*value); Ok(()) }}")
        }
    }
}
