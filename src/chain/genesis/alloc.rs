//! The accounts that a genesis.json allots, and the state root that they make.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, TrieAccount, root};

use super::json::{self, GenesisError, Node, hex_digits};

/// The state root of `alloc`.
pub(super) fn state_root(alloc: &Node<'_>) -> Result<B256, GenesisError> {
    // By hash of the address, so that two spellings of one address are seen.
    let mut accounts: BTreeMap<B256, TrieAccount> = BTreeMap::new();
    for (key, node) in alloc.object()?.entries() {
        let digits = hex_digits(key).unwrap_or(key);
        let address = match digits.len() {
            40 => digits.parse::<Address>().ok(),
            _ => None,
        };
        let Some(address) = address else {
            return Err(GenesisError::new(
                node.path,
                "an address of 40 hex digits for a key",
                format_args!("{key:?}"),
            ));
        };
        let account = account(&node)?;
        if accounts.insert(keccak256(address), account).is_some() {
            return Err(GenesisError::new(
                node.path,
                "each address once",
                "it more than once",
            ));
        }
    }
    Ok(match accounts.is_empty() {
        true => EMPTY_ROOT_HASH,
        false => root::state_root(accounts),
    })
}

fn account(node: &Node<'_>) -> Result<TrieAccount, GenesisError> {
    let object = node.object()?;
    let code_hash = match object.get(&["code"])? {
        Some(code) => match code.bytes()? {
            code if code.is_empty() => KECCAK_EMPTY,
            code => keccak256(code),
        },
        None => KECCAK_EMPTY,
    };
    let storage_root = match object.get(&["storage"])? {
        Some(storage) => storage_root(&storage)?,
        None => EMPTY_ROOT_HASH,
    };
    Ok(TrieAccount {
        nonce: object.number(&["nonce"])?.unwrap_or(0),
        balance: match object.get(&["balance"])? {
            Some(balance) => balance.wide()?,
            None => U256::ZERO,
        },
        storage_root,
        code_hash,
    })
}

fn storage_root(storage: &Node<'_>) -> Result<B256, GenesisError> {
    let mut slots: BTreeMap<B256, U256> = BTreeMap::new();
    for (key, node) in storage.object()?.entries() {
        let Some(slot) = json::word(key) else {
            return Err(GenesisError::new(
                node.path,
                "at most 32 bytes in hex for a key",
                format_args!("{key:?}"),
            ));
        };
        let value = U256::from_be_bytes(node.word()?);
        if slots.insert(keccak256(slot), value).is_some() {
            return Err(GenesisError::new(
                node.path,
                "each slot once",
                "it more than once",
            ));
        }
    }
    // A slot that holds zero is not in the trie.
    slots.retain(|_, value| !value.is_zero());
    Ok(match slots.is_empty() {
        true => EMPTY_ROOT_HASH,
        false => root::storage_root(slots),
    })
}
