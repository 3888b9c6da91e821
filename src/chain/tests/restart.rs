//! The snapshot of a stored chain that goes on from a kept one, over random votes.

use alloy_primitives::keccak256;

use super::{address, clique_child, clique_genesis, sealed};
use crate::chain::{
    Rules, Tip,
    clique::{NONCE_AUTHORISE, NONCE_DROP},
};
use crate::snapshots::{Kept, decode, encode};

const BLOCKS: u64 = 45;
const NAMES: &str = "ABCDEFG";
/// As a network has it that wants no checkpoints: EIP-225 knows none without.
const NEVER: u64 = 1 << 63;

/// A chain that three begin, with a vote in most blocks: most of them to let in, on somebody of seven.
fn voted(seed: u8, epoch: u64) -> (Rules, Vec<Tip>) {
    let names: Vec<_> = NAMES.chars().map(|name| (name, address(name))).collect();
    let rules = Rules::new(&clique_genesis("ABC", epoch));
    let mut tips = vec![rules.genesis_tip()];
    for number in 1..=BLOCKS {
        let parent = tips.last().unwrap();
        let snapshot = parent.clique.as_ref().unwrap();
        let dice = keccak256([seed, u8::try_from(number).unwrap()]);
        let of = |die: usize, len: usize| usize::from(dice[die]) % len;
        let mut able = names.clone();
        able.retain(|(_, address)| {
            snapshot.is_signer(address) && !snapshot.signed_recently(number, address)
        });
        let (signer, _) = able[of(0, able.len())];
        let mut header = clique_child(&rules, parent, signer);
        if of(1, 5) > 0 && !number.is_multiple_of(epoch) {
            header.beneficiary = names[of(2, names.len())].1;
            header.nonce = match of(3, 3) {
                0 => NONCE_DROP,
                _ => NONCE_AUTHORISE,
            };
        }
        let tip = rules.extend(parent, sealed(header, signer), None).unwrap();
        if tip.clique.as_ref().unwrap().signers().is_empty() {
            break; // the last one has put itself out
        }
        tips.push(tip);
    }
    (rules, tips)
}

#[test]
fn what_goes_on_from_a_kept_snapshot_is_what_was_known_and_reads_only_what_is_above() {
    let (mut sizes, mut votes) = (0, 0);
    for (seed, epoch) in (0..8).flat_map(|seed| [(seed, NEVER), (seed, 10)]) {
        let (rules, tips) = voted(seed, epoch);
        let genesis = rules.genesis_tip().header.hash;
        let last = tips.len() - 1;
        assert!(last > 10, "seed {seed}");
        for at in 1..=last {
            let known = tips[at].clique.clone().unwrap();
            sizes |= 1 << known.signers().len();
            votes = votes.max(known.votes().len());
            let bytes = encode(&genesis, &[known]);
            let kept = decode(&bytes, &genesis).unwrap().remove(0);
            for head in [at, at + 1, at + 7, last] {
                let Some(tip) = tips.get(head) else { continue };
                let mut read = Vec::new();
                let restored = rules.restore(head as u64, tip.td, Some(&kept), &mut |number| {
                    read.push(number);
                    let tip = tips.get(usize::try_from(number).unwrap());
                    tip.map(|tip| tip.header.raw.clone())
                });
                let restored = restored.unwrap();
                assert_eq!(restored.clique, tip.clique, "seed {seed}: {at} to {head}");
                assert_eq!(restored.header.hash, tip.header.hash);
                // The head, all above the kept one, and those of the recents again.
                let limit = usize::try_from(tip.clique.as_ref().unwrap().limit()).unwrap();
                let above = head - at;
                assert!(read.len() <= 1 + above + limit.min(above), "{read:?}");
                let head = head as u64;
                assert!(
                    read.iter()
                        .all(|&number| number > at as u64 || number == head),
                    "{read:?}"
                );
            }
        }
    }
    assert!(
        (sizes as u32).count_ones() > 3 && votes > 3,
        "the votes come to little: {sizes:b} {votes}"
    );
}

#[test]
fn a_start_goes_on_from_the_newest_kept_snapshot_since_the_last_checkpoint() {
    let (_, tips) = voted(1, NEVER);
    let mut kept = Kept::default();
    let number = |kept: Option<&crate::chain::clique::Snapshot>| kept.map(|kept| kept.number);
    // With an epoch of 7 each seventh is kept.
    for tip in &tips[1..=38] {
        let above = tip.header.number();
        let is_kept = kept.moved(above - 1, tip.clique.as_ref(), 7);
        assert_eq!(is_kept, above % 7 == 0, "{above}");
    }
    assert_eq!(number(kept.before(38, 7)), Some(35));
    assert_eq!(number(kept.before(35, 7)), Some(35));
    assert_eq!(number(kept.before(34, 7)), Some(28));
    assert_eq!(number(kept.before(14, 7)), Some(14));
    assert_eq!(number(kept.before(13, 7)), None, "four are kept");
    assert_eq!(number(kept.before(38, NEVER)), Some(35));
    assert_eq!(number(kept.before(38, 9)), None, "the checkpoint is newer");

    // A branch that hangs on block 30 takes the place of what is above, with a head below that.
    let tip = &tips[33];
    assert!(!kept.moved(30, tip.clique.as_ref(), 7));
    assert_eq!(number(kept.before(40, NEVER)), Some(28));
    // On a chain that goes on without checkpoints the next one comes in its time.
    assert!(!kept.moved(33, tips[36].clique.as_ref(), NEVER));
    assert!(
        !kept.moved(36, None, NEVER),
        "proof of stake has no signers"
    );
}
