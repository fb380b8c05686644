//! The wire only ever grows: every service, method, message, field and enum value that was recorded in
//! `tests/fixtures/wire.txt` is still there, unchanged.
//!
//! `FLEETCA_RECORD_WIRE=1 cargo test --test wire` records what has been added. It never drops a recorded line.

use std::{collections::BTreeSet, env, fs, path::Path};

use fleetca_proto::DESCRIPTOR_SET;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
};

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTOR_SET).expect("the descriptor set can be read");
    set.file.into_iter().filter(|file| file.package().starts_with("fleetca.")).collect()
}

/// One line for each thing that a peer may rely on.
fn describe(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in files {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            lines.extend(service.method.iter().map(|method| describe_method(&name, method)));
        }
        file.message_type.iter().for_each(|message| describe_message(file.package(), message, &mut lines));
        file.enum_type.iter().for_each(|kind| describe_enum(file.package(), kind, &mut lines));
    }
    lines
}

fn describe_method(service: &str, method: &MethodDescriptorProto) -> String {
    let side = |streaming: bool, name: &str| format!("{}{name}", if streaming { "stream " } else { "" });
    let request = side(method.client_streaming(), method.input_type());
    let response = side(method.server_streaming(), method.output_type());
    format!("rpc {service}/{} ({request}) returns ({response})", method.name())
}

fn describe_message(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(format!("message {name}"));
    lines.extend(message.field.iter().map(|field| describe_field(&name, message, field)));
    message.nested_type.iter().for_each(|nested| describe_message(&name, nested, lines));
    message.enum_type.iter().for_each(|nested| describe_enum(&name, nested, lines));
}

fn describe_field(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.type_name() {
        "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        name => name.to_owned(),
    };
    let oneof = match field.oneof_index {
        Some(index) => format!(" in oneof {}", message.oneof_decl[index as usize].name()),
        None => String::new(),
    };
    let label = field.label().as_str_name().trim_start_matches("LABEL_").to_lowercase();
    format!("field {scope}.{} = {}: {label} {kind}{oneof}", field.name(), field.number())
}

fn describe_enum(scope: &str, kind: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", kind.name());
    lines.extend(kind.value.iter().map(|value| format!("enum {name}.{} = {}", value.name(), value.number())));
}

#[test]
fn services_methods_fields_and_enum_values_are_only_ever_added() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire.txt");
    let current = describe(&files());
    let recorded: BTreeSet<String> = fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();

    let lost: Vec<_> = recorded.difference(&current).collect();
    assert!(lost.is_empty(), "old peers rely on what is gone or changed: {lost:#?}");
    if env::var("FLEETCA_RECORD_WIRE").as_deref() == Ok("1") {
        let text: String = current.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).expect("the record is written");
        return;
    }
    let added: Vec<_> = current.difference(&recorded).collect();
    assert!(added.is_empty(), "record what was added with FLEETCA_RECORD_WIRE=1: {added:#?}");
}
