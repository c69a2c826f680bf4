//! The unified diff that goes with a refused change of an immutable specification.
//!
//! Upstream diffs its internal Go types; here it is the wire's JSON, so the field names differ, not what they say.

use api::Value;

const CONTEXT: usize = 3;

/// Lines kept, removed and added between two trees, with three lines around each change.
pub(crate) fn unified(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let edits = edits(&old, &new);
    hunks(&edits)
}

fn pretty(value: &Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Both,
    Old,
    New,
}

/// One line of the edit script.
struct Edit<'a> {
    side: Side,
    line: &'a str,
}

fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<Edit<'a>> {
    let lengths = common_lengths(old, new);
    let (mut i, mut j) = (0, 0);
    let mut script = Vec::new();
    while i < old.len() || j < new.len() {
        let both = i < old.len() && j < new.len() && old[i] == new[j];
        let take_old = j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]);
        let side = match (both, take_old) {
            (true, _) => Side::Both,
            (false, true) => Side::Old,
            (false, false) => Side::New,
        };
        let line = if side == Side::New { &new[j] } else { &old[i] };
        script.push(Edit { side, line });
        i += usize::from(side != Side::New);
        j += usize::from(side != Side::Old);
    }
    script
}

/// `lengths[i][j]`: the longest common subsequence of `old[i..]` and `new[j..]`.
fn common_lengths(old: &[String], new: &[String]) -> Vec<Vec<u32>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] =
                if old[i] == new[j] { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    lengths
}

fn hunks(script: &[Edit<'_>]) -> String {
    let changed: Vec<usize> = (0..script.len()).filter(|i| script[*i].side != Side::Both).collect();
    let mut out = String::new();
    let mut next = 0;
    while next < changed.len() {
        let start = changed[next].saturating_sub(CONTEXT);
        let mut end = changed[next];
        while next < changed.len() && changed[next] <= end + 2 * CONTEXT + 1 {
            end = changed[next];
            next += 1;
        }
        let end = (end + CONTEXT + 1).min(script.len());
        out.push_str(&header(script, start, end));
        for edit in &script[start..end] {
            let mark = match edit.side {
                Side::Both => ' ',
                Side::Old => '-',
                Side::New => '+',
            };
            out.push_str(&format!("{mark}{}\n", edit.line));
        }
    }
    out
}

fn header(script: &[Edit<'_>], start: usize, end: usize) -> String {
    let count = |edits: &[Edit<'_>], other: Side| edits.iter().filter(|e| e.side != other).count();
    let (before, hunk) = (&script[..start], &script[start..end]);
    let old = (count(before, Side::New) + 1, count(hunk, Side::New));
    let new = (count(before, Side::Old) + 1, count(hunk, Side::Old));
    format!("@@ -{},{} +{},{} @@\n", old.0, old.1, new.0, new.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_changed_line() {
        let diff = unified(&json!({"a": 1, "b": 2}), &json!({"a": 1, "b": 3}));
        assert_eq!(diff, "@@ -1,4 +1,4 @@\n {\n   \"a\": 1,\n-  \"b\": 2\n+  \"b\": 3\n }\n");
    }
}
