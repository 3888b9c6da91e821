//! Call data that looks like calls of contracts, and compresses like them.
//!
//! Calls are a selector and 32-byte words as Solidity's ABI lays them out: padded addresses, amounts, offsets, flags,
//! byte strings. Snappy leaves random bytes as they are and takes about three bytes for a run it has seen, so what a body
//! compresses to is decided by how many of its bytes are new. [`Mix`] keeps count of that while a body grows, and the next word
//! is chosen from the dear or the cheap ones so that the body comes out at [`TARGET_PERCENT`].

use alloy_primitives::Address;

use super::dice::Dice;

/// What snappy should leave of a body by this file's count, in percent; snappy misses some matches and leaves 2 to 4 more. Mainnet
/// bodies of 2026 leave 52 to 59, older ones up to 65.
const TARGET_PERCENT: usize = 57;

/// Contracts that a chain's calls go to.
const CONTRACTS: usize = 48;

/// Functions that its calls name.
const SELECTORS: usize = 40;

/// Strings as they are found in call data, repeated as they are there.
const TEXTS: [&[u8]; 4] = [
    b"ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi/",
    b"https://metadata.example.org/token/",
    b"withdraw all to the owner of record",
    b"vote: for, with reason: cheaper than the alternative",
];

/// Bytes of a body so far, and about how many snappy will leave of them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Mix {
    bytes: usize,
    cost: usize,
    /// A bit for each contract, and after them for each text, that the body holds already.
    seen: u64,
}

const _: () = assert!(
    CONTRACTS + TEXTS.len() <= 64,
    "Mix::seen has a bit for each"
);

impl Mix {
    /// Counts `bytes` that take about `cost` bytes when compressed.
    pub(super) fn add(&mut self, bytes: usize, cost: usize) {
        self.bytes += bytes;
        self.cost += cost;
    }

    /// True the first time that the body holds the contract or text of this bit.
    fn is_new(&mut self, bit: usize) -> bool {
        let bit = 1 << bit;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }

    fn is_dear(&self) -> bool {
        self.cost * 100 > self.bytes * TARGET_PERCENT
    }
}

/// The contracts and functions that a chain's calls are made from.
pub(super) struct Calls {
    contracts: Vec<Address>,
    selectors: Vec<[u8; 4]>,
}

impl Calls {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let contracts = (0..CONTRACTS).map(|_| dice.address()).collect();
        let selectors = (0..SELECTORS)
            .map(|_| {
                let mut selector = [0; 4];
                dice.fill(&mut selector);
                selector
            })
            .collect();
        Self {
            contracts,
            selectors,
        }
    }

    /// One of the contracts; a few are called most.
    ///
    /// Counts what it costs to name it, its 20 bytes included.
    pub(super) fn contract(&self, dice: &mut Dice, mix: &mut Mix) -> Address {
        let at = dice.skewed_index(self.contracts.len());
        let cost = if mix.is_new(at) { 21 } else { 3 };
        mix.add(20, cost);
        self.contracts[at]
    }

    /// `len` bytes of call data: a selector and words, the last one cut where the length ends.
    pub(super) fn data(&self, len: usize, dice: &mut Dice, mix: &mut Mix) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 4 * 32);
        out.extend_from_slice(&self.selectors[dice.skewed_index(self.selectors.len())]);
        mix.add(4, 3);
        while out.len() < len {
            // One word in seven goes against the target: bodies differ, and so do the parts of one.
            if mix.is_dear() != dice.chance(14) {
                self.cheap(&mut out, dice, mix);
            } else {
                dear(&mut out, dice, mix);
            }
        }
        out.truncate(len);
        out
    }

    /// A word that holds little that is new.
    fn cheap(&self, out: &mut Vec<u8>, dice: &mut Dice, mix: &mut Mix) {
        match dice.below(16) {
            // An offset, a length, an identifier, a flag.
            0..5 => {
                number(out, &dice.between(0, 0x400).to_be_bytes());
                mix.add(32, 5);
            }
            // A contract or an account that is often named.
            5..9 => {
                number(out, self.contract(dice, mix).as_slice());
                mix.add(12, 3);
            }
            // An amount: a few digits, then decimal zeros; here they are zeros of its top.
            9..12 => {
                let mut amount = [0; 9];
                let digits = dice.index(6) + 3;
                dice.fill(&mut amount[..digits]);
                number(out, &amount);
                mix.add(32, digits + 5);
            }
            // A word of this very call again.
            12..14 if out.len() >= 36 => {
                let words = (out.len() - 4) / 32;
                let at = 4 + 32 * dice.index(words);
                out.extend_from_within(at..at + 32);
                mix.add(32, 4);
            }
            14 => {
                let at = dice.index(TEXTS.len());
                let text = TEXTS[at];
                let padding = (32 - text.len() % 32) % 32;
                number(out, &[u8::try_from(text.len()).expect("short texts")]);
                out.extend_from_slice(text);
                out.resize(out.len() + padding, 0);
                let new = mix.is_new(CONTRACTS + at);
                mix.add(
                    32 + text.len() + padding,
                    if new { text.len() + 10 } else { 12 },
                );
            }
            _ => {
                out.resize(out.len() + 32, 0);
                mix.add(32, 3);
            }
        }
    }
}

/// Something that was never seen before.
fn dear(out: &mut Vec<u8>, dice: &mut Dice, mix: &mut Mix) {
    match dice.below(8) {
        // An account seen for the first time.
        0..3 => {
            number(out, dice.address().as_slice());
            mix.add(32, 24);
        }
        // A hash, a salt, a commitment, half a signature.
        3..6 => {
            out.extend_from_slice(dice.hash().as_slice());
            mix.add(32, 33);
        }
        // A full amount with many digits.
        6 => {
            let mut amount = [0; 14];
            dice.fill(&mut amount);
            number(out, &amount);
            mix.add(32, 18);
        }
        // A signature as a byte string: its length, 65 bytes, the padding.
        _ => {
            number(out, &[65]);
            let at = out.len();
            out.resize(at + 96, 0);
            dice.fill(&mut out[at..at + 65]);
            mix.add(128, 76);
        }
    }
}

/// A word that ends with `big_endian`.
fn number(out: &mut Vec<u8>, big_endian: &[u8]) {
    out.resize(out.len() + 32 - big_endian.len(), 0);
    out.extend_from_slice(big_endian);
}
