//! The chain of the network: a genesis with several signers, and blocks with bodies that they sealed in turn.

use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, U256, hex};
use cairn::chain::clique::{self, address_of};
use cairn::chain::{Genesis, SealedHeader};
use cairn::generate::{self, Params, encode_block};
use secp256k1::SecretKey;
use serde_json::json;

/// A checkpoint now and then, in the file and live.
const EPOCH: u64 = 200;

/// What the network begins with, as files.
pub struct Chain {
    pub genesis: PathBuf,
    pub blocks: PathBuf,
    /// The last block of the file.
    pub last: u64,
}

fn signer_key(place: usize) -> SecretKey {
    SecretKey::from_byte_array(&[0x21 + u8::try_from(place).unwrap(); 32]).unwrap()
}

/// The key of signer `place` as a file in `dir`.
pub fn signer_file(dir: &Path, place: usize) -> PathBuf {
    let file = dir.join(format!("signer-{place}.key"));
    std::fs::write(&file, hex::encode(signer_key(place).secret_bytes())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Writes the chain of `params`, with so many signers, a block a second.
pub fn write(dir: &Path, signers: usize, params: &Params) -> Chain {
    let mut keys: Vec<(Address, SecretKey)> = (0..signers)
        .map(|place| (address_of(&signer_key(place)), signer_key(place)))
        .collect();
    keys.sort_by_key(|(address, _)| *address);
    let list: Vec<u8> = keys.iter().flat_map(|(address, _)| address.0.0).collect();
    let extra = |signers: &[u8]| [&[0; 32][..], signers, &[0; 65]].concat();

    let (generated, blocks) = generate::blocks(params);
    let mut genesis: serde_json::Value = serde_json::from_str(&generated.genesis_json).unwrap();
    genesis["extraData"] = json!(hex::encode_prefixed(extra(&list)));
    genesis["config"]["clique"] = json!({ "period": 1, "epoch": EPOCH });
    let genesis_file = dir.join("genesis.json");
    std::fs::write(&genesis_file, genesis.to_string()).unwrap();

    let mut parent = Genesis::from_json(genesis.to_string().as_bytes())
        .unwrap()
        .header
        .hash;
    let blocks_file = dir.join("chain.rlp");
    let mut out = BufWriter::new(std::fs::File::create(&blocks_file).unwrap());
    for mut block in blocks {
        // Sealed anew: what it holds is as good on this chain, which has the same id.
        let mut header = block.header.header.clone();
        let number = header.number;
        let signers: &[u8] = if number.is_multiple_of(EPOCH) {
            &list
        } else {
            &[]
        };
        header.parent_hash = parent;
        header.extra_data = extra(signers).into();
        header.difficulty = U256::from(2);
        clique::seal(&mut header, &keys[number as usize % keys.len()].1);
        block.header = SealedHeader::from_header(header);
        parent = block.header.hash;
        out.write_all(&encode_block(&block)).unwrap();
    }
    out.flush().unwrap();
    Chain {
        genesis: genesis_file,
        blocks: blocks_file,
        last: params.blocks,
    }
}
