//! Writes what the fuzzer of the transcoder begins with: an object of every kind, as JSON and as protobuf.

use std::{fs, io, path::Path};

use serde_json::Value;

/// A sample of every kind, for differential tests.
const KINDS: &str = include_str!("../../../conformance/differential/kinds.json");

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/protobuf");
    fs::create_dir_all(&folder)?;
    let kinds: Vec<Value> = serde_json::from_str(KINDS)?;
    for (n, kind) in kinds.iter().enumerate() {
        let sample = &kind["sample"];
        let name = format!("{n:03}-{}", sample["kind"].as_str().unwrap_or_default());
        let message = api::protobuf::encode_object(sample).map_err(io::Error::other)?;
        fs::write(folder.join(format!("{name}.pb")), message)?;
        fs::write(folder.join(format!("{name}.json")), sample.to_string())?;
    }
    println!("{} kinds in {}", kinds.len(), folder.display());
    Ok(())
}
