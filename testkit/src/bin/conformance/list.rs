//! The tests by shard (`conformance/e2e/tests.txt`), and the failures that are known (`conformance/e2e/known.txt`).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A test, by the name that `e2e.test` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) shard: String,
    pub(crate) name: String,
}

/// Every test of the release.
pub(crate) fn all(conformance: &Path) -> Result<Vec<Test>> {
    let path = conformance.join("e2e/tests.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    lines(&text)
        .map(|line| {
            let (shard, name) = line.split_once(' ').with_context(|| format!("no shard before {line:?}"))?;
            Ok(Test { shard: shard.to_owned(), name: name.to_owned() })
        })
        .collect()
}

/// The tests of some shards; of all when none is named.
pub(crate) fn of_shards(tests: Vec<Test>, shards: &[String]) -> Result<Vec<Test>> {
    let known: BTreeSet<&str> = tests.iter().map(|test| test.shard.as_str()).collect();
    if let Some(unknown) = shards.iter().find(|shard| !known.contains(shard.as_str())) {
        bail!("no shard is called {unknown:?}; there are {}", known.into_iter().collect::<Vec<_>>().join(", "));
    }
    Ok(tests.into_iter().filter(|test| shards.is_empty() || shards.contains(&test.shard)).collect())
}

/// Splits off the tests that never end where what they wait for does not exist (`conformance/e2e/endless.txt`).
pub(crate) fn split_endless(conformance: &Path, tests: &[Test]) -> Result<(Vec<Test>, Vec<Test>)> {
    let path = conformance.join("e2e/endless.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let endless: BTreeSet<&str> = lines(&text).collect();
    Ok(tests.iter().cloned().partition(|test| !endless.contains(test.name.as_str())))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A list of failures that may only shrink.
pub(crate) struct Known {
    path: PathBuf,
    /// Nothing is known before the first run.
    names: Option<BTreeSet<String>>,
}

/// What a run says about the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Surprises {
    /// Fail, and are not on the list.
    pub(crate) broken: Vec<String>,
    /// Pass, and are on the list.
    pub(crate) mended: Vec<String>,
}

impl Known {
    pub(crate) fn read(conformance: &Path) -> Result<Self> {
        let path = conformance.join("e2e/known.txt");
        let names = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            text => Some(text.with_context(|| format!("cannot read {}", path.display()))?),
        };
        let names = names.map(|text| lines(&text).map(str::to_owned).collect());
        Ok(Self { path, names })
    }

    /// Drops the tests that are known to fail.
    pub(crate) fn leave_out(&self, tests: &mut Vec<Test>) {
        tests.retain(|test| !self.names.as_ref().is_some_and(|names| names.contains(&test.name)));
    }

    /// Compares a run with the list.
    pub(crate) fn surprises(&self, passed: &[&str], failed: &[&str]) -> Surprises {
        let Some(names) = &self.names else { return Surprises::default() };
        let listed = |name: &&str| names.contains(*name);
        Surprises {
            broken: failed.iter().filter(|name| !listed(name)).map(|&name| name.to_owned()).collect(),
            mended: passed.iter().filter(|name| listed(name)).map(|&name| name.to_owned()).collect(),
        }
    }

    /// Takes what passed off the list; writes the first list when there is none.
    pub(crate) fn shrink(&self, passed: &[&str], failed: &[&str]) -> Result<()> {
        let left: Vec<&str> = match &self.names {
            None => failed.to_vec(),
            Some(names) => names.iter().map(String::as_str).filter(|name| !passed.contains(name)).collect(),
        };
        let mut text = String::from("# Conformance tests that are known to fail. This list may only shrink.\n");
        left.iter().for_each(|name| text.extend([name, "\n"]));
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_pass_and_an_unlisted_failure_are_surprises() {
        let names = ["a", "b"].map(str::to_owned).into_iter().collect();
        let known = Known { path: PathBuf::new(), names: Some(names) };
        let surprises = known.surprises(&["a", "d"], &["b", "c"]);
        assert_eq!(surprises, Surprises { broken: vec!["c".to_owned()], mended: vec!["a".to_owned()] });
    }

    #[test]
    fn what_is_known_to_fail_is_left_out_and_exists() {
        let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance");
        let known = Known::read(&conformance).unwrap();
        let listed = known.names.as_ref().expect("the list is checked in").len();
        let mut tests = all(&conformance).unwrap();
        known.leave_out(&mut tests);
        assert_eq!(tests.len(), 462 - listed);
    }

    #[test]
    fn every_test_of_the_release_is_in_one_shard() {
        let tests = all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance")).unwrap();
        let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!((tests.len(), names.len()), (462, 462));
        assert_eq!(of_shards(tests.clone(), &["api".to_owned()]).unwrap().len(), 119);
        assert!(of_shards(tests, &["apes".to_owned()]).is_err());
    }
}
