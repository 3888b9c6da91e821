//! Small chains for the simulation: three signers, small bodies, branches at will.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::{B64, Bytes as Extra, U256};
use bytes::Bytes;
use cairn_store::{NewBlock, Writer};
use secp256k1::SecretKey;

use super::Dice;
use crate::chain::receipts::{Form, Receipts};
use crate::chain::{CliqueConfig, Forks, Genesis, Rules, SealedHeader, Spec, body, clique};

pub(super) const PERIOD_S: u64 = 2;
pub(super) const GENESIS_S: u64 = 1_600_000_000;

/// Gas of each transaction: enough for its data.
const GAS: u64 = 100_000;

/// A valid block.
#[derive(Debug)]
pub(super) struct SimBlock {
    pub(super) header: Arc<SealedHeader>,
    pub(super) body: Bytes,
    pub(super) td: U256,
}

impl SimBlock {
    pub(super) fn number(&self) -> u64 {
        self.header.header.number
    }
}

/// A whole chain from its genesis on; branches share what they have in common.
pub(super) type Chain = Vec<Arc<SimBlock>>;

pub(super) fn keys() -> Vec<SecretKey> {
    keys_of(3)
}

/// The keys of so many signers, in the order of their turns.
pub(super) fn keys_of(signers: usize) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = (1..=signers)
        .map(|n| SecretKey::from_slice(&[n as u8; 32]).unwrap())
        .collect();
    keys.sort_by_key(clique::address_of);
    keys
}

pub(super) fn genesis() -> Genesis {
    genesis_of(&keys(), PERIOD_S, 30_000)
}

pub(super) fn genesis_of(keys: &[SecretKey], period_s: u64, epoch: u64) -> Genesis {
    let mut spec = Spec::new(U256::from(4242), Forks::default());
    spec.clique = Some(CliqueConfig { period_s, epoch });
    let signers: Vec<_> = keys.iter().map(clique::address_of).collect();
    let header = Header {
        extra_data: Extra::from(clique::extra("", &signers)),
        difficulty: U256::from(1),
        gas_limit: 30_000_000,
        timestamp: GENESIS_S,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        ..Header::default()
    };
    Genesis {
        spec,
        header: SealedHeader::from_header(header),
        body: Bytes::from_static(&[0xc2, 0xc0, 0xc0]),
        warnings: Vec::new(),
    }
}

/// A body of legacy transactions with random data; one in three is empty.
fn random_body(dice: &mut Dice, empty: bool) -> Bytes {
    let mut transactions = Vec::new();
    if !empty {
        for _ in 0..=dice.below(3) {
            let data: Vec<u8> = (0..dice.below(400)).map(|_| dice.next() as u8).collect();
            let mut fields = Vec::new();
            for number in [dice.below(1000), 1, GAS] {
                alloy_rlp::Encodable::encode(&number, &mut fields);
            }
            alloy_rlp::Encodable::encode(&[7u8; 20], &mut fields);
            alloy_rlp::Encodable::encode(&1u64, &mut fields);
            alloy_rlp::Encodable::encode(&data[..], &mut fields);
            for number in [27u64, 1 + dice.below(1 << 40), 1 + dice.below(1 << 40)] {
                alloy_rlp::Encodable::encode(&number, &mut fields);
            }
            list(&fields, &mut transactions);
        }
    }
    let mut inner = Vec::new();
    list(&transactions, &mut inner);
    inner.push(0xc0);
    let mut body = Vec::new();
    list(&inner, &mut body);
    Bytes::from(body)
}

/// The receipts of such a body's transactions in eth/69's form: each with up to three logs, made of the body alone.
pub(super) fn receipts_of(body: &[u8]) -> Vec<u8> {
    let seed = alloy_primitives::keccak256(body);
    let mut dice = Dice::new(u64::from_be_bytes(seed[..8].try_into().unwrap()));
    let mut receipts = Vec::new();
    for index in 0..body::transactions(body).count() as u64 {
        let mut logs = Vec::new();
        for _ in 0..dice.below(4) {
            let mut log = Vec::new();
            alloy_rlp::Encodable::encode(&[dice.next() as u8; 20], &mut log);
            log.push(0xc0);
            let data: Vec<u8> = (0..dice.below(3000)).map(|_| dice.next() as u8).collect();
            alloy_rlp::Encodable::encode(&data[..], &mut log);
            list(&log, &mut logs);
        }
        let mut receipt = vec![0x80, 1];
        alloy_rlp::Encodable::encode(&(GAS * (index + 1)), &mut receipt);
        list(&logs, &mut receipt);
        list(&receipt, &mut receipts);
    }
    let mut out = Vec::new();
    list(&receipts, &mut out);
    out
}

/// The fields of a header that say which receipts its block has.
fn set_receipts(header: &mut Header, body: &[u8]) {
    let raw = receipts_of(body);
    let receipts = Receipts::decode(Form::Eth69, &raw).unwrap();
    (header.receipts_root, header.logs_bloom) = (receipts.root(), receipts.logs_bloom());
}

pub(super) fn list(payload: &[u8], out: &mut Vec<u8>) {
    alloy_rlp::Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(out);
    out.extend_from_slice(payload);
}

/// Seals one block over `parent`: by the signer whose turn it is, or by the next one and so lighter. `time_s` is when.
pub(super) fn seal(
    parent: &SimBlock,
    time_s: u64,
    in_turn: bool,
    dice: &mut Dice,
) -> Arc<SimBlock> {
    let number = parent.number() + 1;
    let place = if in_turn { number } else { number + 1 } % 3;
    let key = keys()[usize::try_from(place).unwrap()];
    seal_with(&key, in_turn, parent, time_s, dice)
}

/// Seals one block over `parent` with this key.
pub(super) fn seal_with(
    key: &SecretKey,
    in_turn: bool,
    parent: &SimBlock,
    time_s: u64,
    dice: &mut Dice,
) -> Arc<SimBlock> {
    let empty = dice.once_in(3);
    let body = random_body(dice, empty);
    let roots = body::roots(&body).unwrap();
    let mut extra = vec![0; 32 + 65];
    extra[..8].copy_from_slice(&dice.next().to_be_bytes());
    let mut header = Header {
        parent_hash: parent.header.hash,
        number: parent.number() + 1,
        timestamp: time_s,
        gas_limit: parent.header.header.gas_limit,
        difficulty: U256::from(if in_turn { 2 } else { 1 }),
        transactions_root: roots.transactions,
        ommers_hash: roots.ommers,
        extra_data: Extra::from(extra),
        nonce: B64::ZERO,
        gas_used: GAS * body::transactions(&body).count() as u64,
        ..Header::default()
    };
    set_receipts(&mut header, &body);
    clique::seal(&mut header, key);
    let td = parent.td + header.difficulty;
    Arc::new(SimBlock {
        header: Arc::new(SealedHeader::from_header(header)),
        body,
        td,
    })
}

/// `base` cut after block `at` and gone on with to block `to`, sealed in turn, one block each period.
pub(super) fn grow(base: &[Arc<SimBlock>], at: u64, to: u64, seed: u64) -> Chain {
    let mut dice = Dice::new(seed);
    let mut chain = base[..=usize::try_from(at).unwrap()].to_vec();
    for number in at + 1..=to {
        let block = seal(
            chain.last().unwrap(),
            GENESIS_S + number * PERIOD_S,
            true,
            &mut dice,
        );
        chain.push(block);
    }
    chain
}

pub(super) fn genesis_block() -> Arc<SimBlock> {
    let genesis = genesis();
    Arc::new(SimBlock {
        td: genesis.header.header.difficulty,
        header: Arc::new(genesis.header),
        body: genesis.body,
    })
}

/// A store in this folder with the blocks of this chain.
pub(super) fn fill(dir: &Path, chain: &[Arc<SimBlock>]) -> Writer {
    let first = &chain[0];
    let start = cairn_store::Genesis {
        chain_id: 4242,
        hash: first.header.hash,
        difficulty: first.td,
        header: &first.header.raw,
        body: &first.body,
    };
    let mut writer = Writer::create(dir, &start).unwrap();
    let new = |block: &'_ Arc<SimBlock>| (block.number(), block.header.hash, block.td);
    let blocks: Vec<NewBlock<'_>> = chain[1..]
        .iter()
        .map(|block| {
            let (number, hash, td) = new(block);
            NewBlock {
                number,
                hash,
                td,
                header: &block.header.raw,
                body: &block.body,
                receipts: None,
            }
        })
        .collect();
    if let Some(last) = blocks.last() {
        let head = last.hash;
        writer.commit(&blocks, head).unwrap();
    }
    writer
}

/// The rules, and 300 blocks that all runs share: sealing is what takes long.
pub(super) static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::new(&genesis())));
pub(super) static CHAIN: LazyLock<Chain> = LazyLock::new(|| grow(&[genesis_block()], 0, 300, 1));
/// The same up to block 280, then lighter.
pub(super) static FORK: LazyLock<Chain> = LazyLock::new(|| grow(&CHAIN, 280, 296, 2));

/// A chain of proof of stake from its first block on: nothing in it can be checked but its hashes and its rules.
pub(super) fn stake_genesis() -> Genesis {
    let mut genesis = genesis();
    genesis.spec.clique = None;
    genesis.spec.terminal_total_difficulty = Some(U256::ZERO);
    genesis
}

/// Such a chain up to block `to`, going on from block `at` of `base`.
pub(super) fn stake(base: &[Arc<SimBlock>], at: u64, to: u64, seed: u64) -> Chain {
    let mut dice = Dice::new(seed);
    let mut chain = base[..=usize::try_from(at).unwrap()].to_vec();
    for number in at + 1..=to {
        let parent = chain.last().unwrap();
        let body = random_body(&mut dice, number % 3 == 0);
        let roots = body::roots(&body).unwrap();
        let mut header = Header {
            parent_hash: parent.header.hash,
            number,
            timestamp: GENESIS_S + number * PERIOD_S,
            gas_limit: parent.header.header.gas_limit,
            transactions_root: roots.transactions,
            ommers_hash: roots.ommers,
            gas_used: GAS * body::transactions(&body).count() as u64,
            ..Header::default()
        };
        set_receipts(&mut header, &body);
        let header = Arc::new(SealedHeader::from_header(header));
        let td = parent.td;
        chain.push(Arc::new(SimBlock { header, body, td }));
    }
    chain
}

pub(super) static STAKE_RULES: LazyLock<Arc<Rules>> =
    LazyLock::new(|| Arc::new(Rules::new(&stake_genesis())));
pub(super) static STAKE: LazyLock<Chain> = LazyLock::new(|| stake(&[genesis_block()], 0, 300, 1));
