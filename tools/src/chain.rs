//! The chain that is stored: the genesis file beside the store, or a built-in one, and the rules that come of it.

use std::path::Path;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::Decodable;
use cairn::{
    chain::{Genesis, clique},
    datadir::read_genesis,
};
use cairn_store::{Error, Snapshot};

use crate::failure::Failure;

/// The genesis file's name in a node's data folder.
const GENESIS_FILE: &str = "genesis.json";

/// extraData of a clique block without signers: 32 bytes for anything, 65 of seal.
const CLIQUE_EXTRA_BYTES: usize = 97;

/// True if the genesis block names clique signers.
pub(crate) fn is_clique(snapshot: &Snapshot) -> Result<bool, Error> {
    let Some(genesis) = snapshot.header(0)? else {
        return Ok(false);
    };
    let raw: &[u8] = &genesis;
    Ok(Header::decode(&mut &raw[..]).is_ok_and(|header| {
        let signers = header.extra_data.len().checked_sub(CLIQUE_EXTRA_BYTES);
        signers.is_some_and(|bytes| bytes > 0 && bytes.is_multiple_of(20))
    }))
}

/// Who sealed a header of a clique chain. Nobody has once such a chain has gone over to proof of stake.
pub(crate) fn signer(header: &Header) -> Option<Address> {
    let is_sealed = header.number > 0
        && header.extra_data.len() >= CLIQUE_EXTRA_BYTES
        && (header.difficulty == U256::from(1) || header.difficulty == U256::from(2));
    is_sealed.then(|| clique::signer(header).ok()).flatten()
}

/// The genesis of the chain that begins with `hash`, whose store is in `folder`: of the file `named`, else beside the store, else built
/// in. Says why if there is none.
pub(crate) fn genesis(
    folder: &Path,
    named: Option<&Path>,
    hash: B256,
) -> Result<Result<Genesis, String>, Failure> {
    let read = |path: &Path| match read_genesis(path) {
        Ok((genesis, _)) if genesis.header.hash == hash => Ok(genesis),
        Ok((genesis, _)) => Err(format!(
            "{}: it is of the chain with genesis {}, the store's is {hash}",
            path.display(),
            genesis.header.hash
        )),
        Err(error) => Err(error.to_string()),
    };
    if let Some(named) = named {
        return read(named).map(Ok).map_err(Failure::Usage);
    }
    // The store is in `blocks` of the data folder; a store kept by itself may have the file in it or beside it.
    let places = [folder.parent(), Some(folder)];
    let files = places
        .into_iter()
        .flatten()
        .map(|place| place.join(GENESIS_FILE));
    let mut files = files.filter(|file| file.is_file()).map(|file| read(&file));
    Ok(match files.next() {
        Some(Ok(genesis)) => Ok(genesis),
        found => Genesis::builtin(hash).ok_or_else(|| match found {
            Some(Err(why)) => why,
            _ => format!(
                "there is no {GENESIS_FILE} beside the store, and genesis {hash} is not built in"
            ),
        }),
    })
}
