//! Decoded blocks as values to show. What cannot be decoded is shown raw, with the reason.
//!
//! Keys are snake_case. Numbers of at most 64 bits are numbers, everything longer is a 0x string. A field that a block's fork does not know
//! is absent; a contract creation's `to` is null.

use alloy_consensus::{Header, Transaction as _, TxEnvelope, Typed2718};
use alloy_eips::{eip2718::Decodable2718, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, Signature, hex, keccak256};
use alloy_rlp::Decodable;
use secp256k1::{
    Message, Secp256k1,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use serde_json::{Map, Value, json};

use crate::rlp;

/// A header, with its hash.
pub(crate) fn header(raw: &[u8]) -> Value {
    let mut rest = raw;
    let header = match Header::decode(&mut rest) {
        Ok(header) if rest.is_empty() => header,
        Ok(_) => return undecoded(raw, "bytes are left after the header"),
        Err(error) => return undecoded(raw, &error.to_string()),
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    put("hash", text(keccak256(raw)));
    put("number", json!(header.number));
    put("parent_hash", text(header.parent_hash));
    put("timestamp", json!(header.timestamp));
    put("beneficiary", text(header.beneficiary));
    put("difficulty", json!(format!("{:#x}", header.difficulty)));
    put("gas_limit", json!(header.gas_limit));
    put("gas_used", json!(header.gas_used));
    if let Some(fee) = header.base_fee_per_gas {
        put("base_fee_per_gas", json!(fee));
    }
    put("extra_data", bytes(&header.extra_data));
    put("mix_hash", text(header.mix_hash));
    put("nonce", text(header.nonce));
    put("state_root", text(header.state_root));
    put("transactions_root", text(header.transactions_root));
    put("receipts_root", text(header.receipts_root));
    put("ommers_hash", text(header.ommers_hash));
    put("logs_bloom", text(header.logs_bloom));
    for (key, hash) in [
        ("withdrawals_root", header.withdrawals_root),
        ("parent_beacon_block_root", header.parent_beacon_block_root),
        ("requests_hash", header.requests_hash),
        ("block_access_list_hash", header.block_access_list_hash),
    ] {
        if let Some(hash) = hash {
            put(key, text(hash));
        }
    }
    for (key, number) in [
        ("blob_gas_used", header.blob_gas_used),
        ("excess_blob_gas", header.excess_blob_gas),
        ("slot_number", header.slot_number),
    ] {
        if let Some(number) = number {
            put(key, json!(number));
        }
    }
    Value::Object(map)
}

/// A body: `transactions`, `ommers` and, from Shanghai on, `withdrawals`.
pub(crate) fn body(raw: &[u8]) -> Value {
    let parts = rlp::list(raw).and_then(rlp::items).unwrap_or_default();
    let lists: Option<Vec<Vec<&[u8]>>> = parts
        .iter()
        .map(|part| rlp::list(part).and_then(rlp::items))
        .collect();
    let (Some(lists), 2..=3) = (lists, parts.len()) else {
        return undecoded(raw, "a body is a list of two or three lists");
    };
    let mut map = Map::new();
    let transactions = lists[0]
        .iter()
        .map(|item| transaction(rlp::unwrap_string(item)));
    map.insert("transactions".to_owned(), transactions.collect());
    let ommers = lists[1].iter().map(|item| header(item));
    map.insert("ommers".to_owned(), ommers.collect());
    if let Some(list) = lists.get(2) {
        let withdrawals = list.iter().map(|item| withdrawal(item));
        map.insert("withdrawals".to_owned(), withdrawals.collect());
    }
    Value::Object(map)
}

/// Receipts in the form of eth/69: `receipts`, each with its logs.
pub(crate) fn receipts(raw: &[u8]) -> Value {
    match rlp::list(raw).and_then(rlp::items) {
        Some(items) => {
            json!({ "receipts": items.iter().map(|item| receipt(item)).collect::<Value>() })
        }
        None => undecoded(raw, "receipts are a list"),
    }
}

fn receipt(raw: &[u8]) -> Value {
    decode_receipt(raw).unwrap_or_else(|| {
        undecoded(
            raw,
            "a receipt is a list of type, status or state root, cumulative gas and logs",
        )
    })
}

/// `[type, status or state root, cumulative gas, logs]` (EIP-7642); before Byzantium a state root stands for the status (EIP-658).
fn decode_receipt(raw: &[u8]) -> Option<Value> {
    let fields = rlp::items(rlp::list(raw)?)?;
    let [kind, outcome, gas, logs] = fields[..] else {
        return None;
    };
    let mut map = Map::new();
    map.insert("type".to_owned(), json!(number(kind)?));
    match rlp::unwrap_string(outcome) {
        root if root.len() == 32 => map.insert("state_root".to_owned(), bytes(root)),
        _ => map.insert("status".to_owned(), json!(number(outcome)?)),
    };
    map.insert("cumulative_gas_used".to_owned(), json!(number(gas)?));
    let logs = rlp::items(rlp::list(logs)?)?;
    let logs: Option<Vec<Value>> = logs.iter().map(|log| decode_log(log)).collect();
    map.insert("logs".to_owned(), Value::Array(logs?));
    Some(Value::Object(map))
}

fn decode_log(raw: &[u8]) -> Option<Value> {
    let fields = rlp::items(rlp::list(raw)?)?;
    let [address, topics, data] = fields[..] else {
        return None;
    };
    let topics = rlp::items(rlp::list(topics)?)?;
    let topics = topics.iter().map(|topic| bytes(rlp::unwrap_string(topic)));
    Some(json!({
        "address": bytes(rlp::unwrap_string(address)),
        "topics": topics.collect::<Value>(),
        "data": bytes(rlp::unwrap_string(data)),
    }))
}

fn number(item: &[u8]) -> Option<u64> {
    u64::decode(&mut &item[..]).ok()
}

/// How many transactions a body holds, without decoding them.
pub(crate) fn transaction_count(body: &[u8]) -> Option<usize> {
    let parts = rlp::items(rlp::list(body)?)?;
    Some(rlp::items(rlp::list(parts.first()?)?)?.len())
}

/// A transaction in its EIP-2718 form.
fn transaction(raw: &[u8]) -> Value {
    let decoded = match TxEnvelope::decode_2718_exact(raw) {
        Ok(decoded) => decoded,
        Err(error) => {
            let mut value = undecoded(raw, &error.to_string());
            if let (Some(map), Some(&first)) = (value.as_object_mut(), raw.first()) {
                map.insert("hash".to_owned(), text(keccak256(raw)));
                map.insert(
                    "type".to_owned(),
                    json!(if first < 0x80 { first } else { 0 }),
                );
            }
            return value;
        }
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    put("hash", text(keccak256(raw)));
    put("type", json!(decoded.ty()));
    let from = recover(decoded.signature_hash(), decoded.signature());
    put("from", from.map_or(Value::Null, text));
    put("to", decoded.to().map_or(Value::Null, text));
    put("nonce", json!(decoded.nonce()));
    put("value", json!(format!("{:#x}", decoded.value())));
    put("gas_limit", json!(decoded.gas_limit()));
    let mut fee = |key: &str, fee: u128| put(key, json!(format!("{fee:#x}")));
    match decoded.gas_price() {
        Some(price) => fee("gas_price", price),
        None => {
            fee("max_fee_per_gas", decoded.max_fee_per_gas());
            if let Some(tip) = decoded.max_priority_fee_per_gas() {
                fee("max_priority_fee_per_gas", tip);
            }
        }
    }
    if let Some(blob_fee) = decoded.max_fee_per_blob_gas() {
        fee("max_fee_per_blob_gas", blob_fee);
    }
    if let Some(chain_id) = decoded.chain_id() {
        put("chain_id", json!(chain_id));
    }
    put("input", bytes(decoded.input()));
    if let Some(list) = decoded.access_list() {
        let items = list.0.iter().map(|item| {
            let keys: Vec<Value> = item.storage_keys.iter().map(text).collect();
            json!({ "address": text(item.address), "storage_keys": keys })
        });
        put("access_list", items.collect());
    }
    if let Some(hashes) = decoded.blob_versioned_hashes() {
        put("blob_versioned_hashes", hashes.iter().map(text).collect());
    }
    if let Some(list) = decoded.authorization_list() {
        let items = list.iter().map(|signed| {
            let authority = signed
                .signature()
                .ok()
                .and_then(|signature| recover(signed.signature_hash(), &signature));
            json!({
                "chain_id": format!("{:#x}", signed.chain_id),
                "address": text(signed.address),
                "nonce": signed.nonce,
                "authority": authority.map_or(Value::Null, text),
            })
        });
        put("authorization_list", items.collect());
    }
    let signature = decoded.signature();
    put("r", json!(format!("{:#x}", signature.r())));
    put("s", json!(format!("{:#x}", signature.s())));
    put("y_parity", json!(u8::from(signature.v())));
    Value::Object(map)
}

fn withdrawal(raw: &[u8]) -> Value {
    let mut rest = raw;
    match Withdrawal::decode(&mut rest) {
        Ok(withdrawal) if rest.is_empty() => json!({
            "index": withdrawal.index,
            "validator_index": withdrawal.validator_index,
            "address": text(withdrawal.address),
            "amount_gwei": withdrawal.amount,
        }),
        Ok(_) => undecoded(raw, "bytes are left after the withdrawal"),
        Err(error) => undecoded(raw, &error.to_string()),
    }
}

/// The address whose key made `signature` of `hash`; `None` if no key can have.
fn recover(hash: B256, signature: &Signature) -> Option<Address> {
    let mut compact = [0; 64];
    compact[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    compact[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let id = RecoveryId::try_from(i32::from(signature.v())).ok()?;
    let signature = RecoverableSignature::from_compact(&compact, id).ok()?;
    let key = Secp256k1::verification_only()
        .recover_ecdsa(&Message::from_digest(hash.0), &signature)
        .ok()?;
    let address = &keccak256(&key.serialize_uncompressed()[1..])[12..];
    Some(Address::from_slice(address))
}

fn undecoded(raw: &[u8], why: &str) -> Value {
    json!({ "undecoded": why, "raw": bytes(raw) })
}

/// Bytes as a 0x string.
pub(crate) fn bytes(bytes: &[u8]) -> Value {
    Value::from(hex::encode_prefixed(bytes))
}

/// Hashes and addresses as 0x strings of lower case.
pub(crate) fn text(hash: impl AsRef<[u8]>) -> Value {
    bytes(hash.as_ref())
}
