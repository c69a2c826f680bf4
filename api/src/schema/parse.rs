//! Reads `types.tsv`, whose header says what its columns are.

use std::collections::HashMap;

use super::types::{Field, Flags, Shape, Type, TypeId};

pub(super) struct Parsed {
    pub(super) types: Vec<Type>,
    pub(super) by_id: HashMap<&'static str, TypeId>,
}

/// Two passes: the ids first, since a field may name a type that comes later.
///
/// # Panics
/// On lines that the generator never writes.
pub(super) fn types(text: &'static str) -> Parsed {
    let mut parsed = Parsed { types: Vec::new(), by_id: HashMap::new() };
    for line in text.lines().filter_map(|line| line.strip_prefix("T\t")) {
        let [id, go_name, kinds, facts] = columns(line);
        parsed.by_id.insert(id, TypeId::new(parsed.types.len()));
        parsed.types.push(Type::new(id, go_name, kinds, facts));
    }
    let mut current = None::<usize>;
    for line in text.lines() {
        if line.starts_with("T\t") {
            current = Some(current.map_or(0, |index| index + 1));
        } else if let Some(rest) = line.strip_prefix("F\t") {
            let field = field(rest, &parsed.by_id);
            let index = current.expect("a type line comes before its fields");
            parsed.types[index].fields.push(field);
        }
    }
    parsed.types.iter_mut().for_each(Type::index);
    find_defaulted(&mut parsed.types);
    parsed
}

/// Types hold each other, some themselves: looks again until nothing more is found.
fn find_defaulted(types: &mut [Type]) {
    let mut known = vec![false; types.len()];
    loop {
        let mut more = false;
        for (at, one) in types.iter_mut().enumerate() {
            more |= one.find_defaulted(|id| known[id.index()]);
            known[at] = one.is_defaulted();
        }
        if !more {
            return;
        }
    }
}

fn field(line: &'static str, ids: &HashMap<&'static str, TypeId>) -> Field {
    let [name, word, flags, rest] = columns(line);
    let (protobuf, facts) = rest.split_once('\t').unwrap_or((rest, ""));
    Field::new(name, shape(word, ids), Flags::read(flags), protobuf, facts)
}

/// The first three columns and the rest of the line; missing ones are empty.
fn columns(line: &'static str) -> [&'static str; 4] {
    let mut parts = line.splitn(4, '\t');
    [(); 4].map(|()| parts.next().unwrap_or(""))
}

fn shape(word: &'static str, ids: &HashMap<&'static str, TypeId>) -> Shape {
    if let Some(id) = word.strip_prefix('@') {
        return Shape::Ref(*ids.get(id).unwrap_or_else(|| panic!("the schema table names no type {id}")));
    }
    for (mark, message) in [("[]", false), ("[m]", true)] {
        if let Some(item) = word.strip_prefix(mark) {
            return Shape::List { item: Box::new(shape(item, ids)), message };
        }
    }
    if let Some(item) = word.strip_prefix("{}") {
        return Shape::Map(Box::new(shape(item, ids)));
    }
    match word {
        "string" => Shape::String,
        "bool" => Shape::Bool,
        "float64" | "float32" => Shape::Float(word),
        "bytes" => Shape::Bytes,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "fieldsv1" => Shape::FieldsV1,
        "raw" => Shape::Raw,
        "json" => Shape::Json,
        "propsorarray" => Shape::PropsOrArray,
        "propsorbool" => Shape::PropsOrBool,
        "propsorstrings" => Shape::PropsOrStrings,
        integer => {
            assert!(integer.contains("int"), "the schema table has the unknown word {integer}");
            Shape::Int(integer)
        }
    }
}
