//! `/version`.

use api::Value;
use serde_json::json;

/// The document. Digits only in `major` and `minor`: clients compare them as numbers.
pub(crate) fn document() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": concat!("v1.37.1+ironclad.", env!("CARGO_PKG_VERSION")),
        "gitCommit": option_env!("IRONCLAD_COMMIT").unwrap_or(""),
        "gitTreeState": "clean",
        "buildDate": option_env!("IRONCLAD_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// In Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
