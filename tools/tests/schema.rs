//! The keys of `--json` are a promise: programs read them. Keys may be added; one that goes or changes its type breaks somebody.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use cairn::generate::Fork;
use common::Fixture;
use serde_json::Value;

/// Every key with its type, as `head.number: number`. Items of arrays are `[]`; keys that are data (types of transactions, kinds of
/// files) are `*`.
fn schema(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            for item in items {
                schema(item, &format!("{path}[]"), out);
            }
            "array"
        }
        Value::Object(map) => {
            for (key, value) in map {
                let is_data = path.ends_with("transactions_by_type") || path == "kinds";
                let key = if is_data { "*" } else { key };
                let below = match path {
                    "" => key.to_owned(),
                    path => format!("{path}.{key}"),
                };
                schema(value, &below, out);
            }
            "object"
        }
    };
    if !path.is_empty() && name != "object" {
        out.insert(format!("{path}: {name}"));
    }
}

#[test]
fn every_key_that_was_promised_is_there() {
    let store = Fixture::clique(30);
    store.write_genesis(Fork::London);
    let mut all = String::new();
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("blocks.rlp");
    let file = file.to_str().unwrap();
    for args in [
        &["info"][..],
        &["list", "3"],
        &["gaps"],
        &["verify", "--deep"],
        &["stats", "1..", "--by", "10"],
        &["bench", "--seconds", "0.05"],
        &["prune", "--before", "3", "--dry-run"],
        &["rebuild-index"],
        &["repair", "--dry-run"],
        &["export", file],
        &["import", file],
    ] {
        let mut json = args.to_vec();
        json.push("--json");
        let mut keys = BTreeSet::new();
        schema(&store.run(&json).ok().json(), "", &mut keys);
        all.push_str(&format!("{}\n", args[0]));
        for key in keys {
            all.push_str(&format!("  {key}\n"));
        }
    }
    let promised = include_str!("schema.txt");
    let mut missing = Vec::new();
    let mut command = "";
    for line in promised.lines() {
        if !line.starts_with(' ') {
            command = line;
        }
        let section = all.split(&format!("{command}\n")).nth(1).unwrap_or("");
        let section = section.split("\n").take_while(|line| line.starts_with(' '));
        if line.starts_with(' ') && !section.into_iter().any(|found| found == line) {
            missing.push(format!("{command}:{line}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?} are not in:\n{all}");
}
