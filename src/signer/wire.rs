//! What is said over the signer's socket, of bytes alone (PROTOCOL.md): the request, the header in it, and the answer.

use std::fmt;

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, hex};
use serde_json::{Value, json};

use crate::chain::SealedHeader;
use crate::chain::clique::{SEAL_BYTES, VANITY_BYTES, unsealed};

/// The method, clef's.
pub const METHOD: &str = "account_signData";
/// What is to be signed, as clef names it.
pub const CONTENT_TYPE: &str = "application/x-clique-header";
/// An answer is some 200 bytes; a refusal may say why, and which header was signed before: one of 8 KiB, in hex.
pub(super) const MAX_ANSWER_BYTES: usize = 32 << 10;
/// Of a refusal, for the log: another program chose it.
const MAX_REFUSAL_CHARS: usize = 200;

/// Why an answer is no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// It is not as PROTOCOL.md has it.
    NoAnswer(&'static str),
    /// The signer refuses, and says why.
    Refused(String),
    /// The signer refuses, since it signed another header over that parent.
    Signed {
        /// What it says.
        why: String,
        /// That header, with a seal, of whomever it is. Nothing says that it is a block of the chain: who offers it looks at that.
        kept: Box<Header>,
    },
}

/// The request to sign `header` for `address`, a line.
pub fn request(address: Address, header: &Header) -> String {
    let data = hex::encode_prefixed(unsealed(header));
    let params = json!([CONTENT_TYPE, address.to_string(), data]);
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": params });
    format!("{request}\n")
}

/// Reads the header of a request, which has no seal; the one that is given back has room for it. Its seal hash is that of these bytes, and
/// of no other header's.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read_unsealed(rlp: &[u8]) -> Result<Header, String> {
    let read = SealedHeader::decode(rlp.to_vec().into());
    let mut header = read.map_err(|error| format!("no header: {error}"))?.header;
    let mut extra = header.extra_data.to_vec();
    // With a seal in the place of signers it would be another header's: 65 is no multiple of 20.
    let signers = extra.len().checked_sub(VANITY_BYTES);
    if !signers.is_some_and(|bytes| bytes.is_multiple_of(20)) {
        return Err("its extraData is not 32 bytes and some addresses, without a seal".into());
    }
    extra.resize(extra.len() + SEAL_BYTES, 0);
    header.extra_data = Bytes::from(extra);
    match unsealed(&header) == rlp {
        true => Ok(header),
        false => Err("it has fields that no block of a clique chain has".into()),
    }
}

/// Reads an answer: r, s, v with v of 0 or 1.
///
/// # Errors
/// [`AnswerError`].
pub fn read_answer(line: &[u8]) -> Result<[u8; SEAL_BYTES], AnswerError> {
    let no_answer = AnswerError::NoAnswer;
    let answer: Value = serde_json::from_slice(line).map_err(|_| no_answer("no JSON"))?;
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let why = error.get("message").and_then(Value::as_str);
        let why = why
            .unwrap_or("it does not say why")
            .chars()
            .take(MAX_REFUSAL_CHARS);
        let why = why.flat_map(char::escape_debug).collect();
        let data = error.get("data").and_then(Value::as_str);
        let kept = data
            .and_then(|digits| hex::decode(digits).ok())
            .and_then(|rlp| SealedHeader::decode(rlp.into()).ok());
        return Err(match kept {
            None => AnswerError::Refused(why),
            Some(kept) => AnswerError::Signed {
                why,
                kept: Box::new(kept.header),
            },
        });
    }
    let result = answer.get("result").and_then(Value::as_str);
    let result = result.ok_or(no_answer("no result that is text"))?;
    let digits = result
        .strip_prefix("0x")
        .ok_or(no_answer("no 0x before the signature"))?;
    let mut seal = [0; SEAL_BYTES];
    hex::decode_to_slice(digits, &mut seal).map_err(|_| no_answer("no 65 bytes in hex"))?;
    // Some signers count from 27, as for messages; geth takes that too.
    let v = &mut seal[SEAL_BYTES - 1];
    *v = match *v {
        0 | 27 => 0,
        1 | 28 => 1,
        _ => return Err(no_answer("a v that is not 0 or 1")),
    };
    Ok(seal)
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::NoAnswer(why) => {
                write!(
                    f,
                    "what came is no answer of a signer: {why}; it is not used"
                )
            }
            AnswerError::Refused(why) | AnswerError::Signed { why, .. } => {
                write!(f, "the signer refuses: {why}")
            }
        }
    }
}

impl std::error::Error for AnswerError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::clique::{seal_hash, sign};
    use alloy_primitives::keccak256;
    use secp256k1::SecretKey;

    fn header() -> Header {
        Header {
            number: 7,
            extra_data: Bytes::from(vec![0; VANITY_BYTES + 20 + SEAL_BYTES]),
            base_fee_per_gas: Some(1),
            ..Header::default()
        }
    }

    #[test]
    fn a_request_carries_the_very_bytes_whose_hash_is_signed() {
        let header = header();
        let line = request(Address::repeat_byte(0xab), &header);
        assert_eq!(line.lines().count(), 1);
        let request: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request["method"], "account_signData");
        assert_eq!(request["params"][0], "application/x-clique-header");
        assert_eq!(request["params"][1], Address::repeat_byte(0xab).to_string());
        let rlp = hex::decode(request["params"][2].as_str().unwrap()).unwrap();
        assert_eq!(keccak256(&rlp), seal_hash(&header));
        let read = read_unsealed(&rlp).unwrap();
        assert_eq!(read, header);
    }

    /// The vector of go-ethereum's `consensus/clique`: an all-zero header with 97 bytes of extraData and no base fee but 0.
    #[test]
    fn the_bytes_to_sign_are_those_of_geth() {
        let header = Header {
            difficulty: Default::default(),
            ommers_hash: Default::default(),
            transactions_root: Default::default(),
            receipts_root: Default::default(),
            state_root: Default::default(),
            extra_data: Bytes::from(vec![0; 97]),
            base_fee_per_gas: Some(0),
            ..Header::default()
        };
        let expected = "bd3d1fa43fbc4c5bfcc91b179ec92e2861df3654de60468beb908ff805359e8f";
        assert_eq!(hex::encode(keccak256(unsealed(&header))), expected);
    }

    #[test]
    fn a_header_with_a_seal_and_one_with_later_fields_are_not_taken_for_one_without() {
        let error = |header: &Header| read_unsealed(&alloy_rlp::encode(header)).unwrap_err();
        assert!(error(&header()).contains("without a seal"));
        let mut later = Header {
            withdrawals_root: Some(Default::default()),
            ..header()
        };
        later.extra_data.truncate(VANITY_BYTES);
        assert!(error(&later).contains("no block of a clique chain"));
        let short = Header {
            extra_data: Bytes::from(vec![0; VANITY_BYTES - 1]),
            ..header()
        };
        assert!(error(&short).contains("extraData"));
        assert!(read_unsealed(&[0xc0]).unwrap_err().contains("no header"));
    }

    #[test]
    fn an_answer_is_65_bytes_with_v_from_0_or_from_27() {
        let key = SecretKey::from_byte_array(&[3; 32]).unwrap();
        let seal = sign(seal_hash(&header()), &key);
        let answer = |v: u8| {
            let result = hex::encode_prefixed([&seal[..64], &[v]].concat());
            read_answer(
                json!({ "jsonrpc": "2.0", "id": 1, "result": result })
                    .to_string()
                    .as_bytes(),
            )
        };
        let mut other = seal;
        other[64] ^= 1;
        assert_eq!(answer(seal[64]), Ok(seal));
        assert_eq!(answer(27 + seal[64]), Ok(seal));
        assert_eq!(answer(other[64]), Ok(other));
        for v in [2, 26, 29, 255] {
            assert!(matches!(answer(v), Err(AnswerError::NoAnswer(_))));
        }
    }

    #[test]
    fn what_is_no_answer_is_told_and_a_refusal_cannot_write_lines_of_the_log() {
        for bad in [
            "",
            "{}",
            "[]",
            "1",
            "{\"result\":null}",
            "{\"result\":\"0x00\"}",
            "{\"result\":\"00\"}",
        ] {
            assert!(
                matches!(read_answer(bad.as_bytes()), Err(AnswerError::NoAnswer(_))),
                "{bad}"
            );
        }
        let refused =
            json!({ "error": { "code": -32000, "message": format!("no\n{}", "x".repeat(1000)) } });
        let Err(AnswerError::Refused(why)) = read_answer(refused.to_string().as_bytes()) else {
            panic!("no refusal");
        };
        assert!(why.starts_with("no\\n") && why.len() < 210, "{why}");
    }
}
