//! Compares table rows with recorded ones, and their lengths with the recorded columns.

use std::collections::BTreeSet;

use api::{Value, time};
use serde_json::json;

/// Columns that the registry fills itself, from metadata.
const PLAIN: [&str; 2] = ["Name", "Created At"];

/// The resource whose rows end with an age that no column names, as upstream's do.
const ONE_MORE: &str = "ipaddresses";

#[test]
fn cells_are_upstreams() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rows.jsonl");
    let recorded = std::fs::read_to_string(path).expect("recorded rows");
    let mut differ = Vec::new();
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let now = time::parse(case["now"].as_str().expect("a time")).expect("a time");
        let text = |field: &str| case[field].as_str().unwrap_or("");
        let strategy = kinds::strategy(text("group"), text("resource"));
        let Some(cells) = strategy.row(&case["object"], now) else {
            continue;
        };
        let expected = case["cells"].as_array().expect("cells");
        // Ages of young objects were not recorded.
        let same = expected.len() == cells.len() && expected.iter().zip(&cells).all(|(e, c)| e.is_null() || e == c);
        let conditions = case.get("conditions").cloned().unwrap_or_else(|| json!([]));
        if !same || conditions != Value::Array(strategy.row_conditions(&case["object"])) {
            let (mine, theirs) = (json!(cells), json!(expected));
            differ.push(format!(
                "{} {}\n  have {mine}\n  want {theirs}",
                text("resource"),
                case["object"]["metadata"]["name"]
            ));
        }
    }
    assert!(differ.is_empty(), "{} differ\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn every_listed_kind_fills_its_columns() {
    let now = time::parse("2026-01-01T00:00:00Z").expect("a time");
    let mut differ = BTreeSet::new();
    for resource in api::schema::table().resources().filter(|resource| !resource.columns.is_empty()) {
        let names: Vec<&str> = resource.columns.iter().map(|column| column.name).collect();
        let cells = kinds::strategy(resource.group, resource.name).row(&json!({"metadata": {}}), now);
        let filled = match cells {
            Some(cells) => cells.len() == names.len() + usize::from(resource.name == ONE_MORE),
            None => names == PLAIN,
        };
        if !filled {
            differ.insert(format!("{}/{}: {names:?}", resource.group, resource.name));
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}
