//! JSON read with its paths: every key of an object once, numbers in hex or decimal of any size, errors that name the place.

use std::fmt;

use alloy_primitives::{U256, hex};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Where a genesis.json is wrong, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenesisError {
    /// The place: `config.blobSchedule.cancun.max`; empty where the text is no JSON.
    pub path: String,
    /// What was expected there.
    pub expected: String,
    /// What was found there.
    pub found: String,
}

impl GenesisError {
    pub(super) fn new(
        path: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self {
            path: path.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl fmt::Display for GenesisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("genesis: ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for GenesisError {}

/// A JSON value. Numbers keep their text and objects every entry, also one whose key was there before.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array,
    Object(Vec<(String, Json)>),
}

/// serde_json hands a number over as an object with this key when it keeps its text (`arbitrary_precision`).
const NUMBER_KEY: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJson;
        impl<'de> Visitor<'de> for AnyJson {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Number(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::String(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                // Nothing that is read here is an array.
                while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Json::Array)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == NUMBER_KEY {
                        return map.next_value().map(Json::Number);
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Json::Object(entries))
            }
        }
        deserializer.deserialize_any(AnyJson)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longer ones are cut: an error is for one screen.
        const SHOWN: usize = 80;
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(text) if text.chars().count() <= SHOWN => f.write_str(text),
            Self::Number(_) => f.write_str("a longer number"),
            Self::String(text) if text.chars().count() <= SHOWN => write!(f, "{text:?}"),
            Self::String(text) => {
                let cut: String = text.chars().take(SHOWN).collect();
                write!(f, "{cut:?}... ({} bytes)", text.len())
            }
            Self::Array => f.write_str("an array"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

/// A value and the path to it.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) path: String,
    pub(super) json: &'a Json,
}

/// An object whose keys are known to differ, and the path to it.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    path: String,
    entries: &'a [(String, Json)],
}

impl<'a> Node<'a> {
    /// The whole text.
    pub(super) fn root(json: &'a Json) -> Self {
        Self {
            path: String::new(),
            json,
        }
    }

    pub(super) fn fail<T>(&self, expected: impl fmt::Display) -> Result<T, GenesisError> {
        Err(GenesisError::new(self.path.clone(), expected, self.json))
    }

    /// The value as an object.
    pub(super) fn object(&self) -> Result<Object<'a>, GenesisError> {
        let Json::Object(entries) = self.json else {
            return self.fail("an object");
        };
        let object = Object {
            path: self.path.clone(),
            entries,
        };
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(object),
            Some(pair) => Err(GenesisError::new(
                object.path_to(pair[0]),
                "it once",
                "it more than once",
            )),
        }
    }

    /// The value as a number of at most 256 bits: a JSON integer, or a string in decimal or, with 0x, in hex.
    pub(super) fn wide(&self) -> Result<U256, GenesisError> {
        let text = match self.json {
            Json::Number(text) | Json::String(text) => text.as_str(),
            _ => "",
        };
        let parsed = match hex_digits(text) {
            Some("") => return self.fail("a number"),
            Some(digits) => U256::from_str_radix(digits, 16).ok(),
            None if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
            None => U256::from_str_radix(text, 10).ok(),
        };
        match parsed {
            Some(number) => Ok(number),
            None => self.fail("a number of at most 256 bits, decimal or 0x and hex"),
        }
    }

    /// The value as a number of at most 64 bits.
    pub(super) fn number(&self) -> Result<u64, GenesisError> {
        match u64::try_from(self.wide()?) {
            Ok(number) => Ok(number),
            Err(_) => self.fail("a number of at most 64 bits"),
        }
    }

    /// The value as a truth.
    pub(super) fn truth(&self) -> Result<bool, GenesisError> {
        match self.json {
            Json::Bool(value) => Ok(*value),
            _ => self.fail("true or false"),
        }
    }

    /// The value as bytes: a string in hex, with 0x or without.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, GenesisError> {
        let Json::String(text) = self.json else {
            return self.fail("a string of hex digits");
        };
        match hex::decode(hex_digits(text).unwrap_or(text)) {
            Ok(bytes) => Ok(bytes),
            Err(_) => self.fail("a string of an even number of hex digits"),
        }
    }

    /// The value as exactly `N` bytes.
    pub(super) fn array<const N: usize>(&self) -> Result<[u8; N], GenesisError> {
        match self.bytes()?.try_into() {
            Ok(array) => Ok(array),
            Err(_) => self.fail(format_args!("{N} bytes in hex")),
        }
    }

    /// The value as at most 32 bytes, filled up with zeros from the left: storage keys and values.
    pub(super) fn word(&self) -> Result<[u8; 32], GenesisError> {
        match self.json {
            Json::String(text) => match word(text) {
                Some(word) => Ok(word),
                None => self.fail("at most 32 bytes in hex"),
            },
            _ => self.fail("at most 32 bytes in hex"),
        }
    }
}

/// At most 32 bytes in hex, also with an odd number of digits.
pub(super) fn word(text: &str) -> Option<[u8; 32]> {
    let digits = hex_digits(text).unwrap_or(text);
    if digits.len() > 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match digits {
        "" => Some([0; 32]),
        digits => U256::from_str_radix(digits, 16)
            .ok()
            .map(|number| number.to_be_bytes()),
    }
}

/// What stands after 0x.
pub(super) fn hex_digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

impl<'a> Object<'a> {
    fn path_to(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The value at the first of `keys`, which are spellings of one: two of them are an error. What is null is not there.
    pub(super) fn get(&self, keys: &[&str]) -> Result<Option<Node<'a>>, GenesisError> {
        let mut found: Option<Node<'a>> = None;
        for (key, json) in self.entries {
            if !keys.contains(&key.as_str()) || matches!(json, Json::Null) {
                continue;
            }
            let path = self.path_to(key);
            if let Some(first) = found {
                return Err(GenesisError::new(
                    path,
                    "it once",
                    format_args!("{} too", first.path),
                ));
            }
            found = Some(Node { path, json });
        }
        Ok(found)
    }

    /// The value at `key`, which has to be there.
    pub(super) fn need(&self, key: &str) -> Result<Node<'a>, GenesisError> {
        match self.get(&[key])? {
            Some(node) => Ok(node),
            None => Err(GenesisError::new(self.path_to(key), "a value", "nothing")),
        }
    }

    /// The number of at most 64 bits at the first of `keys`, if there is one.
    pub(super) fn number(&self, keys: &[&str]) -> Result<Option<u64>, GenesisError> {
        self.get(keys)?.map(|node| node.number()).transpose()
    }

    /// Everything in it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        self.entries.iter().map(|(key, json)| {
            let path = self.path_to(key);
            (key.as_str(), Node { path, json })
        })
    }
}

/// Reads JSON.
pub(super) fn parse(text: &[u8]) -> Result<Json, GenesisError> {
    serde_json::from_slice(text).map_err(|error| GenesisError::new("", "JSON", error))
}
