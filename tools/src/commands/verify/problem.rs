//! Something wrong, in a place of a file or in a block.

use std::fmt;

use cairn_store::{Error, check::Finding};
use serde_json::{Map, Value, json};

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    /// File and offset in bytes.
    pub(super) place: Option<(String, u64)>,
    pub(super) block: Option<u64>,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn of_record(finding: &Finding) -> Self {
        Self {
            place: Some((finding.path.display().to_string(), finding.offset_bytes)),
            block: None,
            what: finding.what.clone(),
        }
    }

    pub(super) fn of_block(number: u64, what: impl Into<String>) -> Self {
        Self {
            place: None,
            block: Some(number),
            what: what.into(),
        }
    }

    /// A fault that names its block itself, as those of the chain's rules do.
    pub(super) fn of_rule(number: u64, fault: &impl ToString) -> Self {
        let said = fault.to_string();
        let what = match said.strip_prefix(&format!("block {number} (")) {
            Some(rest) => rest.split_once("): ").map_or(&*said, |(_, what)| what),
            None => &said,
        };
        Self::of_block(number, what)
    }

    /// What an error of the store says against it.
    ///
    /// # Errors
    /// Gives the error back if it is no fault of what is stored.
    pub(super) fn of_error(error: Error) -> Result<Self, Error> {
        match error {
            Error::Damaged {
                path,
                offset_bytes,
                what,
            } => Ok(Self {
                place: Some((path.display().to_string(), offset_bytes)),
                block: None,
                what,
            }),
            error => Err(error),
        }
    }

    pub(super) fn value(&self) -> Value {
        let mut map = Map::new();
        if let Some((file, offset_bytes)) = &self.place {
            map.insert("file".to_owned(), json!(file));
            map.insert("offset_bytes".to_owned(), json!(offset_bytes));
        }
        if let Some(block) = self.block {
            map.insert("block".to_owned(), json!(block));
        }
        map.insert("what".to_owned(), json!(self.what));
        Value::Object(map)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, offset_bytes)) = &self.place {
            write!(f, "{file}: at byte {offset_bytes}: ")?;
        }
        if let Some(block) = self.block {
            write!(f, "block {block}: ")?;
        }
        f.write_str(&self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_names_its_block_is_not_told_twice() {
        let said = "block 17 (0xab): gasUsed: expected 1, found 2".to_owned();
        let told = Problem::of_rule(17, &said).to_string();
        assert_eq!(told, "block 17: gasUsed: expected 1, found 2");
        let other = Problem::of_rule(18, &said).to_string();
        assert_eq!(other, format!("block 18: {said}"));
    }
}
