//! Upstream's answers as they are checked in: a compressed file for each sequence, a line for each answer.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder, read::GzDecoder};

use crate::normal::Normal;

/// Answers by sequence and step.
#[derive(Default)]
pub(crate) struct Recording(HashMap<String, HashMap<String, Normal>>);

impl Recording {
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let mut all = HashMap::new();
        if !folder.exists() {
            return Ok(Self(all));
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let mut text = String::new();
            GzDecoder::new(File::open(&path)?).read_to_string(&mut text)?;
            let answers = text.lines().map(|line| {
                let answer: Normal = serde_json::from_str(line)?;
                Ok((answer.name.clone(), answer))
            });
            let answers =
                answers.collect::<Result<_>>().with_context(|| format!("cannot understand {}", path.display()))?;
            all.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), answers);
        }
        Ok(Self(all))
    }

    pub(crate) fn get(&self, sequence: &str, step: &str) -> Option<&Normal> {
        self.0.get(&file_name(sequence))?.get(step)
    }
}

/// Replaces one sequence's file.
pub(crate) fn store(folder: &Path, sequence: &str, answers: &[Normal]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let lines = answers.iter().map(|answer| Ok(serde_json::to_string(answer)? + "\n"));
    let text: String = lines.collect::<Result<_>>()?;
    let path = folder.join(file_name(sequence));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // No time in it: the same answers make the same file.
    let mut out = GzBuilder::new().mtime(0).write(file, Compression::best());
    out.write_all(text.as_bytes())?;
    out.finish()?;
    Ok(())
}

fn file_name(sequence: &str) -> String {
    sequence.replace('/', "_") + ".jsonl.gz"
}
