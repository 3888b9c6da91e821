//! Shows JSON values to people: a line for a field, long bytes cut, times as dates.

use alloy_primitives::{U256, hex};
use serde_json::Value;

/// Hex longer than this many bytes is cut; the bytes shown of it.
const LONGEST_BYTES: usize = 68;
const SHOWN_BYTES: usize = 24;

/// Fields that are amounts, though JSON has them as 0x strings for their size: people get them in decimal.
const AMOUNTS: [&str; 8] = [
    "chain_id",
    "difficulty",
    "gas_price",
    "max_fee_per_blob_gas",
    "max_fee_per_gas",
    "max_priority_fee_per_gas",
    "td",
    "value",
];

/// `value` as lines that end in a newline.
pub(crate) fn show(value: &Value) -> String {
    let mut out = String::new();
    fields(value, 0, &mut out);
    out
}

fn fields(value: &Value, indent: usize, out: &mut String) {
    let Value::Object(map) = value else {
        out.push_str(&format!("{:indent$}{}\n", "", scalar("", value)));
        return;
    };
    let width = map.keys().map(String::len).max().unwrap_or(0);
    for (key, value) in map {
        match value {
            Value::Object(_) => {
                out.push_str(&format!("{:indent$}{}\n", "", label(key)));
                fields(value, indent + 2, out);
            }
            Value::Array(items) => {
                out.push_str(&format!(
                    "{:indent$}{:width$}  {}\n",
                    "",
                    label(key),
                    if items.is_empty() {
                        "none".to_owned()
                    } else {
                        items.len().to_string()
                    }
                ));
                for (at, item) in items.iter().enumerate() {
                    if item.is_object() {
                        out.push_str(&format!("{:indent$}  {at}:\n", ""));
                        fields(item, indent + 4, out);
                    } else {
                        out.push_str(&format!("{:indent$}  {}\n", "", scalar(key, item)));
                    }
                }
            }
            _ => out.push_str(&format!(
                "{:indent$}{:width$}  {}\n",
                "",
                label(key),
                scalar(key, value)
            )),
        }
    }
}

fn label(key: &str) -> String {
    key.replace('_', " ")
}

fn scalar(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if AMOUNTS.contains(&key) => match text.parse::<U256>() {
            Ok(amount) => amount.to_string(),
            Err(_) => text.clone(),
        },
        Value::String(text) if key == "extra_data" => said(text),
        Value::String(text) if text.starts_with("0x") => cut(text),
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Number(number) if key == "timestamp" => match number.as_u64() {
            Some(time_s) => format!("{time_s} ({})", date(time_s)),
            None => number.to_string(),
        },
        Value::Number(number) if key.ends_with("bytes") => match number.as_u64() {
            Some(bytes) => size(bytes),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Bytes that are often a text, with the text if they are.
fn said(text: &str) -> String {
    let bytes = hex::decode(text).unwrap_or_default();
    match std::str::from_utf8(&bytes) {
        Ok(said) if !said.is_empty() && !said.contains(char::is_control) => {
            format!("{} ({said:?})", cut(text))
        }
        _ => cut(text),
    }
}

fn cut(text: &str) -> String {
    let bytes = (text.len() - 2) / 2;
    match text.get(..2 + 2 * SHOWN_BYTES) {
        Some(shown) if bytes > LONGEST_BYTES => format!("{shown}... ({bytes} bytes)"),
        _ => text.to_owned(),
    }
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..10_000 => return format!("{bytes} B"),
        10_000..10_000_000 => (1e3, "kB"),
        10_000_000..10_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}

/// A number with commas between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut said = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// Unix seconds as a UTC date and time.
pub(crate) fn date(time_s: u64) -> String {
    let (days, second) = (time_s / 86_400, time_s % 86_400);
    // Days from 1 March 0000, in eras of 400 years, years that begin in March, and months of 153 days to five.
    let day = days + 719_468;
    let era = day / 146_097;
    let day_of_era = day % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02} {:02}:{:02}:{:02} UTC",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (time_s, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_438_269_973, "2015-07-30 15:26:13 UTC"), // mainnet's genesis, as explorers show it
            (1_663_224_179, "2022-09-15 06:42:59 UTC"), // the first block after the merge
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(time_s), expected);
        }
    }

    #[test]
    fn thousands_are_parted() {
        for (number, said) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), said);
        }
    }

    #[test]
    fn long_bytes_are_cut_and_hashes_are_not() {
        let hash = format!("0x{}", "ab".repeat(32));
        let long = format!("0x{}", "cd".repeat(600));
        let shown = show(&json!({ "hash": hash, "input": long }));
        assert!(shown.contains(&hash));
        assert!(shown.contains("... (600 bytes)"), "{shown}");
        assert!(!shown.contains(&long));
    }

    #[test]
    fn amounts_are_decimal_and_texts_are_read() {
        let shown =
            show(&json!({ "td": "0x11", "extra_data": "0x546974616e", "mix_hash": "0x11" }));
        let expected = "td          17\nextra data  0x546974616e (\"Titan\")\nmix hash    0x11\n";
        assert_eq!(shown, expected);
        // Nothing that a block says may move the cursor of who looks at it.
        assert!(!show(&json!({ "extra_data": "0x1b5b324a" })).contains('\u{1b}'));
    }

    #[test]
    fn fields_are_lines_and_nested_ones_are_indented() {
        let shown = show(&json!({
            "number": 7,
            "gas_used": 21_000,
            "to": null,
            "header": { "timestamp": 0 },
            "ommers": [],
            "transactions": [{ "nonce": 1 }],
        }));
        let expected = "number        7\n\
                        gas used      21000\n\
                        to            none\n\
                        header\n  timestamp  0 (1970-01-01 00:00:00 UTC)\n\
                        ommers        none\n\
                        transactions  1\n  0:\n    nonce  1\n";
        assert_eq!(shown, expected);
    }
}
